"""Writes the files of a volume so that a reader sees the old set or the new one, never a mix.

    target/..2026_11_24_02_19_20.7312/   the files
    target/..data -> ..2026_...          swapped by one rename
    target/foo    -> ..data/foo          one link per first path element

Two things are ours: a change of mode alone is written too, and what a killed process left behind (a
half-written folder, a stray `..data_tmp`, a missing link) is mended by the next write instead of
breaking it.

Where the root of the volume belongs to a group (see `mounts`), so does everything that is written
into it, from the moment it appears; the modes are those that were asked for.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from keyferry.errors import FilesInvalidError, VolumeError
from keyferry.formats.volume_paths import path_conflict, path_problem
from keyferry.providers.api import SecretFile

if TYPE_CHECKING:
    from collections.abc import Sequence

DATA_DIR_NAME = "..data"
_NEW_DATA_DIR_NAME = "..data_tmp"
_TIMESTAMPED_DIR = re.compile(r"\.\.\d{4}(_\d\d){5}\.\d+")


@dataclass(frozen=True, slots=True)
class FileChanges:
    """What a write changed, as sorted paths. All empty: the volume was left untouched."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything changed."""
        return bool(self.added or self.changed or self.removed)


NO_CHANGES = FileChanges()


def check_files(files: Sequence[SecretFile]) -> None:
    """Raises FilesInvalidError unless all paths may stand in one volume. [pure]"""
    for file in files:
        if problem := path_problem(file.path):
            raise FilesInvalidError(
                f"invalid filepath: the path {file.path[:100]!r} {problem}",
                "Correct the name or alias of the object in the class.",
            )
    if clash := path_conflict(file.path for file in files):
        first, second = clash
        what = (
            f"two objects are written to {first!r}"
            if first == second
            else f"{first!r} would be both a file and the folder of {second!r}"
        )
        raise FilesInvalidError(what, "Give each object an alias of its own in the class.")


def write_volume(root: Path, files: Sequence[SecretFile]) -> FileChanges:
    """Makes `files` the whole content of the volume at `root`, if it is not already.

    `root` must exist.

    Not safe for two writers on one root: the caller holds the lock of the target.

    Raises:
        FilesInvalidError: before anything is written.
        VolumeError: the file system refused; what was there before is still there, whole.
    """
    check_files(files)
    try:
        current = _current_dir(root)
        before = _read_tree(root / current) if current else {}
        after = {file.path: (file.mode & 0o777, file.contents) for file in files}
        written = _compare(before, after)
        tops = {path.split("/")[0] for path in after}
        if current is None or written:
            current = _write_timestamped_dir(root, files, tops)
        else:
            _ensure_links(root, tops)
        _remove_leftovers(root, keep=current, top_level=tops)
    except OSError as error:
        raise VolumeError(
            f"cannot write the files of {root}: {error.strerror or error}",
            "Check the space and the memory of this node (the volume is a tmpfs).",
        ) from error
    return written


def read_volume(root: Path) -> tuple[SecretFile, ...]:
    """The files that a provider of the old style wrote itself, as the pod sees them.

    It may have a layout of links of its own; what lies behind a link out of the volume is no file
    of the volume.

    Raises:
        VolumeError: they cannot be read.
    """
    found: dict[str, tuple[int, bytes]] = {}
    try:
        for entry in _entries(root):
            if not entry.name.startswith(".."):
                found |= _read_entry(root, entry.name)
    except OSError as error:
        raise VolumeError(
            f"cannot read the files of {root}: {error.strerror or error}",
            "Look at what the provider wrote there.",
        ) from error
    return tuple(SecretFile(path, *found[path]) for path in sorted(found))


def is_written(root: Path) -> bool:
    """Whether this module ever wrote a whole set of files to `root`."""
    return _current_dir(root) is not None


def written_at(root: Path) -> datetime:
    """When the content of `root` last changed.

    Raises:
        VolumeError: it cannot be looked at.
    """
    try:
        status = ((root / DATA_DIR_NAME) if is_written(root) else root).stat()
    except OSError as error:
        raise VolumeError(f"cannot look at {root}: {error.strerror or error}") from error
    return datetime.fromtimestamp(status.st_mtime, UTC)


def has_provider_written_files(root: Path) -> bool:
    """Whether `root` holds files that a provider of the old style wrote there itself."""
    return any(
        not entry.name.startswith("..") and not entry.is_symlink() for entry in _entries(root)
    )


def looks_like_volume(root: Path) -> bool:
    """Whether everything at `root` has the names that a volume keeps for itself.

    That is true of an empty folder.
    """
    return all(
        entry.name in (DATA_DIR_NAME, _NEW_DATA_DIR_NAME)
        or _TIMESTAMPED_DIR.fullmatch(entry.name)
        or (entry.is_symlink() and os.readlink(entry.path).startswith(DATA_DIR_NAME + "/"))  # noqa: PTH115
        for entry in _entries(root)
    )


def _entries(root: Path) -> list[os.DirEntry[str]]:
    with os.scandir(root) as entries:
        return list(entries)


def _current_dir(root: Path) -> str | None:
    """The name of the folder that `..data` shows; None when there is none, or it leads nowhere."""
    try:
        name = os.readlink(root / DATA_DIR_NAME)  # noqa: PTH115
    except OSError:
        return None
    if not _TIMESTAMPED_DIR.fullmatch(name):
        return None
    return name if (root / name).is_dir() else None


def _inherits_group(root: Path) -> bool:
    """Whether what is made in `root` belongs to its group."""
    found = root.stat()
    return bool(found.st_gid) and bool(found.st_mode & stat.S_ISGID)


def _read_tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below `folder` with its mode.

    One that its own mode locks for us is left out, hence written anew, and so is a link, which this
    module never puts there.
    """
    found: dict[str, tuple[int, bytes]] = {}
    prefix = len(f"{folder}/")
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if not path.is_symlink():
                with suppress(PermissionError):
                    found[f"{parent}/{name}"[prefix:]] = _read_file(path)
    return found


def _read_file(path: Path) -> tuple[int, bytes]:
    return stat.S_IMODE(path.lstat().st_mode), path.read_bytes()


def _read_entry(root: Path, name: str) -> dict[str, tuple[int, bytes]]:
    """The file, or the files of the folder, that the entry `name` of `root` is or leads to."""
    real = Path(os.path.realpath(root / name))
    if not real.is_relative_to(os.path.realpath(root)):
        return {}
    if real.is_dir():
        return {f"{name}/{path}": found for path, found in _read_tree(real).items()}
    return {name: _read_file(real)} if real.is_file() else {}


def _compare(
    before: dict[str, tuple[int, bytes]], after: dict[str, tuple[int, bytes]]
) -> FileChanges:
    return FileChanges(
        added=tuple(sorted(after.keys() - before.keys())),
        changed=tuple(sorted(p for p in after.keys() & before.keys() if after[p] != before[p])),
        removed=tuple(sorted(before.keys() - after.keys())),
    )


def _write_timestamped_dir(root: Path, files: Sequence[SecretFile], top_level: set[str]) -> str:
    """Writes a new folder, links new names, swaps `..data`.

    Returns the folder's name. On failure it is removed again.
    """
    stamp = f"..{datetime.now(UTC):%Y_%m_%d_%H_%M_%S}.{secrets.randbelow(10**10)}"
    folder = root / stamp
    folder_mode = 0o2755 if _inherits_group(root) else 0o755
    try:
        for parent in sorted({Path()}.union(*(Path(file.path).parents for file in files))):
            (folder / parent).mkdir(exist_ok=True)
            (folder / parent).chmod(folder_mode)  # whatever the umask of the process
        for file in files:
            _write_file(f"{folder}/{file.path}", file)
        _ensure_links(root, top_level)
        temporary = root / _NEW_DATA_DIR_NAME
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(stamp)
        temporary.replace(root / DATA_DIR_NAME)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return stamp


def _write_file(path: str, file: SecretFile) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        rest = memoryview(file.contents)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fchmod(descriptor, file.mode & 0o777)
    finally:
        os.close(descriptor)


def _ensure_links(root: Path, top_level: set[str]) -> None:
    """Makes each of `top_level` a link into `..data`, unless it is one.

    A file or folder of a provider of the old style gives way.
    """
    for top in top_level:
        link, goal = f"{root}/{top}", f"{DATA_DIR_NAME}/{top}"
        try:
            if os.readlink(link) == goal:  # noqa: PTH115
                continue
        except FileNotFoundError:
            pass
        except OSError:
            _remove_path(Path(link))  # it is no link
        else:
            _remove_path(Path(link))
        os.symlink(goal, link)  # noqa: PTH211


def _remove_path(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _remove_leftovers(root: Path, *, keep: str, top_level: set[str]) -> None:
    """Removes the links of vanished names and every older or half-written folder."""
    for name in {entry.name for entry in _entries(root)} - top_level - {DATA_DIR_NAME, keep}:
        path = root / name
        if path.is_symlink():
            path.unlink()
        elif _TIMESTAMPED_DIR.fullmatch(name):
            shutil.rmtree(path)
