"""Files that tenants name: only below permitted folders, only regular files, never blocking."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from keyferry.formats.confined_files import ConfinedFiles
from keyferry.formats.private_files import UnusableFileError


@pytest.fixture
def permitted(tmp_path: Path) -> Path:
    """Return a permitted folder, beside one that is not."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("key")
    folder = tmp_path / "permitted"
    folder.mkdir()
    (folder / "ca.pem").write_text("ca")
    return folder


def _files(folder: Path, *more: Path, forbidden: tuple[Path, ...] = ()) -> ConfinedFiles:
    return ConfinedFiles(tuple(map(str, (folder, *more))), tuple(map(str, forbidden)))


def test_files_of_a_permitted_folder_are_read(permitted: Path) -> None:
    (permitted / "deep").mkdir()
    (permitted / "deep" / "x").write_text("x")
    files = _files(permitted)
    assert b"ca" == files.read(f"{permitted}/ca.pem", max_bytes=2)
    assert b"x" == files.read(f"{permitted}//deep/./x", max_bytes=2)


def test_links_inside_permitted_folders_are_followed(permitted: Path, tmp_path: Path) -> None:
    """ConfigMap volumes, and /etc/ssl/certs, whose links lead to /usr/share/ca-certificates."""
    (permitted / "..2026").mkdir()
    (permitted / "..2026" / "ca.crt").write_text("v1")
    (permitted / "..data").symlink_to("..2026")
    (permitted / "ca.crt").symlink_to("..data/ca.crt")
    other = tmp_path / "other"
    other.mkdir()
    (other / "root.crt").write_text("root")
    (permitted / "root.pem").symlink_to(other / "root.crt")
    (permitted / "hash.0").symlink_to("../permitted/root.pem")
    alias = tmp_path / "alias"
    alias.symlink_to(permitted)
    files = _files(alias, other)
    assert b"v1" == files.read(f"{alias}/ca.crt", max_bytes=9)
    assert b"root" == files.read(f"{alias}/hash.0", max_bytes=9)
    assert b"root" == files.read(f"{permitted}/root.pem", max_bytes=9)


@pytest.mark.parametrize(
    "path",
    [
        "{tmp}/secret/key",
        "{tmp}/permitted/../secret/key",
        "{tmp}/permitted/up/secret/key",
        "{tmp}/permitted/absolute",
        "{tmp}/permitted/relative",
        "{tmp}/permitted/nested",
        "{tmp}/permitted-not/key",
        "permitted/ca.pem",
        "",
        "{tmp}/permitted/ca.pem\0x",
        "{tmp}/permitted/" + "x/" * 3000,
    ],
)
def test_nothing_outside_is_read(permitted: Path, tmp_path: Path, path: str) -> None:
    (permitted / "up").symlink_to("..")
    (permitted / "absolute").symlink_to(tmp_path / "secret" / "key")
    (permitted / "relative").symlink_to("../secret/key")
    (permitted / "nested").symlink_to("relative")
    (tmp_path / "permitted-not").mkdir()
    (tmp_path / "permitted-not" / "key").write_text("key")
    files = _files(permitted)
    given = path.replace("{tmp}", str(tmp_path))
    with pytest.raises(UnusableFileError):
        files.read(given, max_bytes=9)
    with pytest.raises(UnusableFileError):
        files.stamp(given)


def test_no_folder_permits_nothing(permitted: Path) -> None:
    with pytest.raises(UnusableFileError):
        ConfinedFiles(()).read(f"{permitted}/ca.pem", max_bytes=9)


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _fifo_link(path: Path) -> None:
    os.mkfifo(path.with_name("target"))
    path.symlink_to("target")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{os.open(path.parent, os.O_PATH)}/{path.name}")


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _large(path: Path) -> None:
    path.write_bytes(b"x" * 10)


@pytest.mark.parametrize("create", [_fifo, _fifo_link, _socket, Path.mkdir, _loop, _large])
def test_only_small_regular_files_are_read(
    permitted: Path, create: Callable[[Path], object]
) -> None:
    """A FIFO, also behind a link, is refused at once."""
    create(permitted / "x")
    with pytest.raises(UnusableFileError):
        _files(permitted).read(f"{permitted}/x", max_bytes=9)


def test_a_forbidden_folder_is_never_read(permitted: Path, tmp_path: Path) -> None:
    """Neither below a permitted parent, nor as a permitted folder, nor through a link."""
    secret = tmp_path / "secret"
    (permitted / "link").symlink_to(secret / "key")
    (tmp_path / "alias").symlink_to(secret)
    for files in (
        _files(tmp_path, forbidden=(secret,)),
        _files(Path("/"), forbidden=(secret,)),
        _files(secret, tmp_path / "alias", permitted, forbidden=(secret,)),
        _files(tmp_path, forbidden=(tmp_path / "alias",)),
    ):
        for path in (secret / "key", permitted / "link", tmp_path / "alias" / "key"):
            with pytest.raises(UnusableFileError):
                files.read(str(path), max_bytes=9)
        assert [] == [
            stamp for stamp in _search_or_nothing(files, tmp_path) if stamp.endswith("key")
        ]


def _search_or_nothing(files: ConfinedFiles, folder: Path) -> list[str]:
    try:
        return [stamp.path for stamp in files.search(str(folder), max_files=100)]
    except UnusableFileError:
        return []


def test_search_returns_each_regular_file_once(permitted: Path, tmp_path: Path) -> None:
    (permitted / "deep").mkdir()
    (permitted / "deep" / "x").write_text("x")
    (permitted / "link").symlink_to("deep/x")
    (permitted / "outside").symlink_to(tmp_path / "secret" / "key")
    (permitted / "..data").mkdir()
    (permitted / "..data" / "y").write_text("y")
    os.mkfifo(permitted / "fifo")
    files = _files(permitted)
    found = files.search(str(permitted), max_files=2)
    assert ["ca.pem", "link"] == [Path(stamp.path).name for stamp in found]
    with pytest.raises(UnusableFileError):
        files.search(str(permitted), max_files=1)
    with pytest.raises(UnusableFileError):
        files.search(f"{permitted}/ca.pem", max_files=1)


def test_stamp_changes_with_the_content(permitted: Path) -> None:
    files = _files(permitted)
    before = files.stamp(f"{permitted}/ca.pem")
    assert before == files.stamp(f"{permitted}/ca.pem")
    (permitted / "new").write_text("cb")
    (permitted / "new").rename(permitted / "ca.pem")
    assert before != files.stamp(f"{permitted}/ca.pem")


def test_no_descriptor_is_left_open(permitted: Path) -> None:
    files = _files(permitted)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for path in (f"{permitted}/ca.pem", f"{permitted}/absent/x", f"{permitted}/ca.pem/x", "/etc"):
        for _ in range(3):
            with suppress(OSError):
                files.read(path, max_bytes=9)
    files.search(str(permitted), max_files=9)
    assert before == len(os.listdir("/proc/self/fd"))  # noqa: PTH208
