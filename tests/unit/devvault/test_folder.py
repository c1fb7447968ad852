from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from keyferry.errors import PlatformError
from keyferry_devvault.client import DevRedirect
from keyferry_devvault.folder import (
    CONNECTION_FILE,
    BoundAddresses,
    connection_file,
    is_running,
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
    with connection_file(tmp_path, BoundAddresses(("127.0.0.1", 1), ("::1", 2))):
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
    assert [] == list(tmp_path.iterdir())
