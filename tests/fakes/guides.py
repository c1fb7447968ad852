"""Runs the commands of a guide in a shell, unmodified."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
COMMAND_TIMEOUT_SECONDS = 200
"""The timeout of a script of commands; shorter than that of a test."""

_PROGRAMS = Path(sys.executable).parent
"""Where `keyferry` is in this environment."""


def commands(guide: Path, heading: str) -> str:
    """Return the shell blocks below a second-level heading."""
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
    """Run a script in `folder`, and end all its processes when the block ends.

    The script stops at the first command that fails.
    """
    process = subprocess.Popen(
        ["bash", "-e", "-o", "pipefail", "-c", f"PATH={_PROGRAMS}:$PATH\n{script}"],
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
            # Background processes keep the group alive.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def unmount(target: Path) -> None:
    """Unmount everything that a script mounted."""
    command = [sys.executable, "-m", "keyferry", "unmount", str(target)]
    subprocess.run(command, check=True, capture_output=True, timeout=COMMAND_TIMEOUT_SECONDS)
