"""A folder for what the next process is to know, in memory by nature and for our eyes only.

What is no tmpfs or ramfs is refused, so nothing of it can reach a disk or outlive the machine's
running; so is what others may look into. It is held open, so no link leads elsewhere later.
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from keyferry.errors import PlatformError, Stage

MAX_RECORD_BYTES = 16 * 1024 * 1024
"""A larger file is none of ours."""
_IN_MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs"})
_FILE_MODE = 0o600


class TmpfsDirectory:
    """The files of one provider, by name.

    Args:
        path: of the folder, which is made where it is missing.

    Raises:
        PlatformError: it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(path, flags)
        except OSError as error:
            problem = "it is a link" if path.is_symlink() else error.strerror or "it has no place"
            raise _directory_error(path, problem) from error
        try:
            self._check_private(path)
        except BaseException:
            os.close(self._descriptor)
            raise

    def names(self) -> list[str]:
        """Of all files; what was never finished is removed.

        Raises:
            OSError: the folder cannot be read.
        """
        found = sorted(os.listdir(self._descriptor))  # noqa: PTH208 - what is held open, whatever the path is now
        for name in found:
            if name.startswith("."):
                self.remove(name)
        return [name for name in found if not name.startswith(".")]

    def read(self, name: str) -> bytes:
        """A whole file.

        Raises:
            OSError: it cannot be read, or is not a plain file of ours.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, dir_fd=self._descriptor), "rb") as stream:
            found = os.fstat(stream.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                raise PermissionError
            if found.st_mode & 0o077 or found.st_size > MAX_RECORD_BYTES:
                raise PermissionError
            return stream.read()

    def write(self, name: str, content: bytes) -> None:
        """A file, whole or as it was before.

        Raises:
            OSError: there is no room.
        """
        temporary = f".{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(temporary, flags, _FILE_MODE, dir_fd=self._descriptor)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
            os.replace(temporary, name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        except BaseException:
            self.remove(temporary)
            raise

    def remove(self, name: str) -> None:
        """No such file any more."""
        with suppress(OSError):
            os.unlink(name, dir_fd=self._descriptor)

    def close(self) -> None:
        """Let go of the folder; the files stay."""
        os.close(self._descriptor)

    def _check_private(self, path: Path) -> None:
        found = os.fstat(self._descriptor)
        if found.st_uid != os.geteuid():
            raise _directory_error(path, "it belongs to another user")
        if found.st_mode & 0o077:
            raise _directory_error(path, "others than its owner may use it")
        kind = _file_system_of(found.st_dev)
        if kind not in _IN_MEMORY_FILE_SYSTEMS:
            raise _directory_error(
                path, f"it is not in memory, but on {kind or 'an unknown file system'}"
            )


def _file_system_of(device: int) -> str:
    """The kind of file system of a device (proc(5): fields 3 and, after the hyphen, 1)."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            before, _, after = line.partition(" - ")
            if before.split()[2] == wanted:
                return after.split()[0]
    return ""


def _directory_error(path: Path, problem: str) -> PlatformError:
    return PlatformError(
        f"the folder of leases {path} cannot be used: {problem}",
        "Let --lease-dir name a folder on a tmpfs, such as /run/keyferry.",
        stage=Stage.STORE,
    )
