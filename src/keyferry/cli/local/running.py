"""Fetches the variables of `keyferry run`, and runs its command."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.cli.console import console
from keyferry.cli.local.child import CommandError, find_program, replace_process, supervise
from keyferry.cli.local.engine import local_engine
from keyferry.cli.local.environment import (
    default_names,
    parse_assignment,
    parse_env_file,
    variables,
)
from keyferry.errors import RequestInvalidError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from keyferry.cli.local.content import FetchedContent
    from keyferry.cli.local.options import LocalOptions
    from keyferry.cli.local.signals import StopSignal


class _Choice(Struct, frozen=True):
    """Which objects become variables; without any, all files do.

    Attributes:
        assignments: pairs of variable and object.
        secrets: names of Secrets of `secretObjects`, whose keys are variables.
    """

    assignments: tuple[tuple[str, str], ...]
    secrets: tuple[str, ...]


def run_with_variables(
    options: LocalOptions,
    assignments: Sequence[str],
    env_files: Sequence[Path],
    secrets: tuple[str, ...],
    words: tuple[str, ...],
) -> int:
    """Replace this process by a command, or return the exit code of the command.

    Args:
        options: the SecretProviderClass and the credentials.
        assignments: values of `--env`.
        env_files: values of `--env-file`.
        secrets: values of `--env-from`.
        words: the command and its arguments.

    Raises:
        KeyferryError: a value could not be fetched or cannot be a variable.
        InterruptedBySignalError: a signal arrived before the command was started.
    """
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
    return code


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
        paths = [file.path for file in content.files]
        given: dict[str, str] = {}
        if content.env_file is not None:
            paths.remove(content.env_file.path)
            given = dict(content.env_file.names)
        names = default_names(paths, given)
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
