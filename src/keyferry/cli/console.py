"""What commands print: results on standard output, everything else on standard error.

`error: <what failed>` and `hint: <what to do>` report a failure, `warning: ...` a problem that the
command survives. `--quiet` suppresses everything but results of reads and errors.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click
from msgspec import Struct

from keyferry.telemetry.logs import configure_logs

if TYPE_CHECKING:
    from keyferry.errors import KeyferryError

_DETAILS = 2


class Console(Struct):
    """The output of one command, as its options `-q`, `-v` and `--debug` request it.

    Attributes:
        quiet: print only errors, and the data that the command was asked for.
        verbosity: 1 also logs what the engine does, 2 the details of each call.
        debug: print a traceback for each error.
        failure_code: the exit code of every failure; None for the code of the error.
    """

    quiet: bool = False
    verbosity: int = 0
    debug: bool = False
    failure_code: int | None = None

    def configure_logs(self) -> None:
        """Log to standard error if `verbosity` asks for it."""
        # -v is klog's level 1, and -vv level 2, which logs the details of each call.
        verbosity = 0 if self.verbosity < _DETAILS else _DETAILS
        configure_logs(as_json=False, verbosity=verbosity, quiet=not self.verbosity)

    def report(self, text: str) -> None:
        """Print what the command did to standard output, unless `quiet`."""
        if not self.quiet:
            click.echo(text)

    def note(self, text: str) -> None:
        """Print a message to standard error, unless `quiet`."""
        if not self.quiet:
            click.echo(text, err=True)

    def warn(self, text: str) -> None:
        """Print a warning to standard error, unless `quiet`."""
        if not self.quiet:
            click.echo(f"{_styled('warning:', 'yellow')} {text}", err=True)

    def error(self, problem: str, hint: str = "", *, at: str = "") -> None:
        """Print an error to standard error.

        Args:
            problem: what failed, and why.
            hint: what to do, or "".
            at: what precedes it, such as the time of day in a command that keeps running.
        """
        prefix = f"{at} " if at else ""
        click.echo(f"{prefix}{_styled('error:', 'red')} {problem}", err=True)
        if hint:
            click.echo(f"{prefix}{_styled('hint:', 'cyan')} {hint}", err=True)

    def failure(self, error: KeyferryError, *, at: str = "", note: str = "") -> None:
        """Print a `KeyferryError`.

        Args:
            error: the error.
            at: see `error`.
            note: a sentence that follows the problem, or "".
        """
        problem = error.problem.rstrip()
        if error.object_name and error.object_name.rpartition(" ")[2] not in problem:
            problem = f"{error.object_name}: {problem}"
        if error.detail:
            problem = f"{problem} ({error.detail})"
        if note:
            problem = f"{problem.removesuffix('.')}. {note}"
        self.error(problem, error.remedy, at=at)


def _styled(text: str, color: str) -> str:
    """Return `text` in a color; click removes it where standard error is not a terminal."""
    return text if os.environ.get("NO_COLOR") else click.style(text, fg=color, bold=True)


def console() -> Console:
    """Return the console of the command that runs."""
    context = click.get_current_context(silent=True)
    return (context.ensure_object(Console) if context else None) or Console()
