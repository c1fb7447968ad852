"""The process that forks the child processes of the driver.

The driver itself cannot fork: its threads (gRPC) would leave a child with locks that nobody
releases. So it forks the spawner first, before any thread exists. The spawner has imported what its
children run, so that they start within milliseconds and share its memory. It reads nothing but the
commands of the driver, and ends with the driver.
"""

from __future__ import annotations

import asyncio
import gc
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, NoReturn

from msgspec import Struct

from keyferry.isolation.sandbox import end_with_parent, enter
from keyferry.process import pausing_gc
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from keyferry.isolation.sandbox import Sandbox

_MAX_COMMAND_BYTES = 64
_log = get_logger("isolation")


class Role(Enum):
    """What a child process runs."""

    PROVIDERS = "providers"
    """The built-in providers."""
    PARSER = "parser"
    """Parse jobs."""


class ChildProgram(Struct, frozen=True):
    """A program of a child process.

    Attributes:
        sandbox: the rights that it keeps.
        run: serves the driver over a socket until the driver closes it.
    """

    sandbox: Sandbox
    run: Callable[[socket.socket], None]


class ChildProcess(Struct):
    """A running child process.

    Attributes:
        pid: its process id.
        connection: the socket to it; the caller closes it.
        pidfd: a descriptor that becomes readable when it ends.
    """

    pid: int
    connection: socket.socket
    pidfd: int

    def kill(self) -> None:
        """End the process at once. A no-op if it has ended."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    async def wait(self, seconds: float) -> None:
        """Wait until the process has ended, at most for `seconds`."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(self.pidfd, ended.set)
        try:
            async with asyncio.timeout(seconds):
                await ended.wait()
        except TimeoutError:
            pass
        finally:
            loop.remove_reader(self.pidfd)

    def close(self) -> None:
        """End the process and close the descriptors."""
        self.kill()
        self.connection.close()
        os.close(self.pidfd)


class Spawner:
    """Starts child processes. Create it before any thread and any event loop exists.

    Its process ends with the main thread, which forks it.

    Args:
        programs: what each role runs.
        preload: imports what only the children need; called in the spawner, before its first
            child. None if all is imported.
    """

    def __init__(
        self, programs: Mapping[Role, ChildProgram], preload: Callable[[], None] | None = None
    ) -> None:
        own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sys.stdout.flush()
        sys.stderr.flush()
        # Frozen objects are not touched by the garbage collector, so that they stay shared.
        gc.freeze()
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            own.close()
            _serve(other, parent, programs, preload)
        other.close()
        self._commands = own
        self._lock = asyncio.Lock()
        self._ended = False

    async def start(self, role: Role) -> ChildProcess:
        """Start a child process.

        Raises:
            OSError: the spawner has ended, or a process cannot be created.
        """
        loop = asyncio.get_running_loop()
        own, other = socket.socketpair()
        try:
            async with self._lock:
                self._commands.setblocking(True)
                pid, pidfd = await loop.run_in_executor(None, self._request, role, other)
        except BaseException:
            own.close()
            raise
        finally:
            other.close()
        own.setblocking(False)
        return ChildProcess(pid, own, pidfd)

    def _request(self, role: Role, connection: socket.socket) -> tuple[int, int]:
        socket.send_fds(self._commands, [role.value.encode()], [connection.fileno()])
        answer, descriptors, _, _ = socket.recv_fds(self._commands, _MAX_COMMAND_BYTES, 1)
        if not answer or not descriptors:
            raise OSError("the process that starts child processes has ended or is out of memory")
        return int(answer), descriptors[0]

    def problem(self) -> str | None:
        """Return why no further process can be started, or None."""
        if not self._ended:
            self._ended = os.waitpid(self._pid, os.WNOHANG)[0] != 0
        return "the process that starts child processes has ended" if self._ended else None

    def close(self) -> None:
        """End the spawner; its children end when their connections are closed."""
        self._commands.close()
        if not self._ended:
            os.waitpid(self._pid, 0)


def _serve(
    commands: socket.socket,
    parent: int,
    programs: Mapping[Role, ChildProgram],
    preload: Callable[[], None] | None,
) -> NoReturn:
    """Fork a child for each command until the driver, `parent`, closes the connection or ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    woken, wake = socket.socketpair()
    for each in (woken, wake):
        each.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        # Without this, it would notice the end of a killed driver only after the imports.
        end_with_parent()
        if os.getppid() != parent:
            os._exit(0)
        _import_for_children(preload)
        while True:
            ready, _, _ = select.select([commands, woken], [], [])
            if woken in ready:
                woken.recv(4096)
                _reap()
            if commands in ready:
                command, descriptors, _, _ = socket.recv_fds(commands, _MAX_COMMAND_BYTES, 1)
                if not command:
                    break
                _fork(commands, programs[Role(command.decode())], descriptors[0])
    finally:
        os._exit(0)


def _import_for_children(preload: Callable[[], None] | None) -> None:
    if preload is None:
        return
    try:
        with pausing_gc():
            preload()
    except Exception as error:
        _log.error("modules of child processes cannot be imported", type=type(error).__name__)
        raise


def _fork(commands: socket.socket, program: ChildProgram, descriptor: int) -> None:
    try:
        pid = os.fork()
    except OSError:
        os.close(descriptor)
        commands.send(b"0")
        return
    if pid == 0:
        _run(program, descriptor)
    os.close(descriptor)
    # The child has not been reaped, so its number cannot belong to another process.
    pidfd = os.pidfd_open(pid)
    try:
        socket.send_fds(commands, [str(pid).encode()], [pidfd])
    finally:
        os.close(pidfd)


def _run(program: ChildProgram, descriptor: int) -> NoReturn:
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _close_descriptors(keep=descriptor)
        enter(program.sandbox)
        program.run(socket.socket(fileno=descriptor))
        status = 0
    except BaseException as error:  # noqa: BLE001 (the process ends here)
        _log.error("child process failed", type=type(error).__name__, error=_reason(error))
    finally:
        os._exit(status)


def _reason(error: BaseException) -> str:
    """Return what the kernel refused; the text of another exception may quote a value."""
    return error.strerror or "" if isinstance(error, OSError) else ""


def _close_descriptors(*, keep: int) -> None:
    """Close everything but the standard streams and one descriptor."""
    os.closerange(3, keep)
    os.closerange(keep + 1, os.sysconf("SC_OPEN_MAX"))


def _reap() -> None:
    """Let the kernel forget children that have ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
