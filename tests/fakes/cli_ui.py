"""Runs `keyferry ui` and reads its pages.

async with running_ui(kubeconfig, "--local") as ui:
    page = await ui.get("workloads")
    messages = await ui.end()
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from tests.fakes.cli import start_cli


class Ui:
    """A running command.

    Attributes:
        url: of the page.
    """

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self._process = process
        self.url = url

    async def get(self, path: str = "") -> str:
        """Return a page."""
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as response:
            assert 200 == response.status, await response.text()
            return await response.text()

    async def end(self) -> str:
        """Press Ctrl-C; return what was printed to standard error."""
        self._process.send_signal(signal.SIGINT)
        _, errors = await self._process.communicate()
        assert 0 == self._process.returncode
        return errors.decode()


@asynccontextmanager
async def running_ui(kubeconfig: Path, *options: str) -> AsyncIterator[Ui]:
    """Run the command on any port."""
    process = await start_cli("ui", "--kubeconfig", kubeconfig, "--port", "0", *options)
    assert process.stdout is not None
    try:
        url = (await process.stdout.readline()).decode().strip()
        assert url.startswith("http://127.0.0.1:"), (await process.communicate())[1].decode()
        yield Ui(process, url)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
