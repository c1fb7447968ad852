"""The commands of the README do what it says."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _console_blocks(section: str) -> list[str]:
    """The shell commands of a section, a text a block."""
    text = (ROOT / "README.md").read_text().split(f"## {section}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL)
    return [re.sub(r"^\$ ", "", block, flags=re.MULTILINE) for block in blocks]


@pytest.mark.usefixtures("mount_home")
async def test_try_it_by_hand_works_as_written(tmp_path: Path) -> None:
    """Both shells, line by line: the vault runs, the file holds the secret, then nothing stays."""
    programs = Path(sys.executable).parent
    serve, work = (
        block.replace(".venv/bin", str(programs)).replace("/tmp/vault", str(tmp_path / "vault"))
        for block in _console_blocks("Try it by hand")
    )
    vault = await asyncio.create_subprocess_shell(f"exec {serve}", stdout=asyncio.subprocess.PIPE)
    try:
        assert vault.stdout
        async with asyncio.timeout(100):
            await vault.stdout.readline()
        shell = await asyncio.create_subprocess_exec(
            *("bash", "-euxc", work),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await shell.communicate()
    finally:
        vault.send_signal(signal.SIGINT)
        await vault.communicate()

    assert 0 == shell.returncode, err.decode()
    assert "s3cr3tunmounted secrets" in out.decode()
    assert (tmp_path / "manifests").is_dir()
    assert [] == list((tmp_path / "manifests").rglob("*.yaml"))
    assert not (tmp_path / "secrets").exists()
