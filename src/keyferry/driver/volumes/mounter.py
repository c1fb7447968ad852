"""Mounts and unmounts volumes: as a tmpfs, or as a private folder without the right to mount.

Only volumes of Keyferry are emptied or removed: a mount has our source name, a kubelet path has its
known shape, and a folder holds the layout of `atomic_writer` and nothing else.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from keyferry.content import DEFAULT_MAX_BYTES
from keyferry.driver.volumes.atomic_writer import (
    DATA_DIR_NAME,
    has_provider_written_files,
    is_written,
    looks_like_volume,
)
from keyferry.driver.volumes.state import VolumeState
from keyferry.driver.volumes.target_paths import parse_volume_path
from keyferry.driver.volumes.trees import clear_folder
from keyferry.errors import VolumeError
from keyferry.formats.mountinfo import mount_points
from keyferry.formats.volume_paths import MAX_ENTRIES, MAX_FILES
from keyferry.isolation.sandbox import MOUNT_SOURCE
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_log = get_logger("mount")


_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_CORRUPTED_ERRNOS = {errno.ESTALE, errno.ENOTCONN, errno.EIO, errno.EACCES, errno.EHOSTDOWN}
_MAX_STACKED_MOUNTS = 16
_LAYOUT_INODES = 16
"""The root, `..data` and the timestamped folders; a few more than there are."""


ContentId = tuple[int, int]
"""Device and inode."""


class Mounter(Protocol):
    """Mounts volumes. Every method blocks, and raises `VolumeError` when it fails."""

    source: str
    """The source of its mounts in /proc/mounts; "" where nothing is mounted."""

    def inspect(self, target: Path) -> VolumeState:
        """Return the state of `target` without changing it."""

    def content_id(self, target: str) -> ContentId | None:
        """Return what identifies the written content of `target`; None without one.

        It does not block. While it is the same, `inspect` returns `WRITTEN`.
        """

    def mount(self, target: Path, group: int | None = None) -> None:
        """Make sure that a volume, empty or with content, is at `target`.

        Args:
            target: the mount point.
            group: the id of the group that a new volume and everything in it belongs to; None for
                the group of this process.
        """

    def unmount(self, target: Path, *, keep_folder: bool = False) -> None:
        """Remove the volume with its files; a no-op if nothing is there.

        Args:
            target: the mount point.
            keep_folder: keep the empty folder `target`.
        """


class TmpfsMounter:
    """Mounts a tmpfs for each volume.

    It calls mount(2), which takes 0.05 ms; the mount program takes 2 ms.

    Args:
        max_bytes: the maximum size of the files of a volume. The tmpfs has room for two sets of
            them, because new files are written beside the old ones.
    """

    source = MOUNT_SOURCE

    def __init__(self, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self._limits = _tmpfs_limits(max_bytes)
        self._libc = ctypes.CDLL(None, use_errno=True)

    def inspect(self, target: Path) -> VolumeState:
        """Return the state of `target`; a folder on another device than its parent is a mount.

        Raises:
            VolumeError: `target` is a mount that Keyferry does not manage, or a folder with content
                that a mount would hide.
        """
        with _as_volume_error("inspect", target):
            if not self._has_mount(target):
                _require_empty(target)
                return VolumeState.ABSENT
            _require_managed(target)
            try:
                if is_written(target):
                    return VolumeState.WRITTEN
                has_files = has_provider_written_files(target)
            except OSError as error:
                if error.errno in _CORRUPTED_ERRNOS:
                    return VolumeState.BROKEN
                raise
        return VolumeState.PROVIDER_WRITTEN if has_files else VolumeState.EMPTY

    def content_id(self, target: str) -> ContentId | None:
        """Return the device and the inode of the folder with the files.

        Each tmpfs is a device of its own, so a volume that was unmounted, mounted over or written
        again has another id. One call of stat(2) shows that.
        """
        try:
            status = os.stat(f"{target}/{DATA_DIR_NAME}")  # noqa: PTH116 - takes half the time
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def mount(self, target: Path, group: int | None = None) -> None:
        """Mount a tmpfs at `target`, unless one is there; a broken mount is replaced."""
        state = self.inspect(target)
        with _as_volume_error("mount a tmpfs at", target):
            if state is VolumeState.BROKEN:
                self._detach(target)
            target.mkdir(mode=0o750, parents=True, exist_ok=True)
            if not _is_mount(target):
                self._mount_tmpfs(target, group)

    def unmount(self, target: Path, *, keep_folder: bool = False) -> None:
        """Empty the tmpfs, unmount it and remove the folder."""
        with _as_volume_error("clean and unmount target path", target), suppress(FileNotFoundError):
            for _ in range(_MAX_STACKED_MOUNTS):
                if not self._has_mount(target):
                    break
                _require_managed(target)
                _clear_before_unmount(target)
                self._detach(target)
            _remove_mount_point(target, keep_folder=keep_folder)

    def _has_mount(self, target: Path) -> bool:
        try:
            return _is_mount(target)
        except OSError as error:
            if error.errno in _CORRUPTED_ERRNOS:
                return True
            raise

    def _mount_tmpfs(self, target: Path, group: int | None) -> None:
        owner = "mode=0755" if group is None else f"mode=2755,gid={group}"
        options = f"{owner},{self._limits}"
        try:
            self._call_mount(target, f"{options},noswap")
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._call_mount(target, options)  # noswap needs Linux 6.4

    def _call_mount(self, target: Path, options: str) -> None:
        result = self._libc.mount(
            MOUNT_SOURCE.encode(),
            os.fsencode(target),
            b"tmpfs",
            ctypes.c_ulong(_MS_NOSUID | _MS_NODEV | _MS_NOEXEC),
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
            # A process still uses the mount. Waiting would keep the pod in Terminating, and the
            # files have been removed already.
            _check_result(self._libc.umount2(path, _UMOUNT_NOFOLLOW | _MNT_DETACH), target)


class DirectoryMounter:
    """Makes a private folder (0700) for each volume, for a process that cannot mount.

    The files are on disk; the caller must warn about it.
    """

    source = ""

    def inspect(self, target: Path) -> VolumeState:
        """Return the state of `target`.

        Raises:
            VolumeError: `target` is a folder with content that is not a volume of Keyferry.
        """
        with _as_volume_error("inspect", target):
            if not _exists_as_folder(target):
                return VolumeState.ABSENT
            if not looks_like_volume(target):
                raise _not_empty_error(target)
        return VolumeState.WRITTEN if is_written(target) else VolumeState.ABSENT

    def content_id(self, target: str) -> ContentId | None:
        """Return None: `inspect` also looks for files that are not of Keyferry."""
        del target
        return None

    def mount(self, target: Path, group: int | None = None) -> None:
        """Make the folder, with access for its owner only; `group` is ignored."""
        self.inspect(target)
        with _as_volume_error("make", target):
            target.mkdir(mode=0o700, parents=True, exist_ok=True)
            target.chmod(0o700)

    def unmount(self, target: Path, *, keep_folder: bool = False) -> None:
        """Remove the folder with its files."""
        with _as_volume_error("remove", target):
            if not _exists_as_folder(target):
                return
            if not looks_like_volume(target):
                raise _not_managed_error(target)
            clear_folder(target)
            if not keep_folder:
                target.rmdir()


def _tmpfs_limits(max_bytes: int) -> str:
    """Return the options `size` and `nr_inodes` for two sets of files.

    Each file takes whole pages, and so does a link with a long destination. There are links for
    both sets for a moment.
    """
    page = os.sysconf("SC_PAGE_SIZE")
    size = 2 * (max_bytes + 2 * MAX_FILES * page)
    inodes = 2 * (MAX_ENTRIES + MAX_FILES) + _LAYOUT_INODES
    return f"size={size},nr_inodes={inodes}"


def _is_mount(target: Path) -> bool:
    """Whether `target` is a folder on another device than its parent."""
    return _exists_as_folder(target) and target.lstat().st_dev != target.parent.stat().st_dev


def _exists_as_folder(target: Path) -> bool:
    """Whether `target` is a folder.

    A link or a file at `target` is an error, because a mount would follow the link.
    """
    try:
        mode = target.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(mode):
        raise VolumeError(
            f"the target {target} is not a folder", "Remove it, or choose another target path."
        )
    return True


def _is_kubelet_volume(target: Path) -> bool:
    return parse_volume_path(str(target)) is not None


def _require_managed(target: Path) -> None:
    if not (_is_kubelet_volume(target) or _source_of(target) == MOUNT_SOURCE):
        raise _not_managed_error(target)


def _require_empty(target: Path) -> None:
    """Raise unless `target` may be mounted over.

    Files in a target folder of kubelet are left over from a failed unmount; files in any other
    folder belong to the user.
    """
    if not _is_kubelet_volume(target) and _exists_as_folder(target) and any(target.iterdir()):
        raise _not_empty_error(target)


def _not_empty_error(target: Path) -> VolumeError:
    return VolumeError(
        f"the folder {target} is not empty and is not a volume of Keyferry",
        "Choose an empty folder, or one that does not exist yet.",
    )


def _not_managed_error(target: Path) -> VolumeError:
    return VolumeError(
        f"{target} is not a volume of Keyferry, so it is not unmounted or changed",
        "Check the path; unmount or remove it manually if nothing else needs it.",
    )


def _source_of(target: Path) -> str:
    """Return the source of the topmost mount at `target`; "" when nothing is mounted there."""
    path = str(target.parent.resolve() / target.name)
    return next((point.source for point in reversed(mount_points()) if point.path == path), "")


def _clear_before_unmount(target: Path) -> None:
    """Remove the files of a tmpfs, in which a process of the pod may still have open folders.

    A failure does not keep the volume mounted: its content ends with its last user.
    """
    try:
        clear_folder(target)
    except OSError as error:
        if error.errno not in _CORRUPTED_ERRNOS:
            _log.warning(
                "volume is unmounted with its files, because they cannot be removed",
                targetPath=target,
                error=error.strerror,
            )


def _remove_mount_point(target: Path, *, keep_folder: bool) -> None:
    """Remove `target` and what a failed unmount left in it, if it is a target folder of kubelet.

    An empty folder is removed without an open descriptor, so that a volume can be unmounted when
    the process has none left.
    """
    is_kubelet_volume = _is_kubelet_volume(target)
    if not keep_folder:
        try:
            target.rmdir()
        except OSError as error:
            if error.errno != errno.ENOTEMPTY or not is_kubelet_volume:
                raise
        else:
            return
    if is_kubelet_volume and _exists_as_folder(target):
        clear_folder(target)
    if not keep_folder:
        target.rmdir()


def _check_result(result: int, target: Path) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


@contextmanager
def _as_volume_error(action: str, target: Path) -> Iterator[None]:
    """Translate an OSError into a `VolumeError`: "failed to `action` `target`"."""
    try:
        yield
    except OSError as error:
        remedy = "Check the folder and its file system on this node."
        if error.errno in (errno.EPERM, errno.EACCES):
            remedy = "Check the permissions of the folder; the driver needs the right to mount."
        raise VolumeError(
            f"failed to {action} {target}: {error.strerror or error}", remedy
        ) from error
