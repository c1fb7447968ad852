"""Lists the files of a mounted volume as the pod sees them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyferry.driver.volumes.atomic_writer import DATA_DIR_NAME
from keyferry.errors import StoreError, VolumeError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class VisibleFile:
    """One file of a volume.

    Attributes:
        path: relative to the volume, with forward slashes.
        mode: permission bits.
        contents: all bytes.
        uid: the user that it belongs to.
        gid: its group.
    """

    path: str
    mode: int
    contents: bytes = field(repr=False)
    uid: int
    gid: int


def visible_files(target: Path) -> list[VisibleFile]:
    """Return the files of the volume at `target`, sorted by path; empty if nothing is mounted.

    Raises:
        VolumeError: they cannot be read.
    """
    data = target / DATA_DIR_NAME
    try:
        if not data.is_dir():
            return []
        root = data.resolve()
        return [
            VisibleFile(
                path.relative_to(root).as_posix(),
                (status := path.stat()).st_mode & 0o777,
                path.read_bytes(),
                status.st_uid,
                status.st_gid,
            )
            for path in sorted(root.rglob("*"))
            if path.is_file()
        ]
    except OSError as error:
        raise VolumeError(
            f"the files at {target} cannot be read: {error.strerror}",
            "Run the command as the user who mounted them.",
        ) from error


def secret_manifests(folder: Path) -> list[Path]:
    """Return the manifests of Secrets below the folder of `--secrets-dir`, sorted.

    Raises:
        StoreError: the folder cannot be read.
    """
    try:
        return sorted((folder / "secrets").rglob("*.yaml"))
    except OSError as error:
        raise StoreError(
            f"the Secrets in {folder} cannot be listed: {error.strerror}",
            "Set --secrets-dir to a folder that you may read and write.",
        ) from error
