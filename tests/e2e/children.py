"""Processes that a test starts: output goes to files, and they are killed when the test ends.

async with ending_children(tmp_path) as children:
    vault = children.start("vault", "keyferry", "devvault", "run", "--data", str(data))
    await vault.says("listens")
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

PATIENCE_SECONDS = 120.0
"""How long to wait for any condition before the test fails; a busy machine is slow."""

_POLL_SECONDS = 0.01
_PROGRAMS = Path(sys.executable).parent


class Child:
    """One process.

    Attributes:
        name: for messages.
        output: the file that takes its standard output and standard error.
    """

    def __init__(self, name: str, process: subprocess.Popen[bytes], output: Path) -> None:
        self.name = name
        self.output = output
        self._process = process
        self.surroundings = b""
        """The arguments (readable by everybody) and the environment (readable by root) in /proc."""

    @property
    def pid(self) -> int:
        return self._process.pid

    def text(self) -> str:
        """Return the output so far."""
        return self.output.read_text(errors="replace")

    async def says(self, pattern: str, *, after: int = 0) -> re.Match[str]:
        """Wait until the output after position `after` matches `pattern`; return the match."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (found := re.compile(pattern).search(self.text(), after)):
                status = self._process.poll()
                assert status is None, f"{self.name} exited with {status}:\n{self.text()}"
                await asyncio.sleep(_POLL_SECONDS)
        self.look()
        return found

    def write_line(self, line: str) -> None:
        """Write a line to the standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()

    def close_input(self) -> None:
        """Close the standard input."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if the process still runs."""
        self.look()
        self._process.send_signal(number)

    async def ends(self) -> int:
        """Wait until the process exits; return its status, negative if a signal killed it."""
        return await asyncio.to_thread(self._process.wait, PATIENCE_SECONDS)

    def look(self) -> None:
        """Read the arguments and the environment from /proc, if the process still exists."""
        folder = Path("/proc", str(self.pid))
        try:
            content = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            return
        self.surroundings = content or self.surroundings

    def end(self) -> None:
        """Kill the process with its whole session, and close its standard input."""
        self.look()
        if self._process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self.close_input()


class Children:
    """All processes of one test.

    Args:
        folder: holds the output files, and is the home and working directory of the processes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.all: list[Child] = []

    def start(
        self, name: str, program: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> Child:
        """Start `program`, which may be a command of the virtual environment such as `keyferry`.

        Args:
            name: of the process, for messages and its output file.
            program: a path, or a name to search for.
            arguments: of the program.
            environment: variables in addition to the standard ones.
        """
        installed = _PROGRAMS / program
        output = self._folder / f"{len(self.all):03d}-{name}.log"
        with output.open("wb") as stream:
            process = subprocess.Popen(
                [str(installed) if installed.exists() else program, *arguments],
                cwd=self._folder,
                env={
                    "PATH": os.environ["PATH"],
                    "HOME": str(self._folder),
                    "LANG": "C.UTF-8",
                    "PYTHONUNBUFFERED": "1",
                    **(environment or {}),
                },
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        child = Child(name, process, output)
        self.all.append(child)
        # /proc may still be empty right after the start.
        while not child.surroundings and process.poll() is None:
            child.look()
        return child

    async def run(self, name: str, program: str, *arguments: str, stdin: str = "") -> str:
        """Run a program, which must exit with status 0; return its output."""
        child = self.start(name, program, *arguments)
        if stdin:
            child.write_line(stdin)
        child.close_input()
        status = await child.ends()
        assert 0 == status, f"{name} exited with {status}:\n{child.text()}"
        return child.text()


@asynccontextmanager
async def ending_children(folder: Path) -> AsyncIterator[Children]:
    """Kill all processes when the block exits; none of them may have printed a traceback."""
    folder.mkdir(parents=True, exist_ok=True)
    children = Children(folder)
    try:
        yield children
    finally:
        for child in reversed(children.all):
            child.end()
    for child in children.all:
        assert "Traceback (most recent call last)" not in child.text(), child.text()
