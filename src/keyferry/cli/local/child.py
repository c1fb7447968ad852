"""Runs the command of `keyferry run`."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from keyferry.cli.exit_codes import ExitCode
from keyferry.cli.flags.paths import PathKind, visible_kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_FORWARDED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_FROM_KEYS = {signal.SIGINT, signal.SIGQUIT}
_RESTORED = (signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that Python ignores."""


class CommandError(Exception):
    """The command cannot be started.

    Attributes:
        problem: why.
        hint: what to do, or "".
        code: the exit code, as `env` returns it.
    """

    def __init__(self, problem: str, hint: str, code: ExitCode) -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint
        self.code = code


def find_program(name: str, search_path: str) -> str:
    """Return the path of a program.

    Args:
        name: a path, or a name to search.
        search_path: the value of PATH.

    Raises:
        CommandError: it does not exist, or is not executable.
    """
    folders = [""] if "/" in name else search_path.split(os.pathsep)
    paths = [Path(folder, name) for folder in folders]
    found = [(path, kind) for path in paths if (kind := visible_kind(path)) is not PathKind.MISSING]
    for path, kind in found:
        if kind is PathKind.FILE and os.access(path, os.X_OK):
            return str(path)
    if found:
        first, kind = found[0]
        reason = kind.value if kind is PathKind.FOLDER else "is not executable"
        raise CommandError(
            f"{first} {reason}",
            "Name a program, or a script with permission to execute.",
            ExitCode.NOT_EXECUTABLE,
        )
    where = "does not exist" if "/" in name else "is not in a folder of PATH"
    raise CommandError(
        f"the command {name!r} {where}", "Check its name and PATH.", ExitCode.COMMAND_NOT_FOUND
    )


def replace_process(
    program: str, arguments: tuple[str, ...], environment: Mapping[str, str]
) -> NoReturn:
    """Replace this process by the command; signals and the exit code need no forwarding.

    Raises:
        CommandError: the kernel refuses to run it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    for number in _RESTORED:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execve(program, arguments, environment)  # noqa: S606 - without a shell
    except OSError as error:
        raise _start_error(program, error) from error


async def supervise(program: str, arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the command as a child process, forward signals, and return its exit code.

    Keys such as Ctrl-C reach the child from the terminal, so they are not forwarded as well.

    Raises:
        CommandError: the kernel refuses to run it.
    """
    loop = asyncio.get_running_loop()
    process: asyncio.subprocess.Process | None = None
    early: list[signal.Signals] = []

    def forward(number: signal.Signals) -> None:
        if process is None:
            early.append(number)
        elif not (number in _FROM_KEYS and _is_in_foreground()):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    # Before the child starts: none may be lost that arrives when it has just begun.
    for number in _FORWARDED:
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, forward, number)
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments, executable=program, env=environment
        )
    except OSError as error:
        raise _start_error(program, error) from error
    for number in early:
        forward(number)
    code = await process.wait()
    return code if code >= 0 else ExitCode.SIGNAL - code


def _is_in_foreground() -> bool:
    """Return whether the terminal sends the signals of its keys to this process and its child."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _start_error(program: str, error: OSError) -> CommandError:
    hint = ""
    match error.errno:
        case errno.ENOEXEC:
            hint = "A script must begin with a line such as #!/bin/sh."
        case errno.E2BIG:
            hint = "Choose fewer or smaller objects with --env, or use files (keyferry mount)."
        case errno.ENOENT:
            hint = "It exists, but its interpreter does not: check its first line."
    return CommandError(
        f"{program} cannot be executed: {error.strerror}", hint, ExitCode.NOT_EXECUTABLE
    )
