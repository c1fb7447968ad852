"""docs/guides/devvault.md: its commands, run as they are written, in their order."""

from __future__ import annotations

import asyncio
import re
import shlex
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.cli import CommandResult, run_cli, start_cli

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "devvault.md"
TENANT = "11111111-0000-4000-8000-000000000000"
CONSOLE = re.compile(r"^ *\$ keyferry (devvault .*)$", re.MULTILINE)
TABLE = re.compile(r"`keyferry (devvault identity [^`]*)`")
STDIN = {"set": "s3cret\n", "add-app": "s3cret\n"}


STANDS_FOR = {"TENANT": TENANT, "NAMESPACE:NAME": "shop:web", "NAMESPACE": "shop"}


def words(command: str) -> list[str]:
    """A command without its comment, with ids in the place of the words that stand for them."""
    for word, meaning in STANDS_FOR.items():
        command = command.replace(word, meaning)
    return shlex.split(command, comments=True)


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """The environment of a person for whom the vault runs; its first command has started it."""
    environment = {"XDG_DATA_HOME": str(tmp_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    process = await start_cli("devvault", "run", env=environment)
    try:
        async with asyncio.timeout(100):
            while not (tmp_path / "keyferry/devvault/connection.json").exists():  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # another process makes it
        yield environment
    finally:
        process.send_signal(signal.SIGTERM)
        await process.communicate()


async def run(command: list[str], home: dict[str, str]) -> CommandResult:
    given = next((text for verb, text in STDIN.items() if verb in command), "")
    done = await run_cli(*command, stdin=given, env=home)
    assert 0 == done.exit_code, f"{command}: {done.stderr}"
    return done


async def test_the_commands_of_the_page_work(home: dict[str, str]) -> None:
    """Those in the shell, then those of the table of modes, each with an id of its own."""
    text = PAGE.read_text()
    in_shell = [command for command in CONSOLE.findall(text) if command != "devvault run"]
    assert "devvault set contoso db-password" == in_shell[0]
    for command in in_shell:
        await run(words(command), home)
    rows = [TABLE.findall(line) for line in text.splitlines() if line.startswith("|")]
    identities = [row for row in rows if row]
    assert 5 == len(identities)
    for number, row in enumerate(identities):
        for command in row:
            one = command.replace(" ID", f" 99999999-0000-4000-8000-00000000000{number}")
            await run(words(one), home)
    listed = (await run(["devvault", "identity", "list"], home)).stdout
    assert [] == [number for number in range(5) if f"00000000000{number}" not in listed]
