"""keyferry.driver.volumes.trees: folders of any depth, with few descriptors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from keyferry.driver.volumes.trees import (
    FileOnDisk,
    clear_folder,
    files_below,
    read_regular_file,
    remove_folder,
)
from tests.fakes.descriptors import spare_descriptors
from tests.fakes.mounts import mount_tmpfs, unmount_below

BEYOND_RECURSION = 1200
"""More folders than Python may nest calls."""


def make_nested_folders(root: Path, depth: int, name: str = "d") -> None:
    """Make a file in `depth` nested folders; the path may be longer than the kernel accepts."""
    descriptor = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=descriptor)
        child = os.open(name, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = child
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    os.close(descriptor)


@pytest.mark.parametrize("name", ["d", "d" * 200])
def test_tree_of_any_depth_is_removed_with_three_descriptors(tmp_path: Path, name: str) -> None:
    """Deeper than Python nests calls, and with longer paths than the kernel accepts."""
    root = tmp_path / "root"
    root.mkdir()
    make_nested_folders(root, BEYOND_RECURSION, name)
    (root / "beside").mkdir()
    with spare_descriptors(3):
        remove_folder(root)
    assert not root.exists()


def test_files_are_found_at_any_depth(tmp_path: Path) -> None:
    """With their paths below the folder; links are entries, not folders."""
    make_nested_folders(tmp_path, BEYOND_RECURSION)
    (tmp_path / "link").symlink_to(tmp_path)
    found = dict(files_below(tmp_path))
    deep = "d/" * BEYOND_RECURSION + "file"
    assert {"link": f"{tmp_path}/link", deep: f"{tmp_path}/{deep}"} == found
    clear_folder(tmp_path)


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    """To files and to folders, also at the root."""
    outside, root = tmp_path / "outside", tmp_path / "root"
    (outside / "folder").mkdir(parents=True)
    (outside / "file").write_text("kept")
    (root / "d").mkdir(parents=True)
    (root / "d" / "file").symlink_to(outside / "file")
    (root / "d" / "folder").symlink_to(outside)
    clear_folder(root)
    assert [] == list(root.iterdir())
    assert ["file", "folder"] == sorted(path.name for path in outside.iterdir())
    root.rmdir()
    root.symlink_to(outside)
    with pytest.raises(NotADirectoryError):
        clear_folder(root)
    assert "kept" == (outside / "file").read_text()


@pytest.mark.mounts
def test_mount_in_the_tree_is_kept_and_everything_else_is_removed(mount_home: Path) -> None:
    """The first error is raised at the end."""
    for name in ("a", "mounted", "z"):
        (mount_home / "root" / name).mkdir(parents=True)
        (mount_home / "root" / name / "file").write_text("x")
    mount_tmpfs(mount_home / "root" / "mounted")
    (mount_home / "root" / "mounted" / "precious").write_text("kept")
    with pytest.raises(OSError, match="busy"):
        clear_folder(mount_home / "root")
    assert ["mounted"] == [path.name for path in (mount_home / "root").iterdir()]
    assert "kept" == (mount_home / "root" / "mounted" / "precious").read_text()
    unmount_below(mount_home)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """A FIFO would block for as long as nobody writes to it."""
    file, fifo, link = tmp_path / "file", tmp_path / "fifo", tmp_path / "link"
    file.write_bytes(b"x")
    file.chmod(0o640)
    os.mkfifo(fifo)
    link.symlink_to(file)
    assert FileOnDisk(0o640, b"x", os.geteuid(), os.getegid()) == read_regular_file(file)
    assert read_regular_file(fifo) is None
    assert read_regular_file(link) is None
    assert read_regular_file(tmp_path / "missing") is None
