"""`keyferry run`: a command with the objects of a SecretProviderClass as environment variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from keyferry.cli.commands import Command, command, option
from keyferry.cli.console import console
from keyferry.cli.exit_codes import ExitCode
from keyferry.cli.failures import HintedUsageError
from keyferry.cli.local.options import PATH, LocalOptions, local_options

if TYPE_CHECKING:
    from pathlib import Path

_USAGE = "Write: keyferry run CLASS.yaml -- COMMAND ARGUMENTS"


class _RunCommand(Command):
    """Has the exit codes of `env` for its own failures, and explains options without `--`."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: object,
    ) -> click.Context:
        if parent is not None:
            parent.ensure_object(type(console())).failure_code = ExitCode.RUN_FAILED
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.NoSuchOption as error:
            if "--" in args:
                raise
            raise HintedUsageError(
                error.format_message(), f"For an option of the command, write -- first. {_USAGE}."
            ) from error


@command(
    cls=_RunCommand,
    examples=(
        "keyferry run app.yaml -- python manage.py migrate",
        "keyferry run app.yaml --env DB_PASSWORD=db-password --env API_KEY=api-key -- ./server",
        "keyferry run app.yaml --env-file secrets.env -- sh -c 'psql \"$DATABASE_URL\"'",
    ),
)
@local_options
@option(
    "--env",
    "assignments",
    multiple=True,
    metavar="NAME=OBJECT",
    section="Variables",
    help="Set variable NAME to an object: its alias, name or path. May be repeated.",
)
@option(
    "--env-file",
    "env_files",
    type=PATH,
    multiple=True,
    metavar="FILE",
    section="Variables",
    help="File with lines NAME=OBJECT. May be repeated.",
)
@option(
    "--env-from",
    "secrets",
    multiple=True,
    metavar="SECRET",
    section="Variables",
    help="Set the variables that envFrom of this Secret of secretObjects gives a pod. May be"
    " repeated.",
)
@click.argument("words", metavar="-- COMMAND [ARGUMENTS]...", nargs=-1, type=click.UNPROCESSED)
def run(
    options: LocalOptions,
    assignments: tuple[str, ...],
    env_files: tuple[Path, ...],
    secrets: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    """Run a command with the objects of a SecretProviderClass as environment variables.

    Each object is a variable: db-password becomes DB_PASSWORD. With --env, --env-file or
    --env-from, only the chosen objects are variables. The values are only in the environment of the
    command, never in a file or an argument.

    The exit code is that of the command; 125 if keyferry fails, 126 if the command cannot be
    executed, 127 if it is not found.
    """
    from keyferry.cli.local.running import run_with_variables

    console().configure_logs()
    if not words:
        raise HintedUsageError("no command is given", f"{_USAGE}.")
    code = run_with_variables(options, assignments, env_files, secrets, words)
    raise click.exceptions.Exit(code)
