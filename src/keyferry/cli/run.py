"""`keyferry run`: a command with the objects of a SecretProviderClass as environment variables."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from keyferry.cli.commands import Command, command, option
from keyferry.cli.console import console
from keyferry.cli.exit_codes import ExitCode
from keyferry.cli.failures import HintedUsageError
from keyferry.cli.local.child import CommandError, find_program, replace_process, supervise
from keyferry.cli.local.engine import local_engine
from keyferry.cli.local.environment import (
    default_names,
    parse_assignment,
    parse_env_file,
    variables,
)
from keyferry.cli.local.options import PATH, LocalOptions, local_options
from keyferry.errors import RequestInvalidError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from keyferry.cli.local.content import FetchedContent
    from keyferry.cli.local.signals import StopSignal

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


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which objects become variables; without any, all files do.

    Attributes:
        assignments: pairs of variable and object.
        secrets: names of Secrets of `secretObjects`, whose keys are variables.
    """

    assignments: tuple[tuple[str, str], ...]
    secrets: tuple[str, ...]


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
    console().configure_logs()
    if not words:
        raise HintedUsageError("no command is given", f"{_USAGE}.")
    chosen = _Choice(
        (
            *(parse_assignment(text, "--env") for text in assignments),
            *(pair for path in env_files for pair in _read_env_file(path)),
        ),
        secrets,
    )
    try:
        program = find_program(words[0], os.environ.get("PATH", os.defpath))
        code, added, stop = asyncio.run(_run(options, chosen, program, words))
        if code is None:
            stop.check()
            replace_process(program, words, os.environ | added)
    except CommandError as error:
        console().error(error.problem, error.hint)
        code = error.code
    raise click.exceptions.Exit(code)


async def _run(
    options: LocalOptions, chosen: _Choice, program: str, words: Sequence[str]
) -> tuple[int | None, dict[str, str], StopSignal]:
    """Fetch the values, and return them for a command that replaces this process.

    Dynamic secrets are valid only while their leases are renewed. In this case the command runs as
    a child process meanwhile, its exit code is returned, and the leases are revoked.
    """
    async with local_engine(options) as engine:
        request = await engine.request(f"/run/keyferry/run-{os.getpid()}")
        content = await engine.fetch(request)
        added = variables(await _values(content, chosen))
        if not engine.has_leases:
            return None, added, engine.stop
        try:
            engine.stop.check()
            return await supervise(program, words, os.environ | added), {}, engine.stop
        finally:
            engine.release(request)


async def _values(content: FetchedContent, chosen: _Choice) -> dict[str, tuple[str, bytes]]:
    """Return the object and the value of each variable."""
    if not (chosen.assignments or chosen.secrets):
        names = default_names(file.path for file in content.files)
        return {name: (path, content.find(path).contents) for name, path in names.items()}
    values: dict[str, tuple[str, bytes]] = {}
    for secret in chosen.secrets:
        for key, value in (await content.secret_data(secret)).items():
            # Kubernetes, too, skips keys that cannot be names of variables; here it is an error.
            name, _ = parse_assignment(f"{key}=x", f"--env-from {secret}: key {key}")
            values[name] = (f"key {key} of secret {secret}", value)
    for name, object_name in chosen.assignments:
        file = content.find(object_name)
        values[name] = (file.path, file.contents)
    return values


def _read_env_file(path: Path) -> list[tuple[str, str]]:
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise RequestInvalidError(
            f"{path} cannot be read: {reason}", "Name a file with lines NAME=OBJECT."
        ) from None
    return parse_env_file(text, str(path))
