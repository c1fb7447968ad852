"""Files that only their owner may read: written as a whole, and read without ever blocking."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from errno import ELOOP
from pathlib import Path

TEMPORARY_PREFIX = ".writing-"
"""How the name of an unfinished file begins; a writer that was killed leaves one behind."""


class UnusableFileError(OSError):
    """The file exists, but must not be used; `strerror` says why."""

    def __init__(self, problem: str) -> None:
        super().__init__(0, problem)


def read_regular_file(
    path: str | Path, *, max_bytes: int, follow_links: bool = False, dir_fd: int | None = None
) -> bytes:
    """Return the content of a regular file. A FIFO, device or socket is refused without waiting.

    Args:
        path: the file; relative to `dir_fd` if that is given.
        max_bytes: the largest size that is accepted.
        follow_links: whether the last part of `path` may be a symbolic link.
        dir_fd: an open directory.

    Raises:
        UnusableFileError: it is not a regular file, or is larger than `max_bytes`.
        OSError: it cannot be read.
        ValueError: `path` holds a NUL character.
    """
    return _read(path, max_bytes=max_bytes, follow_links=follow_links, dir_fd=dir_fd, private=False)


def read_private_file(path: str | Path, *, max_bytes: int, dir_fd: int | None = None) -> bytes:
    """Return the content of a regular file that belongs to this user and to nobody else.

    Args:
        path: the file; relative to `dir_fd` if that is given. A symbolic link is refused.
        max_bytes: the largest size that is accepted.
        dir_fd: an open directory.

    Raises:
        UnusableFileError: it is not such a file, or is larger than `max_bytes`.
        OSError: it cannot be read.
    """
    return _read(path, max_bytes=max_bytes, follow_links=False, dir_fd=dir_fd, private=True)


def write_private_file(
    path: str | Path, content: bytes, *, replace: bool = True, dir_fd: int | None = None
) -> None:
    """Write a file with mode 0600. Readers see the old content or the new one, never a part.

    Args:
        path: the file; relative to `dir_fd` if that is given.
        content: all of it.
        replace: whether to replace an existing file.
        dir_fd: an open directory.

    Raises:
        FileExistsError: there is a file, which `replace` protects.
        OSError: it cannot be written; nothing has changed.
    """
    temporary = Path(path).with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(temporary, flags, 0o600, dir_fd=dir_fd), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if replace:
            os.replace(temporary, path, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        else:
            # Unlike a rename, a link never replaces what another process has just created.
            os.link(temporary, path, src_dir_fd=dir_fd, dst_dir_fd=dir_fd, follow_symlinks=False)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=dir_fd)


def _read(
    path: str | Path, *, max_bytes: int, follow_links: bool, dir_fd: int | None, private: bool
) -> bytes:
    # Opening a FIFO without O_NONBLOCK would wait for a writer.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow_links else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags, dir_fd=dir_fd)
    except OSError as error:
        if error.errno == ELOOP and not follow_links:
            raise UnusableFileError("it is a symbolic link") from None
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnusableFileError("it is not a regular file")
        if private and status.st_uid != os.geteuid():
            raise UnusableFileError("it belongs to another user")
        if private and status.st_mode & 0o077:
            raise UnusableFileError("it is accessible to other users")
        # The size of a file in /proc is 0, so that the limit is checked on what was read.
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            content = stream.read(max_bytes + 1)
    finally:
        os.close(descriptor)
    if len(content) > max_bytes:
        raise UnusableFileError(f"it is larger than {max_bytes} bytes")
    return content
