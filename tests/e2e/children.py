"""The processes that a test starts: their output is kept, and they end with the test.

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

PATIENCE_SECONDS = 30.0
"""How long anything is waited for before the test fails."""

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
        """The arguments and the environment, as the kernel shows them to everybody and to root."""

    @property
    def pid(self) -> int:
        return self._process.pid

    def text(self) -> str:
        """What it has said so far."""
        return self.output.read_text(errors="replace")

    async def says(self, pattern: str, *, after: int = 0) -> re.Match[str]:
        """Wait until its output beyond position `after` matches `pattern`."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (found := re.compile(pattern).search(self.text(), after)):
                ended = self._process.poll()
                assert ended is None, f"{self.name} ended with {ended}:\n{self.text()}"
                await asyncio.sleep(_POLL_SECONDS)
        self.look()
        return found

    def write_line(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()

    def close_input(self) -> None:
        """Let its standard input end."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        self.look()
        self._process.send_signal(number)

    async def ends(self) -> int:
        """Wait for its end; the exit status is negative when a signal ended it."""
        return await asyncio.to_thread(self._process.wait, PATIENCE_SECONDS)

    def look(self) -> None:
        """Read its arguments and environment from /proc, while there is something to read."""
        folder = Path("/proc", str(self.pid))
        try:
            seen = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            return
        self.surroundings = seen or self.surroundings

    def end(self) -> None:
        """Kill it with its whole session, and close what belongs to it."""
        self.look()
        if self._process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self.close_input()


class Children:
    """All processes of one test.

    Args:
        folder: takes the outputs, and is the home of the processes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.all: list[Child] = []

    def start(
        self, name: str, program: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> Child:
        """Start `program`, which may be a command of our own environment such as `keyferry`.

        Args:
            name: of the process, for messages and its output.
            program: a path, or a name to look for.
            arguments: of it.
            environment: variables beside the usual few.
        """
        local = _PROGRAMS / program
        output = self._folder / f"{len(self.all):03d}-{name}.log"
        with output.open("wb") as stream:
            process = subprocess.Popen(
                [str(local) if local.exists() else program, *arguments],
                cwd=self._folder,
                env={
                    "PATH": os.environ["PATH"],
                    "HOME": str(self._folder),
                    "LANG": "C.UTF-8",
                    "PYTHONUNBUFFERED": "1",
                    "PYTHONDONTWRITEBYTECODE": "1",
                    **(environment or {}),
                },
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        child = Child(name, process, output)
        self.all.append(child)
        # Right after its start, the kernel may not show them yet.
        while not child.surroundings and process.poll() is None:
            child.look()
        return child

    async def run(self, name: str, program: str, *arguments: str, stdin: str = "") -> str:
        """Run a program to its end, which must be a good one; return what it said."""
        child = self.start(name, program, *arguments)
        if stdin:
            child.write_line(stdin)
        child.close_input()
        status = await child.ends()
        assert 0 == status, f"{name} ended with {status}:\n{child.text()}"
        return child.text()


@asynccontextmanager
async def ending_children(folder: Path) -> AsyncIterator[Children]:
    """Run processes and stop them after the block; none may have printed a traceback."""
    folder.mkdir(parents=True, exist_ok=True)
    children = Children(folder)
    try:
        yield children
    finally:
        for child in reversed(children.all):
            child.end()
    for child in children.all:
        assert "Traceback (most recent call last)" not in child.text(), child.text()
