"""Run `keyferry driver` repeatedly, each time killed just before its n-th effect.

An effect is a call that changes the files or the mounts of the node. The interpreter reports every
system call that changes files to its audit hooks (PEP 578), so no effect is missed and the driver
needs no changes. The two calls that mount and unmount go through the C library and are wrapped.

Usage: python dying_driver.py POD-FOLDER MANIFEST-FOLDER [flags of keyferry driver]

Each line of standard input is a number n and starts a driver that is killed before its n-th effect
(0: not killed). Standard output reports `started PID`, `effect N WHAT PATH` and `ended
STATUS`. All drivers are forks of one process that has imported all modules, so a restart is fast.
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

from keyferry.cli.daemons.driver import DRIVER_FLAGS, settings_from
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
"""The position of the changed path in the arguments of each audit event."""

_FOLDER_ARGUMENT = {"os.mkdir": 2, "os.rmdir": 1, "os.remove": 1, "os.symlink": 2, "os.rename": 3}
"""The position of the descriptor of the folder that a relative path starts from."""

_HEAVY = (
    "keyferry.driver.node",
    "keyferry.formats.certs",
    "keyferry.providers.azure.provider",
    "keyferry.providers.vault.provider",
)
"""Modules that a driver imports only on first use."""


class Effects:
    """Counts the effects below some folders, and kills the process before one of them.

    Args:
        folders: only paths below these folders count.
        die_before: the number of the effect that does not happen; 0 to never kill.
    """

    def __init__(self, folders: tuple[str, ...], die_before: int) -> None:
        self._folders = folders
        self._die_before = die_before
        self._count = 0
        self._lock = threading.Lock()

    def audit(self, event: str, arguments: tuple[object, ...]) -> None:
        """Count the effect of an audit event; this is the audit hook."""
        if event not in _PATH_ARGUMENT:
            return
        if event == "open" and not _writes(arguments[2]):
            return
        path = _path(event, arguments)
        if path.startswith(self._folders):
            self.happens(event, path)

    def happens(self, what: str, path: str) -> None:
        """Report the effect `what` before it happens, or kill the process."""
        with self._lock:
            self._count += 1
            os.write(1, f"effect {self._count} {what} {path}\n".encode())
            if self._count == self._die_before:
                os.kill(os.getpid(), signal.SIGKILL)

    def wrap(self, what: str, call: Callable[..., None]) -> Callable[..., None]:
        """Return `call`, a TmpfsMounter method whose first argument is a target, as an effect."""

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
    """Return the absolute path of the event; empty if the descriptor has no path."""
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
