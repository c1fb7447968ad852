"""TmpfsDirectory: private files in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from keyferry.errors import PlatformError
from keyferry.providers.vault.leases.store import TmpfsDirectory
from tests.fakes.memory_folder import tmpfs_directory


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a directory on a tmpfs."""
    with tmpfs_directory() as path:
        yield path


def test_written_files_are_readable_by_the_next_process(place: Path) -> None:
    """Files have mode 0600 in a directory with mode 0700, and no other file remains."""
    folder = TmpfsDirectory(place / "vault")
    folder.write("a", b"old")
    folder.write("a", b"new")
    folder.close()
    again = TmpfsDirectory(place / "vault")
    assert ["a"] == again.names()
    assert b"new" == again.read("a")
    assert 0o600 == (place / "vault" / "a").stat().st_mode & 0o777
    assert 0o700 == (place / "vault").stat().st_mode & 0o777
    again.remove("a")
    again.remove("a")
    assert [] == again.names()
    again.close()


def test_incomplete_files_of_a_killed_process_are_deleted(place: Path) -> None:
    (place / ".half").write_bytes(b"x")
    folder = TmpfsDirectory(place)
    assert [] == folder.names()
    assert [] == list(place.iterdir())
    folder.close()


def test_directory_outside_a_tmpfs_is_rejected() -> None:
    """The test uses /proc, which is not a tmpfs. The message says which directory to use."""
    with pytest.raises(PlatformError, match="on proc instead of a tmpfs") as caught:
        TmpfsDirectory(Path("/proc/self/fd"))
    assert "/run/keyferry" in str(caught.value)


def test_symbolic_link_is_rejected(place: Path) -> None:
    """The owner of its target could read the files."""
    (place / "real").mkdir(mode=0o700)
    (place / "link").symlink_to(place / "real")
    with pytest.raises(PlatformError, match="it is a symbolic link"):
        TmpfsDirectory(place / "link")


def test_directory_accessible_to_other_users_is_rejected(place: Path) -> None:
    """It is not changed."""
    (place / "open").mkdir()
    (place / "open").chmod(0o755)
    with pytest.raises(PlatformError, match="it is accessible to other users"):
        TmpfsDirectory(place / "open")


def test_unsafe_file_is_not_read(place: Path) -> None:
    """A file that others can read, or a symbolic link."""
    folder = TmpfsDirectory(place)
    (place / "open").write_bytes(b"x")
    (place / "open").chmod(0o644)
    (place / "link").symlink_to("/etc/passwd")
    for name, why in (("open", "other users"), ("link", "symbolic link")):
        with pytest.raises(OSError, match=why):
            folder.read(name)
    folder.close()
