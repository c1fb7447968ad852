"""Drives Debian's Chromium over the DevTools protocol, for pages and screenshots.

async with running_browser() as browser:
    async with browser.tab(width=1280, dark=True) as tab:
        await tab.open("http://127.0.0.1:8090/")
        png = await tab.screenshot()

Source: https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).parents[2]
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--remote-debugging-port=0", "--hide-scrollbars", "--force-color-profile=srgb"),
)
_START_SECONDS = 60


def browser_file(name: str) -> Path:
    """Return the path of what `scripts/browser.sh` gets once: `chromium` or `axe`."""
    run = subprocess.run(
        [ROOT / "scripts" / "browser.sh", name], check=True, capture_output=True, text=True
    )
    return Path(run.stdout.strip())


class ProtocolError(Exception):
    """A call of the protocol failed."""


class Tab:
    """A tab.

    Args:
        socket: of the browser.
        session: of the tab.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, session: str) -> None:
        self._socket = socket
        self._session = session
        self._number = 0
        self.events: list[dict[str, Any]] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; events that arrive meanwhile are kept.

        Raises:
            ProtocolError: the call failed, for example because another page was opened meanwhile.
        """
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        await self._socket.send_json(message | {"sessionId": self._session})
        while True:
            answer = await self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise ProtocolError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result

    async def _receive(self) -> dict[str, Any]:
        answer: dict[str, Any] = await self._socket.receive_json(timeout=60)
        if "id" not in answer:
            self.events.append(answer)
        return answer

    async def open(self, url: str) -> None:
        """Open an address and wait until the page is loaded."""
        self.events.clear()
        await self.call("Page.navigate", url=url)
        while not any(each["method"] == "Page.loadEventFired" for each in self.events):
            await self._receive()

    async def evaluate(self, expression: str) -> Any:
        """Return the result of an expression; promises are awaited."""
        answer = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def screenshot(self, **parameters: Any) -> bytes:
        """Return a picture of the whole page: a PNG, unless parameters of the protocol differ."""
        answer = await self.call("Page.captureScreenshot", captureBeyondViewport=True, **parameters)
        return base64.b64decode(answer["data"])

    async def axe(self, *disabled: str) -> list[dict[str, Any]]:
        """Return the violations that axe-core finds, but for some rules."""
        await self.evaluate(browser_file("axe").read_text() + ";0")
        rules = {rule: {"enabled": False} for rule in disabled}
        options = json.dumps({"rules": rules, "resultTypes": ["violations"]})
        found = await self.evaluate(f"axe.run(document, {options}).then(r => r.violations)")
        assert isinstance(found, list)
        return found


class Browser:
    """A running browser.

    Args:
        socket: of the browser.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        await self._socket.send_json({"id": 0, "method": method, "params": parameters})
        while (answer := await self._socket.receive_json(timeout=60)).get("id") != 0:
            pass
        result: dict[str, Any] = answer["result"]
        return result

    @asynccontextmanager
    async def tab(
        self, *, width: int = 1280, height: int = 800, dark: bool = False, script: bool = True
    ) -> AsyncIterator[Tab]:
        """Open a tab; `script` permits scripts of pages."""
        target = (await self._call("Target.createTarget", url="about:blank"))["targetId"]
        attached = await self._call("Target.attachToTarget", targetId=target, flatten=True)
        tab = Tab(self._socket, attached["sessionId"])
        await tab.call("Page.enable")
        await tab.call("Log.enable")
        await tab.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await tab.call("Emulation.setEmulatedMedia", features=[scheme])
        await tab.call("Emulation.setScriptExecutionDisabled", value=not script)
        try:
            yield tab
        finally:
            await self._call("Target.closeTarget", targetId=target)


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """Run a browser with a new profile, which is removed afterwards."""
    profile = Path(tempfile.mkdtemp(prefix="keyferry-browser-"))
    process = await asyncio.create_subprocess_exec(
        str(browser_file("chromium")),
        *_FLAGS,
        f"--user-data-dir={profile}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        port, path = await _address(profile)
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"ws://127.0.0.1:{port}{path}", max_msg_size=0) as socket,
        ):
            yield Browser(socket)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        shutil.rmtree(profile, ignore_errors=True)


async def _address(profile: Path) -> tuple[str, str]:
    """Return port and path of the protocol, which the browser writes when it listens."""
    written = profile / "DevToolsActivePort"
    async with asyncio.timeout(_START_SECONDS):
        while not (  # noqa: ASYNC110 - a file of another process
            written.is_file() and len(lines := written.read_text().split()) == 2
        ):
            await asyncio.sleep(0.1)
    return lines[0], lines[1]
