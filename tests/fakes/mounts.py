"""Creates, lists and removes mounts without the code under test."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path

_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


def mount_tmpfs(target: Path, source: str = "foreign") -> None:
    """Mount a tmpfs at `target`; by default it is not managed by the driver."""
    _mount(source, target, "tmpfs", "")


def mount_broken(target: Path, source: str) -> None:
    """Mount a FUSE file system without a server: every call into it fails with ENOTCONN."""
    device = os.open("/dev/fuse", os.O_RDWR)
    try:
        _mount(source, target, "fuse", f"fd={device},rootmode=40000,user_id=0,group_id=0")
    finally:
        os.close(device)


def unmount_below(folder: Path) -> None:
    """Unmount everything below `folder`, the newest mount first, even if it is busy."""
    for target in reversed(mounted_below(folder)):
        if _libc.umount2(os.fsencode(target), _MNT_DETACH) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), target)


def mounted_below(folder: Path) -> list[str]:
    """Return the mount points below `folder`, the oldest first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [_unescaped(line.split(" ")[4]) for line in lines]
    return [point for point in points if point.startswith(f"{folder.resolve()}/")]


def mount_options(target: Path) -> tuple[str, str, str]:
    """Return the options, type and source of the mount at `target`."""
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        fields, _, rest = line.partition(" - ")
        if _unescaped(fields.split(" ")[4]) == str(target.resolve()):
            return fields.split(" ")[5], rest.split(" ")[0], rest.split(" ")[1]
    raise AssertionError(f"nothing is mounted at {target}")


def _unescaped(point: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), point)


def _mount(source: str, target: Path, kind: str, options: str) -> None:
    result = _libc.mount(
        source.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(0), options.encode()
    )
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(target))
