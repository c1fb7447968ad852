"""Writes the audit log to a file: one JSON object per line, mode 0600.

A thread writes, so that a slow or full disk delays no mount. Records that cannot be written are
lost; they are counted, and the first loss is logged.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from keyferry.telemetry.audit_records import record_groups
from keyferry.telemetry.deduplicator import Deduplicator
from keyferry.telemetry.logs import get_logger, json_lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from keyferry.telemetry.audit_records import AuditedMount

_log = get_logger("audit")
MAX_QUEUED_RECORDS = 20_000
"""Records that wait for a slow disk; further ones are lost."""
_REPORT_SECONDS = 60.0
"""How often losses are logged at most; on a full disk, a short record may fit now and then."""
_CLOSE_SECONDS = 2.0
"""How long `close` waits for the disk."""
_OPEN_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""Opening a FIFO without a reader fails instead of waiting."""


class AuditFile:
    """An open file that is replaced after it was renamed or removed, or at its maximum size.

    Args:
        path: the file; created with mode 0600.
        max_bytes: at this size it is renamed to `<path>.1`, which replaces an older one; 0 for no
            maximum.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._fd = -1
        self._open()

    def append(self, data: bytes) -> None:
        """Append lines; if that fails, the file is as before.

        Raises:
            OSError: the lines cannot be written.
        """
        size = self._prepare(len(data))
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, size)
            raise

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _prepare(self, count: int) -> int:
        """Open the right file for `count` more bytes; return its size."""
        if self._fd < 0 or not self._is_in_place():
            self._open()
        size = os.fstat(self._fd).st_size
        if self._max_bytes and size and size + count > self._max_bytes:
            self._path.replace(f"{self._path}.1")
            self._open()
            size = 0
        return size

    def _is_in_place(self) -> bool:
        """Whether the path still names the open file; logrotate renames or removes it."""
        try:
            found = self._path.stat(follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(self._fd))

    def _open(self) -> None:
        self.close()
        fd = os.open(self._path, _OPEN_FLAGS, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(0, "it is not a regular file")
            os.fchmod(fd, 0o600)
        except OSError:
            os.close(fd)
            raise
        self._fd = fd


class FileAuditLog:
    """Writes the records to a file, on a thread of its own.

    Args:
        file: the open file; `close` closes it.
        count_lost: called with the number of records that could not be written.
    """

    def __init__(self, file: AuditFile, count_lost: Callable[[int], None]) -> None:
        self._file = file
        self._count_lost = count_lost
        self._queue: deque[AuditedMount] = deque()
        self._queued_records = 0
        self._changed = threading.Condition()
        self._is_closing = False
        self._is_reported = False
        self._deduplicator = Deduplicator(_REPORT_SECONDS)
        self._thread = threading.Thread(target=self._run, name="audit log", daemon=True)
        self._thread.start()

    def write(self, mount: AuditedMount) -> None:
        """Queue the records of `mount`; they are written within moments."""
        count = _record_count(mount)
        with self._changed:
            fits = self._queued_records + count <= MAX_QUEUED_RECORDS
            if fits:
                self._queue.append(mount)
                self._queued_records += count
                self._changed.notify()
        if not fits:
            self._lost(count, "the disk is too slow")

    def close(self) -> None:
        """Write what is queued, and close the file. Waits two seconds at most."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        while mounts := self._next_mounts():
            lines = "".join(
                json_lines(group.common, (*group.records, *group.unchanged))
                for mount in mounts
                for group in record_groups(mount)
            )
            count = sum(map(_record_count, mounts))
            try:
                self._file.append(lines.encode())
            except OSError as error:
                self._lost(count, error.strerror or type(error).__name__)
            else:
                if self._is_reported:
                    _log.info("audit log is written again")
                self._is_reported = False
            with self._changed:
                self._queued_records -= count
        self._file.close()

    def _next_mounts(self) -> list[AuditedMount]:
        """Wait for mounts, and return them; return an empty list when the log is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._is_closing)
            mounts = list(self._queue)
            self._queue.clear()
            return mounts

    def _lost(self, count: int, problem: str) -> None:
        self._count_lost(count)
        if not self._is_reported and self._deduplicator.should_notify(None, time.monotonic()):
            self._is_reported = True
            _log.error(
                "audit records are lost: the file of --audit-log cannot be written", error=problem
            )


def _record_count(mount: AuditedMount) -> int:
    """Return how many records `mount` has, or one more."""
    return max(1, sum(max(1, len(access.objects)) for access in mount.accesses))
