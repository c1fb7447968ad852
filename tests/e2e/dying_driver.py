"""Runs `keyferry driver` again and again, each time killed just before its n-th effect.

An effect is whatever changes the files or the mounts of the node. The interpreter calls its audit
hooks of every system call that changes files (PEP 578), so that no effect can be forgotten here and
the driver knows nothing of all this; the two calls that mount and unmount go through the C library
and are wrapped.

Usage: python dying_driver.py POD-FOLDER MANIFEST-FOLDER [flags of keyferry driver]

Each line of standard input is a number n and starts a driver that dies before its n-th effect; 0
lets it live. Standard output says `started PID`, `effect N WHAT PATH`, and `ended STATUS`. All
drivers are forks of one process that has imported everything, which makes a restart cheap.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from keyferry.cli.driver import DRIVER_FLAGS, settings_from
from keyferry.cli.flags.go_flags import parse_flags
from keyferry.driver.daemon import run_driver
from keyferry.driver.volumes.mounter import TmpfsMounter
from keyferry.telemetry.logs import configure_logs

_PATH_ARGUMENT = {
    "os.mkdir": 0,
    "os.rmdir": 0,
    "os.remove": 0,
    "os.chmod": 0,
    "os.chown": 0,
    "os.truncate": 0,
    "os.symlink": 1,
    "os.link": 1,
    "os.rename": 1,
    "open": 0,
}
"""Which argument of an audit event is the path that changes."""

_FOLDER_ARGUMENT = {"os.mkdir": 2, "os.rmdir": 1, "os.remove": 1, "os.symlink": 2, "os.rename": 3}
"""Which one is the descriptor of the folder that a relative path begins in."""

_HEAVY = ("keyferry.providers.azure.provider", "keyferry.formats.certs")
"""What a driver imports only when it is needed."""


class Effects:
    """Counts the effects below some folders, and dies before one of them.

    Args:
        folders: what lies elsewhere does not count.
        die_before: the number of the effect that does not happen; 0 lets all happen.
    """

    def __init__(self, folders: tuple[str, ...], die_before: int) -> None:
        self._folders = folders
        self._die_before = die_before
        self._count = 0
        self._lock = threading.Lock()

    def audit(self, event: str, arguments: tuple[object, ...]) -> None:
        """The audit hook."""
        if event not in _PATH_ARGUMENT:
            return
        if event == "open" and not _writes(arguments[2]):
            return
        path = _path(event, arguments)
        if path.startswith(self._folders):
            self.happens(event, path)

    def happens(self, what: str, path: str) -> None:
        """The effect `what` is about to happen."""
        with self._lock:
            self._count += 1
            os.write(1, f"effect {self._count} {what} {path}\n".encode())
            if self._count == self._die_before:
                os.kill(os.getpid(), signal.SIGKILL)

    def wrap(self, what: str, call: Callable[..., None]) -> Callable[..., None]:
        """`call`, a method of TmpfsMounts whose first argument is the target, as an effect."""

        def wrapped(mounts: TmpfsMounter, target: Path, *rest: object) -> None:
            self.happens(what, str(target))
            call(mounts, target, *rest)

        return wrapped


def main() -> None:
    """Fork a driver for each line of standard input."""
    folders, flags = tuple(f"{folder}/" for folder in sys.argv[1:3]), sys.argv[3:]
    settings = settings_from(parse_flags(flags, DRIVER_FLAGS))
    for module in _HEAVY:
        import_module(module)
    os.write(1, b"loaded\n")
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            effects = Effects(folders, int(line))
            # Set on the class, because run_driver builds the object itself.
            TmpfsMounter._call_mount = effects.wrap("mount", TmpfsMounter._call_mount)  # type: ignore[method-assign]
            TmpfsMounter._detach = effects.wrap("unmount", TmpfsMounter._detach)  # type: ignore[method-assign]
            sys.addaudithook(effects.audit)
            configure_logs(as_json=False, verbosity=0)
            asyncio.run(run_driver(settings))
            os._exit(0)
        os.write(1, f"started {pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        os.write(1, f"ended {os.waitstatus_to_exitcode(status)}\n".encode())


def _writes(flags: object) -> bool:
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def _path(event: str, arguments: tuple[object, ...]) -> str:
    """The absolute path that the event is about; empty for a descriptor that leads nowhere."""
    subject = arguments[_PATH_ARGUMENT[event]]
    if isinstance(subject, int):
        return _descriptor_path(subject)
    path = os.fsdecode(subject) if isinstance(subject, str | bytes | os.PathLike) else ""
    folder = arguments[_FOLDER_ARGUMENT[event]] if event in _FOLDER_ARGUMENT else -1
    if path.startswith("/") or not isinstance(folder, int) or folder < 0:
        return path
    return f"{_descriptor_path(folder)}/{path}"


def _descriptor_path(descriptor: int) -> str:
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
    except OSError:
        return ""


if __name__ == "__main__":
    main()
