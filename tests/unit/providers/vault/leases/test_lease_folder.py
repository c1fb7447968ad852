"""keyferry.providers.vault.leases.store: in memory, for us alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from keyferry.errors import PlatformError
from keyferry.providers.vault.leases.store import TmpfsDirectory
from tests.fakes.memory_folder import tmpfs_directory


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder on a tmpfs."""
    with tmpfs_directory() as path:
        yield path


def test_what_is_written_is_there_for_the_next_process(place: Path) -> None:
    """Whole, 0600 in 0700, and without anything beside it."""
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


def test_what_a_killed_process_had_begun_is_removed(place: Path) -> None:
    """It is no record."""
    (place / ".half").write_bytes(b"x")
    folder = TmpfsDirectory(place)
    assert [] == folder.names()
    assert [] == list(place.iterdir())
    folder.close()


def test_a_folder_on_a_disk_is_refused() -> None:
    """The file system proc stands for all that are no tmpfs; the message says where to go."""
    with pytest.raises(PlatformError, match="on proc instead of a tmpfs") as caught:
        TmpfsDirectory(Path("/proc/self/fd"))
    assert "/run/keyferry" in str(caught.value)


def test_a_link_is_refused(place: Path) -> None:
    """Whoever made it could look into what it leads to."""
    (place / "real").mkdir(mode=0o700)
    (place / "link").symlink_to(place / "real")
    with pytest.raises(PlatformError, match="it is a symbolic link"):
        TmpfsDirectory(place / "link")


def test_a_folder_that_others_may_use_is_refused(place: Path) -> None:
    """And left as it is."""
    (place / "open").mkdir()
    (place / "open").chmod(0o755)
    with pytest.raises(PlatformError, match="it is accessible to other users"):
        TmpfsDirectory(place / "open")


def test_a_file_that_is_not_ours_alone_is_not_read(place: Path) -> None:
    """Be it readable for others, or a link."""
    folder = TmpfsDirectory(place)
    (place / "open").write_bytes(b"x")
    (place / "open").chmod(0o644)
    (place / "link").symlink_to("/etc/passwd")
    for name, why in (("open", "other users"), ("link", "symbolic link")):
        with pytest.raises(OSError, match=why):
            folder.read(name)
    folder.close()
