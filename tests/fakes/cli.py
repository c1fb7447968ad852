"""The command `keyferry` as a person runs it: a process of its own, with its output.

done = await run_cli("mount", "class.yaml", "target")
assert done.code == 0, done.err
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended."""

    exit_code: int
    stdout: str
    stderr: str


async def start_cli(*arguments: object, **options: object) -> asyncio.subprocess.Process:
    """Start the command; its pipes are open."""
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
    """Run the command to its end."""
    process = await start_cli(*arguments, **options)
    out, err = await process.communicate(stdin.encode())
    assert process.returncode is not None
    return CommandResult(process.returncode, out.decode(), err.decode())
