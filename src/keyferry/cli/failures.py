"""Runs a command and turns every error into a message and an exit code."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keyferry import __version__
from keyferry.cli.console import Console
from keyferry.cli.exit_codes import ExitCode, exit_code
from keyferry.errors import KeyferryError

if TYPE_CHECKING:
    from collections.abc import Sequence


_STORAGE_HINT = "Free space on its file system, or write to another one."


class InterruptedBySignalError(Exception):
    """The command was interrupted by a signal.

    Attributes:
        number: the number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class HintedUsageError(click.UsageError):
    """The command line is invalid, and `hint` says what to write."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def run_command(command: click.Command, arguments: Sequence[str], *, name: str) -> int:
    """Run a command and return its exit code. No error escapes.

    Args:
        command: the command.
        arguments: the words after its name.
        name: its name in messages.
    """
    console = Console(debug="KEYFERRY_DEBUG" in os.environ)
    try:
        result = command.main(list(arguments), prog_name=name, standalone_mode=False, obj=console)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        return _broken_pipe()
    except Exception as error:  # noqa: BLE001 - the last resort
        if console.debug:
            traceback.print_exception(error)
        return _report(error, console, shlex.join([name, "--debug", *arguments]))
    return result if isinstance(result, int) else ExitCode.DONE


def _report(error: Exception, console: Console, debug_command: str) -> int:
    """Print `error` and return the exit code."""
    code: int = ExitCode.FAILED
    match error:
        case KeyferryError():
            code = exit_code(error)
            console.failure(error)
        case InterruptedBySignalError():
            code = ExitCode.SIGNAL + error.number
        case click.exceptions.Abort(__cause__=KeyboardInterrupt()):
            code = ExitCode.SIGNAL + signal.SIGINT
        case click.exceptions.Abort():
            console.error("standard input ended before an answer")
        case click.exceptions.NoArgsIsHelpError():
            code = ExitCode.INVALID
            click.echo(error.ctx.get_help(), err=True)
        case click.UsageError():
            code = error.exit_code
            console.error(_sentence(error), _usage_hint(error))
        case click.ClickException():
            code = error.exit_code
            console.error(_sentence(error))
        case OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EFBIG | errno.EIO):
            about = error.filename or "the output"
            console.error(f"{about} cannot be written: {error.strerror}", _STORAGE_HINT)
        case _:
            console.error(f"unexpected {_unexpected(error)}", _report_hint(debug_command))
    is_interrupted = code >= ExitCode.SIGNAL
    return int(code if is_interrupted else console.failure_code or code)


def _sentence(error: click.ClickException) -> str:
    """Return the message as other errors are written: lower case, without a period."""
    message = error.format_message()
    return message[:1].lower() + message[1:].removesuffix(".")


def _usage_hint(error: click.UsageError) -> str:
    if isinstance(error, HintedUsageError):
        return error.hint
    if error.ctx is None:
        return "Run the command with --help for its options and examples."
    return f"Run '{error.ctx.command_path} --help' for the options and examples."


def _unexpected(error: BaseException) -> str:
    """Describe an error without its text, which could quote a value."""
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if any(part.startswith("keyferry") for part in path.parts[:-1]):
            place = f" in {path.parent.name}/{path.name} line {frame.lineno}"
    described = f"{type(error).__name__}{place} of Keyferry {__version__}"
    if isinstance(error, OSError) and error.strerror:
        about = f"{error.filename}: " if error.filename else ""
        return f"{described}: {about}{error.strerror}"
    return described


def _report_hint(debug_command: str) -> str:
    return (
        f"This is a bug in Keyferry: report it {_issue_tracker()}."
        f" For a traceback, run: {debug_command}"
    )


def _issue_tracker() -> str:
    from importlib.metadata import PackageNotFoundError, metadata

    try:
        urls = metadata("keyferry").get_all("Project-URL") or []
    except PackageNotFoundError:
        urls = []
    for entry in urls:
        label, _, url = entry.partition(", ")
        if label.lower() in {"issues", "bug tracker", "tracker"}:
            return f"at {url}"
    return "to its maintainers"


def _broken_pipe() -> int:
    """Silence a closed standard output, as in `... | head -1`, and return the exit code."""
    # Else the interpreter complains when it flushes the stream.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.FAILED  # as click does for output of its own
