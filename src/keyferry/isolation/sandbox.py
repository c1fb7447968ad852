"""Removes the privileges of a child process before it reads the first byte of a tenant.

Order matters: namespaces and limits need privileges, and the user change gives them up.

Source: https://man7.org/linux/man-pages/man7/capabilities.7.html
Source: https://man7.org/linux/man-pages/man7/mount_namespaces.7.html
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.formats.mountinfo import mount_points
from keyferry.process import protect_memory

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_CLONE_NEWNS, _CLONE_NEWIPC, _CLONE_NEWNET = 0x00020000, 0x08000000, 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 24, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
MOUNT_SOURCE = "keyferry"
"""The source of the tmpfs mounts of volumes."""
_OOM_SCORE = "900"
"""The kernel ends a child process before the driver when the container runs out of memory."""


class Sandbox(Struct, frozen=True):
    """What a child process is left with.

    Attributes:
        uid: its user and group, which own nothing else. None in a process without privileges, which
            cannot change them and has no namespaces of its own; then only the limits apply.
        network: whether it can reach the network.
        hidden: folders that are empty for it.
        volume_source: the source of mounts that it must not keep alive.
        limits: hard limits by `resource.RLIMIT_*`.
        owned: folders that belong to it, with everything in them.
        visible: files and folders that it may read although a folder above them is private; their
            own modes still apply.
    """

    uid: int | None
    network: bool
    hidden: tuple[Path, ...]
    limits: Mapping[int, int]
    volume_source: str = MOUNT_SOURCE
    owned: tuple[Path, ...] = ()
    visible: tuple[Path, ...] = ()


def enter(sandbox: Sandbox) -> None:
    """Give up all privileges of this process that `sandbox` does not leave.

    1. Namespaces of its own: mounts, System V IPC, and the network unless it is needed.
    2. Folders of kubelet and of the driver are covered, and volumes are detached. Private folders
       are covered, too, except for what this program is made of.
    3. Limits, and the first choice of the kernel when memory runs out.
    4. No capability, another user, no way to get privileges back.
    5. It ends with its parent, writes no core dump, and cannot be read by its own user.

    Raises:
        OSError: the kernel refused a step.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    network = 0 if sandbox.network else _CLONE_NEWNET
    if sandbox.uid is not None:
        _check(libc.unshare(_CLONE_NEWNS | _CLONE_NEWIPC | network))
        _check(libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None))
        _hide(libc, sandbox)
        _reveal(libc, (*_program_folders(), *sandbox.visible))
        for folder in sandbox.owned:
            give(folder, sandbox.uid)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    for kind, limit in sandbox.limits.items():
        resource.setrlimit(kind, (limit, limit))
    if sandbox.uid is not None:
        _drop_privileges(libc, sandbox.uid)
    _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    protect_memory()
    end_with_parent()  # a user change resets it


def end_with_parent() -> None:
    """Let the kernel kill this process when the thread that forked it ends.

    Raises:
        OSError: the kernel refused.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))


def give(folder: Path, uid: int) -> None:
    """Make `uid` the owner of a folder and of all files in it; create the folder if it is missing.

    Raises:
        OSError: the folder is a link, or cannot be changed.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for parent, folders, files, descriptor in os.fwalk(folder, follow_symlinks=False):
        del parent
        os.fchown(descriptor, uid, uid)
        for name in (*folders, *files):
            os.chown(name, uid, uid, dir_fd=descriptor, follow_symlinks=False)


def _hide(libc: ctypes.CDLL, sandbox: Sandbox) -> None:
    """Detach volumes and everything below hidden folders, then cover those folders.

    A mount that stayed in this namespace would keep the content of a volume in memory after the
    driver has unmounted it.
    """
    hidden = [os.path.realpath(folder) for folder in sandbox.hidden]
    below = tuple(f"{folder}/" for folder in hidden)
    for point in reversed(mount_points()):
        if point.source == sandbox.volume_source or f"{point.path}/".startswith(below):
            libc.umount2(os.fsencode(point.path), _MNT_DETACH | _UMOUNT_NOFOLLOW)
    flags = _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    for folder in hidden:
        if os.path.isdir(folder):  # noqa: PTH112 (a str)
            options = b"size=4k,nr_inodes=1,mode=0555"
            _check(libc.mount(b"hidden", os.fsencode(folder), b"tmpfs", flags, options))


def _program_folders() -> tuple[Path, ...]:
    """Return the folders from which this program imports modules."""
    folders = (sys.prefix, sys.base_prefix, *(entry for entry in sys.path if entry))
    return tuple(Path(folder) for folder in dict.fromkeys(folders))


def _reveal(libc: ctypes.CDLL, paths: Iterable[Path]) -> None:
    """Make paths reachable for every user, by covering the private folders above them.

    The cover holds nothing but these paths, which are mounted into it read-only.
    """
    covered: dict[Path, list[Path]] = {}
    both = [form for path in paths for form in (path.absolute(), path.resolve())]
    for path in dict.fromkeys(both):
        private = next((each for each in reversed(path.parents) if _is_private(each)), None)
        if private is not None and path.exists():
            covered.setdefault(private, []).append(path)
    for folder, inside in covered.items():
        opened = [(path, os.open(path, os.O_PATH | os.O_CLOEXEC)) for path in inside]
        options = b"size=1m,mode=0755"
        _check(libc.mount(b"cover", os.fsencode(folder), b"tmpfs", _MS_NOSUID | _MS_NODEV, options))
        for path, descriptor in opened:
            if not path.exists():
                path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                    path.mkdir(mode=0o755)
                else:
                    path.touch(mode=0o644)
                source = f"/proc/self/fd/{descriptor}".encode()
                _check(libc.mount(source, os.fsencode(path), None, _MS_BIND, None))
            os.close(descriptor)


def _is_private(folder: Path) -> bool:
    return folder.is_dir() and not folder.stat().st_mode & stat.S_IXOTH


def _drop_privileges(libc: ctypes.CDLL, uid: int) -> None:
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for capability in range(last + 1):
        _check(libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0))
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    # Leaving user 0 clears the permitted and the effective capabilities.
    os.setresuid(uid, uid, uid)


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
