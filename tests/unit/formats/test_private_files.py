"""Private files: whole writes, bounded reads, nothing that blocks."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from keyferry.formats.private_files import (
    UnusableFileError,
    read_private_file,
    read_regular_file,
    write_private_file,
)


def test_a_written_file_is_private_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_private_file(path, b"first")
    write_private_file(path, b"second")
    assert b"second" == read_private_file(path, max_bytes=6)
    assert 0o600 == path.stat().st_mode & 0o777
    assert [path] == list(tmp_path.iterdir())


def test_paths_are_relative_to_the_open_directory(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        write_private_file("key", b"x", dir_fd=descriptor)
        assert b"x" == read_private_file("key", max_bytes=1, dir_fd=descriptor)
    finally:
        os.close(descriptor)
    assert b"x" == (tmp_path / "key").read_bytes()


def test_an_existing_file_is_kept_unless_it_may_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_private_file(path, b"first", replace=False)
    with pytest.raises(FileExistsError):
        write_private_file(path, b"second", replace=False)
    assert b"first" == path.read_bytes()
    assert [path] == list(tmp_path.iterdir())


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_private_file(tmp_path / "folder", b"x")
    assert [tmp_path / "folder"] == list(tmp_path.iterdir())


def _fifo(path: Path) -> None:
    os.mkfifo(path, mode=0o600)


def _link(path: Path) -> None:
    target = path.with_name("target")
    write_private_file(target, b"x")
    path.symlink_to(target)


def _open_to_others(path: Path) -> None:
    path.write_bytes(b"x")
    path.chmod(0o644)


def _too_large(path: Path) -> None:
    write_private_file(path, b"x" * 11)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (_fifo, "not a regular file"),
        (Path.mkdir, "not a regular file"),
        (_link, "a symbolic link"),
        (_open_to_others, "accessible to other users"),
        (_too_large, "larger than 10 bytes"),
    ],
)
def test_a_file_that_must_not_be_used_is_refused(tmp_path: Path, make, problem: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "key"
    make(path)
    with pytest.raises(UnusableFileError, match=problem) as refused:
        read_private_file(path, max_bytes=10)
    assert problem in (refused.value.strerror or "")


def test_a_regular_file_may_be_linked_and_open_to_others(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"x")
    target.chmod(0o644)
    link.symlink_to(target)
    assert b"x" == read_regular_file(target, max_bytes=1)
    assert b"x" == read_regular_file(link, max_bytes=1, follow_links=True)
    with pytest.raises(UnusableFileError, match="symbolic link"):
        read_regular_file(link, max_bytes=1)


def test_devices_and_sockets_are_not_read(tmp_path: Path) -> None:
    with pytest.raises(UnusableFileError, match="not a regular file"):
        read_regular_file("/dev/zero", max_bytes=10)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        with pytest.raises(OSError, match="No such device"):
            read_regular_file(tmp_path / "socket", max_bytes=10)


def test_missing_file_is_distinguished(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_private_file(tmp_path / "key", max_bytes=10)
