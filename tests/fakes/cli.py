"""Runs the command `keyferry` in a process of its own and captures its output.

done = await run_cli("mount", "class.yaml", "target")
assert done.exit_code == 0, done.stderr
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from typing import NoReturn

import click
from click.testing import CliRunner, Result

from keyferry.cli.failures import run_command
from keyferry.process import can_mount

ISOLATION = () if can_mount() else ("--isolation=none",)
"""The flags of a driver: it isolates providers where this process could, as root."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The exit code and output of a command."""

    exit_code: int
    stdout: str
    stderr: str


async def start_cli(*arguments: object, **options: object) -> asyncio.subprocess.Process:
    """Start the command with pipes for its output."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "keyferry",
        *map(str, arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        **options,  # type: ignore[arg-type]
    )


async def run_cli(*arguments: object, stdin: str = "", **options: object) -> CommandResult:
    """Run the command and wait until it exits."""
    process = await start_cli(*arguments, **options)
    out, err = await process.communicate(stdin.encode())
    assert process.returncode is not None
    return CommandResult(process.returncode, out.decode(), err.decode())


class _Program(click.Command):
    """A command that reports its errors as `keyferry` does."""

    def __init__(self, command: click.Command) -> None:
        super().__init__(command.name)
        self._command = command

    def main(self, args: object = (), prog_name: object = None, **_: object) -> NoReturn:  # type: ignore[override]
        assert isinstance(args, list | tuple)
        sys.exit(run_command(self._command, args, name=str(prog_name)))


def invoke_cli(command: click.Command, *arguments: str, stdin: str = "") -> Result:
    """Run a command in this process, which is faster, and catch its output."""
    return CliRunner().invoke(_Program(command), arguments, input=stdin)
