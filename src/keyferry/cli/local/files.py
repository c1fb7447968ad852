"""Lists the files of a mounted volume as the pod sees them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyferry.driver.volumes.atomic_writer import DATA_DIR_NAME

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class VisibleFile:
    """One file of a volume.

    Attributes:
        path: relative to the volume, with forward slashes.
        mode: permission bits.
        contents: all bytes.
    """

    path: str
    mode: int
    contents: bytes = field(repr=False)


def visible_files(target: Path) -> list[VisibleFile]:
    """Return the files of the volume at `target`, sorted by path; empty if nothing is mounted."""
    data = target / DATA_DIR_NAME
    if not data.is_dir():
        return []
    root = data.resolve()
    return [
        VisibleFile(
            path.relative_to(root).as_posix(), path.stat().st_mode & 0o777, path.read_bytes()
        )
        for path in sorted(root.rglob("*"))
        if path.is_file()
    ]
