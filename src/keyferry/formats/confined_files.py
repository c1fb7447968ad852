"""Reads files whose names come from tenants, only below permitted folders and without blocking.

A path is opened one component at a time and no component is followed by the kernel, so that a link
that is replaced meanwhile leads nowhere else. A link is resolved here: its target must be below a
permitted folder, too. The links of ConfigMap volumes and of `/etc/ssl/certs` therefore work.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from msgspec import Struct

from keyferry.formats.private_files import UnusableFileError, read_regular_file

_MAX_LINKS = 40
_MAX_PATH_BYTES = 4096
_MAX_ENTRIES = 10_000
"""Maximum number of directory entries that one search looks at."""
_MAX_DEPTH = 16
_FOLDER_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class FileStamp(Struct, frozen=True):
    """Identifies the content of a file without reading it: it changes with the content."""

    path: str
    inode: tuple[int, int]
    modified_ns: int
    size: int


@dataclass(frozen=True)
class ConfinedFiles:
    """The files below some folders.

    Attributes:
        folders: absolute paths of the permitted folders, which may be links.
        forbidden: absolute paths of folders that are not permitted, even below a permitted one.
    """

    folders: tuple[str, ...]
    forbidden: tuple[str, ...] = ()

    def read(self, path: str, *, max_bytes: int) -> bytes:
        """Return the content of the regular file `path`.

        Raises:
            UnusableFileError: it is not below a permitted folder, not a regular file, or larger
                than `max_bytes`.
            OSError: it cannot be read.
        """
        descriptor = self._open(path)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UnusableFileError("it is not a regular file")
            # The descriptor is only a reference to the file; opening a device could have effects.
            return read_regular_file(_by(descriptor), max_bytes=max_bytes, follow_links=True)
        finally:
            os.close(descriptor)

    def stamp(self, path: str) -> FileStamp:
        """Return the stamp of the regular file `path`.

        Raises:
            OSError: see `read`.
        """
        descriptor = self._open(path)
        try:
            status = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnusableFileError("it is not a regular file")
        inode = (status.st_dev, status.st_ino)
        return FileStamp(path, inode, status.st_mtime_ns, status.st_size)

    def search(self, folder: str, *, max_files: int) -> list[FileStamp]:
        """Return the stamps of the regular files below `folder`, in the order of their paths.

        A file that has several names is returned once. Names that begin with two dots are skipped:
        the directory of a mounted ConfigMap contains each file twice, once below `..data`. A link
        to a directory is not followed, and a link to a file that is not permitted is skipped.

        Raises:
            UnusableFileError: it is not a permitted directory, or contains too many files.
            OSError: it cannot be read.
        """
        found: dict[tuple[int, int], FileStamp] = {}
        pending, looked_at = [(folder, 0)], 0
        while pending:
            path, depth = pending.pop()
            try:
                names = self._list(path)
            except OSError:
                if depth:
                    continue
                raise
            looked_at += len(names)
            for name, is_folder in names:
                below = f"{path.rstrip('/')}/{name}"
                if is_folder and depth < _MAX_DEPTH:
                    pending.append((below, depth + 1))
                elif not is_folder:
                    with suppress(OSError):
                        stamp = self.stamp(below)
                        found.setdefault(stamp.inode, stamp)
            if len(found) > max_files or looked_at > _MAX_ENTRIES:
                raise UnusableFileError(f"it contains more than {max_files} files")
        return sorted(found.values(), key=lambda stamp: stamp.path)

    def _list(self, folder: str) -> list[tuple[str, bool]]:
        """Return the names in a directory, and whether each is a directory."""
        descriptor = self._open(folder)
        try:
            if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise UnusableFileError("it is not a directory")
            with os.scandir(_by(descriptor)) as entries:
                return [
                    (entry.name, entry.is_dir(follow_symlinks=False))
                    for entry in islice(entries, _MAX_ENTRIES + 1)
                    if not entry.name.startswith("..")
                ]
        finally:
            os.close(descriptor)

    def _open(self, path: str) -> int:
        """Return an O_PATH descriptor of what `path` names; it is not a link.

        Raises:
            OSError: it does not exist or is not permitted.
        """
        if not path.startswith("/") or "\0" in path or len(os.fsencode(path)) > _MAX_PATH_BYTES:
            raise UnusableFileError("it is not an absolute path")
        for _ in range(_MAX_LINKS):
            root, parts = self._split(path)
            found = _descend(root, parts)
            if isinstance(found, int):
                try:
                    self._check_not_forbidden(found)
                except OSError:
                    os.close(found)
                    raise
                return found
            path = found
        raise UnusableFileError("it has too many symbolic links")

    def _split(self, path: str) -> tuple[str, list[str]]:
        """Return the permitted folder that contains `path`, and the components below it."""
        normal = f"/{os.path.normpath(path).lstrip('/')}"
        for root in self._roots:
            if _is_below(normal, root):
                return root, [part for part in normal.removeprefix(root).split("/") if part]
        raise UnusableFileError("it is not below a permitted folder")

    @cached_property
    def _roots(self) -> tuple[str, ...]:
        """The permitted folders: as they are written, and as they really are."""
        written = [os.path.normpath(folder) for folder in self.folders if folder.startswith("/")]
        real = [os.path.realpath(folder) for folder in written]
        return tuple(dict.fromkeys(sorted((*written, *real), key=len, reverse=True)))

    def _check_not_forbidden(self, descriptor: int) -> None:
        """Raise an error if the file is below a forbidden folder, by name or by identity."""
        path = str(Path(_by(descriptor)).readlink())
        forbidden_inodes = set()
        for folder in self.forbidden:
            if _is_below(path, os.path.normpath(folder)) or _is_below(
                path, os.path.realpath(folder)
            ):
                raise UnusableFileError("it is below the folder of kubelet")
            with suppress(OSError):
                forbidden_inodes.add(_inode(folder))
        # A bind mount gives a folder another name.
        for parent in (Path(path), *Path(path).parents):
            with suppress(OSError):
                if _inode(parent) in forbidden_inodes:
                    raise UnusableFileError("it is below the folder of kubelet")


def _descend(root: str, parts: list[str]) -> int | str:
    """Open `parts` below `root`, one by one.

    Returns:
        A descriptor, or the path that remains to be opened because of a symbolic link.

    Raises:
        OSError: a component does not exist or is not a directory.
    """
    descriptor = os.open(root, _FOLDER_FLAGS)
    try:
        for index, name in enumerate(parts):
            child = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
            parent, descriptor = descriptor, child
            try:
                if stat.S_ISLNK(os.fstat(child).st_mode):
                    target = os.readlink(name, dir_fd=parent)
                    here = Path(_by(parent)).readlink()
                    os.close(child)
                    descriptor = -1
                    return os.path.join(here, target, *parts[index + 1 :])  # noqa: PTH118
            finally:
                os.close(parent)
    except OSError:
        if descriptor >= 0:
            os.close(descriptor)
        raise
    return descriptor


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _by(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"


def _inode(path: str | Path) -> tuple[int, int]:
    status = Path(path).stat()
    return status.st_dev, status.st_ino
