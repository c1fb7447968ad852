"""Where the files of a volume live: a tmpfs, or a private folder without the right to mount.

Both kinds answer the same three questions: what stands there, put a volume there, take it away.
Nothing that is not ours is emptied or removed: a mount bears our source name, a kubelet path has
its known shape, a folder holds the layout of `driver.atomic` and nothing else.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from keyferry.driver.publish.plan import VolumeState
from keyferry.driver.volumes.atomic_writer import (
    has_provider_written_files,
    is_written,
    looks_like_volume,
)
from keyferry.driver.volumes.target_paths import parse_volume_path
from keyferry.errors import VolumeError
from keyferry.formats.mountinfo import mount_points

if TYPE_CHECKING:
    from collections.abc import Iterator

MOUNT_SOURCE = "keyferry"
"""The source in /proc/mounts; it tells our mounts from those of others."""

_MS_NOSUID, _MS_NODEV = 2, 4
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_CORRUPTED_ERRNOS = {errno.ESTALE, errno.ENOTCONN, errno.EIO, errno.EACCES, errno.EHOSTDOWN}
_MAX_STACKED_MOUNTS = 16


class Mounter(Protocol):
    """One way of keeping the files of volumes. Every method blocks, and raises `VolumeError`."""

    source: str
    """Of its mounts in the kernel's table; "" where nothing is mounted."""

    def inspect(self, target: Path) -> VolumeState:
        """What stands at `target`; changes nothing."""

    def mount(self, target: Path, group: int | None = None) -> None:
        """Makes sure that an empty or written volume is there.

        A new one, and all that is ever written into it, belongs to the group with this id.
        """

    def unmount(self, target: Path, *, keep_folder: bool = False) -> None:
        """Takes away the volume with its files and, unless told otherwise, its folder.

        Fine when nothing is there.
        """


class TmpfsMounter:
    """A tmpfs for each volume.

    Mounted with mount(2), which takes a twentieth of a millisecond; the mount program takes two.
    """

    source = MOUNT_SOURCE

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def inspect(self, target: Path) -> VolumeState:
        """What stands at `target`: a mount is what lies on another device than its parent.

        Raises:
            VolumeError: a mount of somebody else, or a folder with content that a mount would hide.
        """
        with _as_volume_error("inspect", target):
            if not self._has_mount(target):
                _require_empty(target)
                return VolumeState.ABSENT
            _require_managed(target)
            try:
                if is_written(target):
                    return VolumeState.WRITTEN
                foreign = has_provider_written_files(target)
            except OSError as error:
                if error.errno in _CORRUPTED_ERRNOS:
                    return VolumeState.BROKEN
                raise
        return VolumeState.PROVIDER_WRITTEN if foreign else VolumeState.EMPTY

    def mount(self, target: Path, group: int | None = None) -> None:
        """Makes the folder if need be and mounts a tmpfs on it, unless one is there.

        A broken one is replaced.
        """
        state = self.inspect(target)
        with _as_volume_error("mount a tmpfs at", target):
            if state is VolumeState.BROKEN:
                self._detach(target)
            target.mkdir(mode=0o750, parents=True, exist_ok=True)
            if not _is_mount(target):
                self._mount_tmpfs(target, group)

    def unmount(self, target: Path, *, keep_folder: bool = False) -> None:
        """Empties the tmpfs, unmounts it and removes the folder."""
        with _as_volume_error("clean and unmount target path", target), suppress(FileNotFoundError):
            for _ in range(_MAX_STACKED_MOUNTS):
                if not self._has_mount(target):
                    break
                _require_managed(target)
                _clear_if_readable(target)
                self._detach(target)
            if _is_kubelet_volume(target) and _exists_as_folder(target):
                _clear(target)
            if not keep_folder:
                target.rmdir()

    def _has_mount(self, target: Path) -> bool:
        try:
            return _is_mount(target)
        except OSError as error:
            if error.errno in _CORRUPTED_ERRNOS:
                return True
            raise

    def _mount_tmpfs(self, target: Path, group: int | None) -> None:
        options = "mode=0755" if group is None else f"mode=2755,gid={group}"
        try:
            self._call_mount(target, f"{options},noswap")
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._call_mount(target, options)  # kernels before 6.4 know no noswap

    def _call_mount(self, target: Path, options: str) -> None:
        result = self._libc.mount(
            MOUNT_SOURCE.encode(),
            os.fsencode(target),
            b"tmpfs",
            ctypes.c_ulong(_MS_NOSUID | _MS_NODEV),
            options.encode(),
        )
        _check_result(result, target)

    def _detach(self, target: Path) -> None:
        path = os.fsencode(target)
        try:
            _check_result(self._libc.umount2(path, _UMOUNT_NOFOLLOW), target)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            # A process still looks into it. Waiting would keep the pod in Terminating; the files
            # are gone already.
            _check_result(self._libc.umount2(path, _UMOUNT_NOFOLLOW | _MNT_DETACH), target)


class DirectoryMounter:
    """A private folder (0700) for each volume, for an ordinary user.

    The files are on disk, which the caller must say aloud.
    """

    source = ""

    def inspect(self, target: Path) -> VolumeState:
        """What stands at `target`.

        Raises:
            VolumeError: a folder with content that is not a volume's.
        """
        with _as_volume_error("inspect", target):
            if not _exists_as_folder(target):
                return VolumeState.ABSENT
            if not looks_like_volume(target):
                raise _not_empty_error(target)
        return VolumeState.WRITTEN if is_written(target) else VolumeState.ABSENT

    def mount(self, target: Path, group: int | None = None) -> None:
        """Makes the folder, for its owner only; a group has no part in it."""
        self.inspect(target)
        with _as_volume_error("make", target):
            target.mkdir(mode=0o700, parents=True, exist_ok=True)
            target.chmod(0o700)

    def unmount(self, target: Path, *, keep_folder: bool = False) -> None:
        """Removes the folder with its files."""
        with _as_volume_error("remove", target):
            if not _exists_as_folder(target):
                return
            if not looks_like_volume(target):
                raise _not_managed_error(target)
            _clear(target)
            if not keep_folder:
                target.rmdir()


def can_mount() -> bool:
    """Whether this process has the right to mount (CAP_SYS_ADMIN in effect)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> 21 & 1)
    return False


def _is_mount(target: Path) -> bool:
    """Whether `target` is a folder on another device than its parent; False when it is absent."""
    return _exists_as_folder(target) and target.lstat().st_dev != target.parent.stat().st_dev


def _exists_as_folder(target: Path) -> bool:
    """Whether a folder is there.

    A link or a file in that place is an error, because a mount would follow it.
    """
    try:
        mode = target.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(mode):
        raise VolumeError(
            f"the target {target} is not a folder", "Remove it, or name another target path."
        )
    return True


def _is_kubelet_volume(target: Path) -> bool:
    return parse_volume_path(str(target)) is not None


def _require_managed(target: Path) -> None:
    if not (_is_kubelet_volume(target) or _source_of(target) == MOUNT_SOURCE):
        raise _not_managed_error(target)


def _require_empty(target: Path) -> None:
    """What kubelet's own folder holds is a leftover; anywhere else it belongs to somebody."""
    if not _is_kubelet_volume(target) and _exists_as_folder(target) and any(target.iterdir()):
        raise _not_empty_error(target)


def _not_empty_error(target: Path) -> VolumeError:
    return VolumeError(
        f"the folder {target} is not empty and its content is not a volume of Keyferry",
        "Name a folder that does not exist yet, or an empty one.",
    )


def _not_managed_error(target: Path) -> VolumeError:
    return VolumeError(
        f"{target} is not a volume of Keyferry, so nothing in it is touched",
        "Check the path; unmount or remove it by hand if it is yours.",
    )


def _source_of(target: Path) -> str:
    """The source of the uppermost mount at `target`; empty when nothing is mounted there."""
    wanted = str(target.parent.resolve() / target.name)
    return next((point.source for point in reversed(mount_points()) if point.path == wanted), "")


def _clear(target: Path) -> None:
    """Removes every entry below `target`; never follows a link."""
    with os.scandir(target) as scanned:
        entries = list(scanned)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)  # noqa: PTH108


def _clear_if_readable(target: Path) -> None:
    try:
        _clear(target)
    except OSError as error:
        if error.errno not in _CORRUPTED_ERRNOS:
            raise


def _check_result(result: int, target: Path) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


@contextmanager
def _as_volume_error(action: str, target: Path) -> Iterator[None]:
    """Turns what the system says into a `VolumeError`: "failed to `action` `target`"."""
    try:
        yield
    except OSError as error:
        remedy = "Check the folder and its file system on this node."
        if error.errno in (errno.EPERM, errno.EACCES):
            remedy = "Check the permissions of the folder; the driver needs the right to mount."
        raise VolumeError(
            f"failed to {action} {target}: {error.strerror or error}", remedy
        ) from error
