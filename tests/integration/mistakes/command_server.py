"""Runs commands of `keyferry` as an ordinary user, one process each, without starting Python again.

It imports everything once and forks for each command, so that 150 commands take seconds. Started as
root, the commands run as `nobody`, because root meets neither missing permissions nor a tmpfs.

One line of JSON on stdin is a command (`CommandRequest`); one line on stdout is its result
(`CommandReply`).
"""

from __future__ import annotations

import os
import pwd
import signal
import sys
import tempfile
import traceback
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

import msgspec

from keyferry.cli import main
from tests.e2e.as_nobody import import_everything

TIMEOUT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """A command to run.

    Attributes:
        argv: the arguments after `keyferry`.
        folder: working directory and home.
        environ: environment variables beside HOME.
        stdin: the text on standard input.
    """

    argv: tuple[str, ...]
    folder: str
    environ: dict[str, str]
    stdin: str


@dataclass(frozen=True, slots=True)
class CommandReply:
    """What a command printed, and its exit code (-1: it was killed because it did not end)."""

    exit_code: int
    stdout: str
    stderr: str


def _run(request: CommandRequest) -> CommandReply:
    with (
        tempfile.TemporaryFile() as stdin,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        stdin.write(request.stdin.encode())
        stdin.seek(0)
        child = os.fork()
        if child == 0:
            _become_command(request, stdin, out, err)
        exit_code = _wait(child)
        out.seek(0)
        err.seek(0)
        return CommandReply(exit_code, out.read().decode(), err.read().decode())


def _wait(child: int) -> int:
    signal.alarm(TIMEOUT_SECONDS)
    try:
        _, status = os.waitpid(child, 0)
    except TimeoutError:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return -1
    finally:
        signal.alarm(0)
    return os.waitstatus_to_exitcode(status)


def _become_command(
    request: CommandRequest, stdin: IO[bytes], out: IO[bytes], err: IO[bytes]
) -> None:
    code = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        for number, file in enumerate((stdin, out, err)):
            os.dup2(file.fileno(), number)
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.setgroups([])
            os.setgid(nobody.pw_gid)
            os.setuid(nobody.pw_uid)
        os.chdir(request.folder)
        os.environ.clear()
        os.environ.update(request.environ, HOME=request.folder, PATH="/usr/bin:/bin")
        sys.argv = ["keyferry", *request.argv]
        main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:  # noqa: BLE001 - a traceback is what the tests look for
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _on_alarm(_number: int, _frame: object) -> None:
    raise TimeoutError


def serve() -> None:
    """Run the commands that arrive on stdin until it is closed."""
    import_everything()
    signal.signal(signal.SIGALRM, _on_alarm)
    for line in sys.stdin.buffer:
        request = msgspec.json.decode(line, type=CommandRequest)
        sys.stdout.buffer.write(msgspec.json.encode(_run(request)) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve()
