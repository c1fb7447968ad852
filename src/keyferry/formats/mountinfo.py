"""The mount table of the kernel (proc(5), /proc/PID/mountinfo)."""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import Struct


class MountPoint(Struct, frozen=True):
    """One mount.

    Attributes:
        path: where it is mounted.
        source: name of the source, as passed to mount(2).
        device: major and minor number of its file system.
        file_system: its type, such as `tmpfs`.
    """

    path: str
    source: str
    device: tuple[int, int]
    file_system: str


def mount_points() -> list[MountPoint]:
    """Return all mounts that this process sees, in the order in which they were mounted.

    Raises:
        OSError: /proc cannot be read.
    """
    return [_parse(line) for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def _parse(line: str) -> MountPoint:
    # A variable number of fields comes before the hyphen.
    before, _, after = line.partition(" - ")
    _, _, device, _, path, *_ = before.split(" ")
    file_system, source, *_ = after.split(" ")
    major, _, minor = device.partition(":")
    return MountPoint(_unescape(path), source, (int(major), int(minor)), file_system)


def _unescape(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)
