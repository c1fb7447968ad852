from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import threading
from pathlib import Path

import pytest

from keyferry.errors import ConnectionFailedError, PlatformError
from keyferry_devvault.client import DevRedirect
from keyferry_devvault.folder import (
    CONNECTION_FILE,
    BoundAddresses,
    connection_file,
    is_running,
    last_ports,
    locked,
)


def test_a_folder_is_held_by_one(tmp_path: Path) -> None:
    """The second is refused with the remedy; afterwards the folder is free again."""
    assert not is_running(tmp_path)
    with locked(tmp_path):
        assert is_running(tmp_path)
        with (
            pytest.raises(PlatformError, match="already running with its data in"),
            locked(tmp_path),
        ):
            pass
    assert not is_running(tmp_path)
    with locked(tmp_path):
        pass


def test_the_connection_file_is_there_while_the_vault_listens(tmp_path: Path) -> None:
    """It replaces a stale one, is private, and clients can read it."""
    (tmp_path / CONNECTION_FILE).write_text("stale")
    addresses = BoundAddresses(("127.0.0.1", 1), ("::1", 2))
    with locked(tmp_path), connection_file(tmp_path, addresses):
        path = tmp_path / CONNECTION_FILE
        assert {"https": "127.0.0.1:1", "http": "[::1]:2", "ca": "ca.pem"} == json.loads(
            path.read_text()
        )
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)
        redirect = DevRedirect.read(tmp_path)
        assert (("127.0.0.1", 1), ("::1", 2), tmp_path / "ca.pem") == (
            redirect.https,
            redirect.http,
            redirect.ca_file,
        )
    assert {"lock", "ports.json"} == {path.name for path in tmp_path.iterdir()}
    assert (1, 2) == last_ports(tmp_path)


@pytest.mark.parametrize("content", [b"", b"x", b'{"https": 1}', b'{"https": 1, "http": 99999}'])
def test_ports_that_cannot_be_read_are_ignored(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ports.json").write_bytes(content)
    assert (0, 0) == last_ports(tmp_path)


@pytest.mark.parametrize("left_over", [b'{"https": "127.0.0.1:1", "http": "127.0.0.1:2"}', b"x"])
def test_a_connection_file_of_a_killed_process_is_not_trusted(
    tmp_path: Path, left_over: bytes
) -> None:
    """Another program may listen on its ports by now."""
    with locked(tmp_path):
        pass
    (tmp_path / CONNECTION_FILE).write_bytes(left_over)
    start = f"Start it with: keyferry devvault run --data {tmp_path}"
    with pytest.raises(ConnectionFailedError, match=re.escape(start)):
        DevRedirect.read(tmp_path)


def test_a_question_whether_it_runs_creates_nothing(tmp_path: Path) -> None:
    """Neither for a folder without an emulator nor for a path that is not a folder."""
    (tmp_path / "file").touch()
    for folder in (tmp_path, tmp_path / "none", tmp_path / "file"):
        assert not is_running(folder)
    assert ["file"] == [path.name for path in tmp_path.iterdir()]


def test_a_process_that_asks_does_not_keep_an_emulator_from_starting(tmp_path: Path) -> None:
    """It has the lock for a moment."""
    with locked(tmp_path):
        pass
    descriptor = os.open(tmp_path / "lock", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    threading.Timer(0.03, os.close, (descriptor,)).start()
    with locked(tmp_path):
        pass
