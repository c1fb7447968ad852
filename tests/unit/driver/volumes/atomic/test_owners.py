"""Atomic writer: owners of files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keyferry.content import MAX_ID, FileOwner, SecretFile
from keyferry.driver.volumes.atomic_writer import (
    NO_CHANGES,
    FileChanges,
    read_volume,
    write_volume,
)
from keyferry.errors import FilesInvalidError
from keyferry.records import replace
from tests.unit.driver.volumes.atomic.sets import check, file

GROUP = 4242


def owned(path: str, uid: int, gid: int | None = None) -> SecretFile:
    """One file of another user."""
    return replace(file(path, mode=0o400), owner=FileOwner(uid, gid))


def ids(root: Path, path: str) -> tuple[int, int]:
    """Return the user and the group of a file of the volume."""
    status = (root / path).stat()
    return status.st_uid, status.st_gid


@pytest.mark.owners
def test_files_belong_to_their_owners(root: Path) -> None:
    """Without a group, a file keeps that of the volume; folders belong to the writer."""
    files = (owned("d/a", 999), owned("b", 999, 998), file("c"))
    write_volume(root, files)
    assert [(999, 0), (999, 998), (0, 0)] == [ids(root, path) for path in ("d/a", "b", "c")]
    assert ((0, 0), 0o755) == (ids(root, "d"), (root / "d").stat().st_mode & 0o777)
    check(root, *files)


@pytest.mark.owners
def test_group_of_the_volume_is_kept_unless_the_owner_has_one(root: Path) -> None:
    """A pod with fsGroup reads files of another user by their group."""
    os.chown(root, 0, GROUP)
    root.chmod(0o2755)
    files = (owned("d/a", 999), owned("b", 999, 998), file("c"))
    write_volume(root, files)
    assert [(999, GROUP), (999, 998), (0, GROUP)] == [ids(root, p) for p in ("d/a", "b", "c")]
    assert NO_CHANGES == write_volume(root, files)


@pytest.mark.owners
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (file("a", mode=0o400), owned("a", 999)),
        (owned("a", 999), owned("a", 1000)),
        (owned("a", 999), owned("a", 999, 998)),
        (owned("a", 999, 998), file("a", mode=0o400)),
    ],
)
def test_changed_owner_is_written(root: Path, before: SecretFile, after: SecretFile) -> None:
    """Although content and mode are the same; the next write changes nothing."""
    write_volume(root, (before,))
    assert FileChanges(changed=("a",)) == write_volume(root, (after,))
    assert NO_CHANGES == write_volume(root, (after,))


@pytest.mark.owners
def test_owner_changed_by_somebody_else_is_restored(root: Path) -> None:
    """Also that of a file without an owner."""
    write_volume(root, (file("a"), owned("b", 999)))
    os.chown(root / "a", 5, 5)
    os.chown(root / "b", 0, 0)
    assert FileChanges(changed=("a", "b")) == write_volume(root, (file("a"), owned("b", 999)))


@pytest.mark.owners
def test_owners_are_read_back(root: Path) -> None:
    """So that a kept file stays as it is."""
    os.chown(root, 0, GROUP)
    root.chmod(0o2755)
    files = (owned("a", 999), owned("b", 999, 998), file("c"), owned("d", 0, 998))
    write_volume(root, files)
    assert files == read_volume(root)
    assert NO_CHANGES == write_volume(root, read_volume(root))


@pytest.mark.parametrize(("uid", "gid"), [(-1, None), (MAX_ID + 1, None), (0, -1), (0, 2**64)])
def test_impossible_ids_are_refused_before_anything_is_written(
    root: Path, uid: int, gid: int | None
) -> None:
    """Linux takes -1 for "unchanged"."""
    with pytest.raises(FilesInvalidError, match=r"fileOwner of 'a': the id -?\d+ is not in 0\.\."):
        write_volume(root, (owned("a", uid, gid),))
    assert [] == list(root.iterdir())


WITHOUT_RIGHTS = """
import asyncio, ctypes, json, os, pathlib, sys
from keyferry.content import FileOwner, SecretFile
from keyferry.driver.volumes.mounter import DirectoryMounter
from keyferry.driver.volumes.operations import VolumeOperations
from keyferry.driver.volumes.owners import can_set_owners
from keyferry.errors import VolumeError

version, nothing = (ctypes.c_uint32 * 2)(0x20080522), (ctypes.c_uint32 * 6)()
assert ctypes.CDLL(None).capset(version, nothing) == 0
assert not can_set_owners()
root = pathlib.Path(sys.argv[1])
uid, gid = os.geteuid(), os.getegid()
files = [
    SecretFile("kept", 0o644, b"x", FileOwner(uid)),
    SecretFile("group", 0o644, b"x", FileOwner(uid, gid)),
    SecretFile("user", 0o644, b"x", FileOwner(uid + 1)),
    SecretFile("other-group", 0o644, b"x", FileOwner(uid, 2**31)),
]

async def main():
    lenient = VolumeOperations(DirectoryMounter(), ignores_foreign_owners=True)
    strict = VolumeOperations(DirectoryMounter())
    first = await lenient.mount_and_write(root, None, files, tenant="a")
    again = await lenient.mount_and_write(root, None, files, tenant="a")
    try:
        await strict.mount_and_write(root, None, files, tenant="a")
    except VolumeError as error:
        problem = str(error)
    left = sorted(os.listdir(root))
    lenient.close()
    strict.close()
    return [first.without_owner, bool(again), again.without_owner, problem, len(left)]

print(json.dumps(asyncio.run(main())))
"""
"""A process that gives up all its capabilities and then writes."""


def test_owner_that_this_process_may_not_set(root: Path) -> None:
    """An error that leaves the content, or a note if foreign owners are ignored."""
    command = [sys.executable, "-c", WITHOUT_RIGHTS, str(root / "volume")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=200)
    user = os.geteuid() + 1
    assert done.stdout.strip() == (
        '[["other-group", "user"], false, ["other-group", "user"],'
        f" \"cannot give 'user' to fileOwner {user}: Operation not permitted. Only a process with"
        " CAP_CHOWN may do this: run the driver as root, or remove fileOwner from the"
        ' SecretProviderClass.", 6]'
    )
