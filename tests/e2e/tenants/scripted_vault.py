"""A Vault API whose paths say how it behaves. Attackers use it, and so does the victim.

It is a process of its own, so that its load does not delay the measurements of the test.

Usage: python scripted_vault.py FOLDER; it prints `listens on PORT`. Paths below `/v1/`:

    auth/MOUNT/login     log in, with any credential
    value/TEXT           the secret {"value": TEXT}
    slow/MS/TEXT         the same after MS milliseconds
    bytes/N/ANY          a value of N bytes
    file/NAME            a value with the content of a file in FOLDER
    status/N             an empty response with this status
    redirect/BASE64URL   307 to that URL
"""

from __future__ import annotations

import asyncio
import base64
import sys
from pathlib import Path
from typing import Any

from aiohttp import web


class ScriptedVault:
    """The vault.

    Args:
        folder: contains the files of `file/NAME`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        match request.path.removeprefix("/v1/").split("/"):
            case ["auth", *_, "login"]:
                token = {"client_token": "t", "lease_duration": 3600, "renewable": True}
                return web.json_response({"auth": token})
            case ["status", status]:
                return web.Response(status=int(status))
            case ["redirect", where]:
                url = base64.urlsafe_b64decode(where + "==").decode()
                return web.Response(status=307, headers={"Location": url})
            case parts:
                return secret(await self._value(parts))

    async def _value(self, parts: list[str]) -> str:
        match parts:
            case ["slow", milliseconds, text]:
                await asyncio.sleep(int(milliseconds) / 1000)
                return text
            case ["bytes", size, *_]:
                return "x" * int(size)
            case ["file", name]:
                return await asyncio.to_thread((self._folder / Path(name).name).read_text)
            case _:
                return parts[-1]


def secret(value: str) -> web.Response:
    """Return a response of a KV engine, version 1."""
    document: dict[str, Any] = {
        "request_id": "",
        "lease_id": "",
        "renewable": False,
        "lease_duration": 0,
        "data": {"value": value},
    }
    return web.json_response(document)


async def serve(folder: Path) -> None:
    """Serve until the process is killed."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", ScriptedVault(folder).handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"listens on {runner.addresses[0][1]}", flush=True)  # noqa: T201 - the test waits for it
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
