"""Writes the files of a volume so that readers see the old files or the new ones, never a mix.

    target/..2026_11_24_02_19_20.7312/   the files
    target/..data -> ..2026_...          swapped by one rename
    target/foo    -> ..data/foo          one link per first path element

The layout is that of kubelet's AtomicWriter, with two differences: a change of a file mode or an
owner is written even if no content changes, and the next write repairs what a killed process left
behind (a half-written folder, a stray `..data_tmp`, a missing link).

If the root of the volume belongs to a group (see `mounter`), every new file and folder belongs to
it from the start. File modes and owners are those of the request. Folders always belong to the user
of this process, and everybody may enter them.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.content import FileOwner, SecretFile
from keyferry.driver.volumes.owners import as_owner_error, check_owner
from keyferry.driver.volumes.trees import (
    FileOnDisk,
    files_below,
    read_regular_file,
    remove_folder,
)
from keyferry.errors import FilesInvalidError, VolumeError
from keyferry.formats.volume_paths import count_problem, path_conflict, path_problem

if TYPE_CHECKING:
    from collections.abc import Sequence

DATA_DIR_NAME = "..data"
_NEW_DATA_DIR_NAME = "..data_tmp"
_TIMESTAMPED_DIR = re.compile(r"\.\.\d{4}(_\d\d){5}\.\d+")


class FileChanges(Struct, frozen=True):
    """The sorted paths that a write changed; all empty when the volume was already up to date.

    Attributes:
        added: new files.
        changed: files with another content, mode or owner.
        removed: files that no longer exist.
        without_owner: files whose owner this process may not set. They are no change.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    without_owner: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything changed."""
        return bool(self.added or self.changed or self.removed)


NO_CHANGES = FileChanges()


def check_files(files: Sequence[SecretFile]) -> None:
    """Check that all paths can exist in one volume, and all owners on one machine. [pure]

    Raises:
        FilesInvalidError: a path or an owner is invalid, or two paths conflict.
    """
    for file in files:
        check_owner(file)
        if problem := path_problem(file.path):
            raise FilesInvalidError(
                f"invalid filepath: the path {file.path[:100]!r} {problem}",
                "Correct the name or alias of the object in the SecretProviderClass.",
            )
    if problem := count_problem([file.path for file in files]):
        raise FilesInvalidError(
            f"the SecretProviderClass {problem}", "Split the objects into several volumes."
        )
    if clash := path_conflict(file.path for file in files):
        first, second = clash
        problem = (
            f"two objects are written to {first!r}"
            if first == second
            else f"{first!r} would be both a file and the folder of {second!r}"
        )
        raise FilesInvalidError(
            problem, "Give each object an alias of its own in the SecretProviderClass."
        )


def write_volume(root: Path, files: Sequence[SecretFile]) -> FileChanges:
    """Make `files` the content of the volume at `root`, unless it already is.

    Not safe for two concurrent writers: the caller holds the lock of the target.

    Args:
        root: the mount point; it must exist.
        files: the complete content.

    Returns:
        The files that changed.

    Raises:
        FilesInvalidError: a path or an owner is invalid; nothing was written.
        VolumeError: the file system failed, or this process may not set an owner; the previous
            content is intact.
    """
    check_files(files)
    try:
        current = _current_dir(root)
        before = _read_tree(root / current) if current else {}
        after = _expected(files, (root / current) if current else root)
        written = _compare(before, after)
        tops = {path.split("/")[0] for path in after}
        if current is None or written:
            current = _write_timestamped_dir(root, files, tops)
        else:
            _ensure_links(root, tops)
        _remove_leftovers(root, keep=current, top_level=tops)
    except OSError as error:
        remedy = "Check the space and the memory of this node (the volume is a tmpfs)."
        if error.errno == errno.ENOSPC:
            remedy = (
                "The volume has room for two sets of files of --max-call-recv-msg-size bytes: raise"
                " it, or split the SecretProviderClass. A volume on disk needs a disk with space."
            )
        raise VolumeError(
            f"cannot write the files of {root}: {error.strerror or error}", remedy
        ) from error
    return written


def read_volume(root: Path) -> tuple[SecretFile, ...]:
    """Read all files of the volume as the pod sees them, sorted by path.

    A provider that writes files itself may use its own layout of links. Links that leave the volume
    are skipped.

    Raises:
        VolumeError: the files cannot be read.
    """
    found: dict[str, FileOnDisk] = {}
    try:
        for entry in _entries(root):
            if not entry.name.startswith(".."):
                found |= _read_entry(root, entry.name)
        current = _current_dir(root)
        default = ((root / current) if current else root).stat()
    except OSError as error:
        raise VolumeError(
            f"cannot read the files of {root}: {error.strerror or error}",
            "Check the files that the provider wrote there.",
        ) from error
    return tuple(_as_secret_file(path, found[path], default) for path in sorted(found))


def is_written(root: Path) -> bool:
    """Return whether this module has completely written content to `root`."""
    return _current_dir(root) is not None


def written_at(root: Path) -> datetime:
    """Return when the content of `root` last changed, with a zone.

    Raises:
        VolumeError: `root` cannot be inspected.
    """
    try:
        status = ((root / DATA_DIR_NAME) if is_written(root) else root).stat()
    except OSError as error:
        raise VolumeError(f"cannot inspect {root}: {error.strerror or error}") from error
    return datetime.fromtimestamp(status.st_mtime, UTC)


def has_provider_written_files(root: Path) -> bool:
    """Return whether `root` holds files that a provider wrote itself."""
    return any(
        not entry.name.startswith("..") and not entry.is_symlink() for entry in _entries(root)
    )


def looks_like_volume(root: Path) -> bool:
    """Return whether every entry of `root` has a name of the layout above.

    True for an empty folder.
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
    """Return the folder name that `..data` links to; None when it is missing or dangling."""
    try:
        name = os.readlink(root / DATA_DIR_NAME)  # noqa: PTH115
    except OSError:
        return None
    if not _TIMESTAMPED_DIR.fullmatch(name):
        return None
    return name if (root / name).is_dir() else None


def _inherits_group(root: Path) -> bool:
    """Whether new entries of `root` belong to its group."""
    status = root.stat()
    return bool(status.st_gid) and bool(status.st_mode & stat.S_ISGID)


def _as_secret_file(path: str, file: FileOnDisk, default: os.stat_result) -> SecretFile:
    """Return a file that was read, without an owner if it is that of `default`."""
    owner = None
    if (file.uid, file.gid) != (default.st_uid, default.st_gid):
        owner = FileOwner(file.uid, None if file.gid == default.st_gid else file.gid)
    return SecretFile(path, file.mode, file.contents, owner)


def _expected(files: Sequence[SecretFile], folder: Path) -> dict[str, FileOnDisk]:
    """Return how `files` are found in a volume that is up to date.

    A file without an owner belongs to the user and the group of its folder. On some file systems
    these are not those of this process.
    """
    default = folder.stat()
    expected: dict[str, FileOnDisk] = {}
    for file in files:
        uid, gid = default.st_uid, default.st_gid
        if file.owner is not None:
            uid = file.owner.uid
            gid = gid if file.owner.gid is None else file.owner.gid
        expected[file.path] = FileOnDisk(file.mode & 0o777, file.contents, uid, gid)
    return expected


def _read_tree(folder: Path) -> dict[str, FileOnDisk]:
    """Return every file below `folder`, by relative path.

    Files that their own mode makes unreadable are omitted, hence written again. So are links and
    special files, which this module never creates there.
    """
    contents: dict[str, FileOnDisk] = {}
    for name, path in files_below(folder):
        with suppress(PermissionError):
            if file := read_regular_file(path):
                contents[name] = file
    return contents


def _read_entry(root: Path, name: str) -> dict[str, FileOnDisk]:
    """Read the file or folder `name` of `root`, or the one that it links to."""
    real = Path(os.path.realpath(root / name))
    if not real.is_relative_to(os.path.realpath(root)):
        return {}
    if real.is_dir():
        return {f"{name}/{path}": file for path, file in _read_tree(real).items()}
    file = read_regular_file(real)
    return {} if file is None else {name: file}


def _compare(before: dict[str, FileOnDisk], after: dict[str, FileOnDisk]) -> FileChanges:
    return FileChanges(
        added=tuple(sorted(after.keys() - before.keys())),
        changed=tuple(sorted(p for p in after.keys() & before.keys() if after[p] != before[p])),
        removed=tuple(sorted(before.keys() - after.keys())),
    )


def _write_timestamped_dir(root: Path, files: Sequence[SecretFile], top_level: set[str]) -> str:
    """Write a new folder, link new names, then replace `..data` by one rename.

    Returns:
        The name of the folder. A failed write removes it.
    """
    stamp = f"..{datetime.now(UTC):%Y_%m_%d_%H_%M_%S}.{secrets.randbelow(10**10)}"
    folder = root / stamp
    folder_mode = 0o2755 if _inherits_group(root) else 0o755
    try:
        nested = (Path(file.path).parents for file in files if "/" in file.path)
        for parent in sorted({Path()}.union(*nested)):
            (folder / parent).mkdir(exist_ok=True)
            (folder / parent).chmod(folder_mode)  # whatever the umask of the process
        for file in files:
            _write_file(f"{folder}/{file.path}", file)
        _ensure_links(root, top_level)
        temporary = root / _NEW_DATA_DIR_NAME
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(stamp)
        temporary.replace(root / DATA_DIR_NAME)
    except (OSError, VolumeError):
        with suppress(OSError):
            remove_folder(folder)
        raise
    return stamp


def _write_file(path: str, file: SecretFile) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        rest = memoryview(file.contents)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fchmod(descriptor, file.mode & 0o777)  # which only its owner may, so it comes first
        if file.owner is not None:
            with as_owner_error(file):
                gid = -1 if file.owner.gid is None else file.owner.gid  # -1: unchanged
                os.fchown(descriptor, file.owner.uid, gid)
    finally:
        os.close(descriptor)


def _ensure_links(root: Path, top_level: set[str]) -> None:
    """Make each name of `top_level` a link into `..data`.

    Files and folders that a provider wrote itself are replaced.
    """
    for top in top_level:
        link, destination = f"{root}/{top}", f"{DATA_DIR_NAME}/{top}"
        try:
            if os.readlink(link) == destination:  # noqa: PTH115
                continue
        except FileNotFoundError:
            pass
        except OSError:
            _remove_path(Path(link))  # not a link
        else:
            _remove_path(Path(link))
        os.symlink(destination, link)  # noqa: PTH211


def _remove_path(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        remove_folder(path)
    else:
        path.unlink(missing_ok=True)


def _remove_leftovers(root: Path, *, keep: str, top_level: set[str]) -> None:
    """Remove links of removed files, and every older or half-written folder."""
    for name in {entry.name for entry in _entries(root)} - top_level - {DATA_DIR_NAME, keep}:
        path = root / name
        if path.is_symlink():
            path.unlink()
        elif _TIMESTAMPED_DIR.fullmatch(name):
            remove_folder(path)
