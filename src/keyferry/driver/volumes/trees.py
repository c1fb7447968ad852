"""Walks and removes folders of any depth, without recursion and with few open descriptors.

A tenant chooses the depth of a path. `shutil.rmtree` and `os.walk` call themselves for each folder,
and fail with a RecursionError about 1,000 folders down.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Protocol

    class _Remove(Protocol):
        def __call__(self, path: str, /, *, dir_fd: int) -> None: ...


@dataclass(frozen=True, slots=True)
class FileOnDisk:
    """A regular file as it was found.

    Attributes:
        mode: permission bits.
        contents: all bytes.
        uid: the user that it belongs to.
        gid: its group.
    """

    mode: int
    contents: bytes = field(repr=False)
    uid: int
    gid: int


_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def files_below(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the relative and the absolute path of every entry below `folder` that is no folder.

    Links are not followed.

    Raises:
        OSError: a folder cannot be read.
    """
    pending = [("", str(folder))]
    while pending:
        prefix, parent = pending.pop()
        with os.scandir(parent) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append((f"{prefix}{entry.name}/", entry.path))
                else:
                    yield prefix + entry.name, entry.path


def read_regular_file(path: Path | str) -> FileOnDisk | None:
    """Return a regular file.

    None for anything else (a link, FIFO, socket or device), and if nothing is there. Opening a FIFO
    the ordinary way would block for as long as nobody writes to it.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return None
        descriptor = os.open(path, _FILE_FLAGS)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        contents = _read_all(descriptor, status.st_size)
    finally:
        os.close(descriptor)
    return FileOnDisk(stat.S_IMODE(status.st_mode), contents, status.st_uid, status.st_gid)


def _read_all(descriptor: int, size: int) -> bytes:
    """Return what is in a file of about `size` bytes; a file object takes twice as long."""
    chunks: list[bytes] = []
    while chunk := os.read(descriptor, size + 1):
        chunks.append(chunk)
    return b"".join(chunks)


def remove_folder(folder: Path) -> None:
    """Remove `folder` with everything below it.

    Raises:
        OSError: the first failure of `clear_folder`, or `folder` cannot be removed.
    """
    clear_folder(folder)
    folder.rmdir()


def clear_folder(folder: Path) -> None:
    """Remove every entry below `folder`. Links and mounts are not followed.

    One entry that cannot be removed does not keep the others.

    Raises:
        OSError: the first failure.
    """
    removal = _Removal(folder)
    try:
        removal.run()
    finally:
        removal.close()
    if removal.first_error is not None:
        raise removal.first_error


class _Frame(Struct):
    """A folder on the way down.

    Attributes:
        name: its name in its parent.
        identity: device and inode.
        pending: the names of its folders that have not been entered yet.
    """

    name: str
    identity: tuple[int, int]
    pending: list[str]


class _Removal:
    """Removes a tree depth first, with at most three open descriptors.

    It returns to a parent through `..` and compares the identity of the folder that it gets to, so
    that a folder that is moved meanwhile cannot lead it out of the tree.

    Args:
        root: the folder to clear.

    Attributes:
        first_error: why the first entry could not be removed; None while all could.
    """

    def __init__(self, root: Path) -> None:
        self._descriptor = os.open(root, _FOLDER_FLAGS)
        self._device = os.fstat(self._descriptor).st_dev
        self._frames: list[_Frame] = []
        self.first_error: OSError | None = None

    def run(self) -> None:
        """Remove everything below the root."""
        self._frames.append(self._scan(""))
        while True:
            frame = self._frames[-1]
            if frame.pending:
                self._enter(frame.pending.pop())
            elif len(self._frames) == 1:
                return
            else:
                self._leave()

    def close(self) -> None:
        """Close the open folder."""
        os.close(self._descriptor)

    def _scan(self, name: str) -> _Frame:
        """Remove the files of the open folder, and return a frame with its folders."""
        status = os.fstat(self._descriptor)
        if status.st_dev != self._device:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), name)
        folders = []
        with os.scandir(self._descriptor) as entries:
            for entry in list(entries):
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                else:
                    self._attempt(os.unlink, entry.name)
        return _Frame(name, (status.st_dev, status.st_ino), folders)

    def _enter(self, name: str) -> None:
        try:
            child = os.open(name, _FOLDER_FLAGS, dir_fd=self._descriptor)
        except OSError as error:
            self._failed(error)
            return
        parent, self._descriptor = self._descriptor, child
        try:
            frame = self._scan(name)
        except OSError as error:
            self._failed(error)
            self._descriptor = parent
            os.close(child)
        else:
            self._frames.append(frame)
            os.close(parent)

    def _leave(self) -> None:
        """Go back to the parent, and remove the folder that is left."""
        left = self._frames.pop()
        parent = os.open("..", _FOLDER_FLAGS, dir_fd=self._descriptor)
        status = os.fstat(parent)
        os.close(self._descriptor)
        self._descriptor = parent
        if (status.st_dev, status.st_ino) != self._frames[-1].identity:
            raise OSError(errno.ESTALE, "the folder was moved while it was removed", left.name)
        self._attempt(os.rmdir, left.name)

    def _attempt(self, remove: _Remove, name: str) -> None:
        try:
            remove(name, dir_fd=self._descriptor)
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        if self.first_error is None and not isinstance(error, FileNotFoundError):
            self.first_error = error
