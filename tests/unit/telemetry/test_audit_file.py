"""The file of the audit log."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from keyferry.accesses import AccessOutcome, ObjectAccess, VaultAccess
from keyferry.errors import PlatformError
from keyferry.telemetry.audit import open_audit_log
from keyferry.telemetry.audit_file import MAX_QUEUED_RECORDS, AuditFile, FileAuditLog
from keyferry.telemetry.audit_records import AuditedMount, AuditSubject
from keyferry.telemetry.audit_settings import AuditSettings
from keyferry.telemetry.metrics import Metrics
from tests.fakes.audit import checked_records
from tests.fakes.log import captured_log


def mount(*names: str) -> AuditedMount:
    """Return a mount that read these objects."""
    subject = AuditSubject("mount", "shop", "web-0", "uid", "web", "web", "azure")
    objects = tuple(ObjectAccess(name, AccessOutcome.DELIVERED) for name in names)
    return AuditedMount(subject, datetime.now(UTC), (VaultAccess("contoso", (), objects),))


@contextmanager
def open_log(path: Path, metrics: Metrics | None = None, max_bytes: int = 0) -> Iterator[Any]:
    """Open an audit log that is written to `path`."""
    with open_audit_log(AuditSettings(path, max_bytes), metrics or Metrics()) as audit_log:
        yield audit_log


def objects(path: Path) -> list[str]:
    """Return the objects of the records of a file."""
    return [record["object"] for record in checked_records(path.read_text())]


def lost(metrics: Metrics) -> float | None:
    """Return how many records could not be written."""
    labels = {"os_type": "linux"}
    return metrics.registry.get_sample_value("keyferry_audit_write_errors_total", labels)


def test_file_is_private_and_has_one_record_per_line(tmp_path: Path) -> None:
    """Records are appended to an existing file."""
    path = tmp_path / "audit.log"
    for name in ("a", "b"):
        with open_log(path) as audit_log:
            audit_log.write(mount(name))
    assert objects(path) == ["a", "b"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_existing_file_becomes_private(tmp_path: Path) -> None:
    """The mode is set whenever the file is opened."""
    path = tmp_path / "audit.log"
    path.touch(0o644)
    with open_log(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["missing folder", "folder", "fifo", "link"])
def test_unusable_file_is_an_error_at_the_start(tmp_path: Path, kind: str) -> None:
    """And never blocks."""
    path = tmp_path / "audit.log"
    match kind:
        case "missing folder":
            path = tmp_path / "missing" / "audit.log"
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case _:
            path.symlink_to(tmp_path / "other")
    with pytest.raises(PlatformError, match="--audit-log: failed to open"), open_log(path):
        pass


@pytest.mark.parametrize("is_removed", [True, False])
def test_file_that_was_renamed_or_removed_is_replaced(tmp_path: Path, is_removed: bool) -> None:
    """So logrotate needs no copytruncate."""
    path, moved = tmp_path / "audit.log", tmp_path / "audit.log.1"
    file = AuditFile(path, max_bytes=0)
    file.append(b"first\n")
    path.rename(moved)
    if is_removed:
        moved.unlink()
    file.append(b"second\n")
    file.close()
    assert path.read_bytes() == b"second\n"
    assert is_removed or moved.read_bytes() == b"first\n"


def test_file_is_renamed_at_its_maximum_size(tmp_path: Path) -> None:
    """One older file is kept, so that a tenant cannot fill the disk."""
    path = tmp_path / "audit.log"
    file = AuditFile(path, max_bytes=20)
    for text in (b"a" * 9 + b"\n", b"b" * 9 + b"\n", b"c" * 9 + b"\n"):
        file.append(text)
    assert path.read_bytes() == b"c" * 9 + b"\n"
    assert (tmp_path / "audit.log.1").read_bytes() == b"a" * 9 + b"\n" + b"b" * 9 + b"\n"
    file.append(b"d" * 99 + b"\n")  # larger than the maximum
    file.close()
    assert path.read_bytes() == b"d" * 99 + b"\n"


def test_partly_written_line_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full after some bytes."""
    path = tmp_path / "audit.log"
    file = AuditFile(path, max_bytes=0)
    file.append(b"first\n")
    write, counts = os.write, [3, 0]

    def full(fd: int, data: bytes) -> int:
        count = counts.pop(0)
        if not count:
            raise OSError(28, "No space left on device")
        return write(fd, data[:count])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            file.append(b"second\n")
    file.append(b"third\n")
    file.close()
    assert path.read_bytes() == b"first\nthird\n"


class BrokenFile(AuditFile):
    """A file on a disk that is full while `problem` is set, and hangs while `free` is cleared."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, max_bytes=0)
        self.problem = False
        self.free = threading.Event()
        self.free.set()
        self.entered = threading.Semaphore(0)
        self.left = threading.Semaphore(0)

    def append(self, data: bytes) -> None:
        """Append lines, or fail."""
        self.entered.release()
        self.free.wait()
        try:
            if self.problem:
                raise OSError(28, "No space left on device")
            super().append(data)
        finally:
            self.left.release()


def test_full_disk_is_logged_once_and_counted(tmp_path: Path) -> None:
    """When there is space again, records are written again. The next loss is not logged again."""
    path, metrics = tmp_path / "audit.log", Metrics()
    file = BrokenFile(path)
    with captured_log() as log:
        audit_log = FileAuditLog(file, metrics.audit_records_lost)
        file.problem = True
        for name in ("a", "b"):
            audit_log.write(mount(name, f"{name}2"))
            assert file.left.acquire(timeout=10)
        file.problem = False
        audit_log.write(mount("c"))
        assert file.left.acquire(timeout=10)
        file.problem = True
        audit_log.write(mount("d"))
        audit_log.close()
    assert log.getvalue().count("audit records are lost") == 1
    assert log.getvalue().count("No space left on device") == 1
    assert log.getvalue().count("written again") == 1
    assert lost(metrics) == 5
    assert objects(path) == ["c"]


def test_slow_disk_delays_no_mount_and_loses_what_does_not_fit(tmp_path: Path) -> None:
    """The queue is limited."""
    path, metrics = tmp_path / "audit.log", Metrics()
    file = BrokenFile(path)
    file.free.clear()
    with captured_log():
        audit_log = FileAuditLog(file, metrics.audit_records_lost)
        audit_log.write(mount("a"))
        assert file.entered.acquire(timeout=10)  # the thread hangs
        many = mount(*map(str, range(MAX_QUEUED_RECORDS // 2)))
        audit_log.write(many)
        audit_log.write(many)
        assert lost(metrics) == MAX_QUEUED_RECORDS // 2
        file.free.set()
        audit_log.close()
    assert len(objects(path)) == 1 + MAX_QUEUED_RECORDS // 2


def test_metric_exists_before_the_first_loss(tmp_path: Path) -> None:
    """So an alert can be tested."""
    metrics = Metrics()
    with open_log(tmp_path / "audit.log", metrics):
        assert lost(metrics) == 0
