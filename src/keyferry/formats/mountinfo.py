"""What is mounted where, as the kernel tells it (proc(5), mountinfo)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class MountPoint:
    """One mount.

    Attributes:
        path: where it is.
        source: what it was mounted from, as whoever mounted it said.
    """

    path: str
    source: str


def mount_points() -> list[MountPoint]:
    """All mounts that this process sees, those first that were mounted first.

    Raises:
        OSError: the kernel does not tell.
    """
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")  # field 5 is the mount point
        found.append(MountPoint(_unescape(fields.split(" ")[4]), rest.split(" ")[1]))
    return found


def _unescape(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)
