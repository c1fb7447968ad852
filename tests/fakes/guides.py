"""The commands of a guide, run as they are written by a shell of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
COMMAND_TIMEOUT_SECONDS = 50
"""How long a command of ours may take."""

_KEYFERRY = f'keyferry() {{ "{sys.executable}" -m keyferry "$@"; }}'
"""The command of this environment, whether it is installed in the path or not."""


def commands(guide: Path, heading: str) -> str:
    """Every block for a shell below a heading of the second level."""
    section = re.search(
        rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", guide.read_text(), re.MULTILINE | re.DOTALL
    )
    assert section is not None, f"{guide} has no heading {heading}"
    blocks: list[str] = re.findall(r"^```sh$(.*?)^```$", section[1], re.MULTILINE | re.DOTALL)
    assert blocks, f"{guide} has no commands below {heading}"
    return "\n".join(blocks)


@contextmanager
def shell(
    folder: Path, script: str, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """A shell in `folder` with everything that it starts, until the block ends.

    It stops at the first command that fails.
    """
    process = subprocess.Popen(
        ["bash", "-e", "-o", "pipefail", "-c", f"{_KEYFERRY}\n{script}"],
        cwd=folder,
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            # The group lives on in what runs in the background.
            os.killpg(process.pid, signal.SIGKILL)


def unmount(target: Path) -> None:
    """Take away what a script mounted."""
    command = [sys.executable, "-m", "keyferry", "unmount", str(target)]
    subprocess.run(command, check=True, capture_output=True, timeout=COMMAND_TIMEOUT_SECONDS)
