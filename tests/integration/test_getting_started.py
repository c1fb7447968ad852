"""docs/getting-started.md: the commands for a machine without a cluster, and their output.

tests/e2e/test_walk.py runs the whole page, with the installation, as an ordinary user.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "getting-started.md"
FOLDER = "/tmp/keyferry-tutorial"
SERVE = "keyferry devvault run --data vault"

_BLOCK = re.compile(r"^( *)```(console|yaml)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"Save this SecretProviderClass as `([\w.-]+)`:")


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the page.

    Attributes:
        line: the command.
        output: the lines that the page shows below it; `...` matches any text.
    """

    line: str
    output: tuple[str, ...]


def section() -> str:
    """The part of the page that needs no cluster."""
    return PAGE.read_text().partition("## Mount a secret on your machine\n")[2].split("\n## ")[0]


def commands() -> Iterator[Command]:
    """All commands of the section in their order."""
    for _, language, block in _BLOCK.findall(section()):
        if language == "console":
            for part in re.split(r"^\$ ", dedent(block), flags=re.MULTILINE)[1:]:
                line, *output = part.splitlines()
                yield Command(line, tuple(output))


def shows(output: tuple[str, ...], text: str) -> bool:
    """Whether `text` is the output that the page shows."""
    pattern = "\n".join(re.escape(line).replace(r"\.\.\.", ".*") for line in output)
    return re.fullmatch(pattern, text.strip("\n"), flags=re.DOTALL) is not None


@pytest.mark.usefixtures("mount_home")
async def test_the_commands_print_what_the_page_shows(tmp_path: Path) -> None:
    """The emulator in one terminal, everything else in the other; nothing stays mounted."""
    enter, activate, again, serve, *work, leave = commands()
    assert f"mkdir -p {FOLDER} && cd {FOLDER}" == enter.line
    assert "source ~/keyferry/bin/activate" == activate.line
    assert f"cd {FOLDER}" == again.line
    assert SERVE == serve.line
    assert f"cd && rm -r {FOLDER}" == leave.line
    (name,) = _FILE.findall(section())
    (manifest,) = (text for _, language, text in _BLOCK.findall(section()) if language == "yaml")
    (tmp_path / name).write_text(dedent(manifest))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    vault = await asyncio.create_subprocess_exec(
        *SERVE.split(), cwd=tmp_path, env=environment, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert vault.stdout
        async with asyncio.timeout(100):
            await vault.stdout.readline()
        assert 10 == len(work)
        for command in work:
            shell = await asyncio.create_subprocess_exec(
                *("bash", "-euc", command.line),
                cwd=tmp_path,
                env=environment,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            out, _ = await shell.communicate()
            assert 0 == shell.returncode, f"{command.line}: {out.decode()}"
            assert shows(command.output, out.decode()), f"{command.line}:\n{out.decode()}"
    finally:
        vault.send_signal(signal.SIGINT)
        await vault.communicate()

    assert not (tmp_path / "secrets").exists()
    assert [] == list((tmp_path / "manifests" / "secrets").rglob("*.yaml"))


def test_make_targets_of_the_documentation_exist() -> None:
    """A target that is renamed takes its pages along."""
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", PAGE):
        named = set(re.findall(r"(?:^ *\$ |`)make ([a-z0-9-]+)", page.read_text(), re.MULTILINE))
        assert named, page
        assert named <= targets
