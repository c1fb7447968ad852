"""Connections of an API server to pods: forwarded ports, and pages by proxy.

A port of a pod is a port of this machine.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from aiohttp import web

POD_PATH = re.compile(
    r"/api/v1/namespaces/(?P<namespace>[^/]+)/pods/(?P<pod>[^/:]+)"
    r"(?:/(?P<forward>portforward)|:(?P<port>[0-9]+)/proxy/(?P<page>.*))"
)

RunCommand = Callable[[list[str], bytes], Awaitable[tuple[int, bytes]]]
"""Runs a command with its standard input; returns exit code and output."""


async def serve_pod(request: web.Request, match: re.Match[str]) -> web.StreamResponse:
    """Answer a request for a connection to a pod."""
    if match["forward"]:
        return await _forward(request, int(request.query["ports"]))
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{match['port']}/{match['page']}") as response,
    ):
        return web.Response(status=response.status, body=await response.read())


async def _forward(request: web.Request, port: int) -> web.StreamResponse:
    """Forward one connection: channel 0 has the bytes, and channel 1 the errors."""
    socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
    await socket.prepare(request)
    for channel in (0, 1):
        await socket.send_bytes(bytes((channel,)) + port.to_bytes(2, "little"))
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        await socket.send_bytes(b"\x01connection refused")
        await socket.close()
        return socket

    async def download() -> None:
        while chunk := await reader.read(65536):
            await socket.send_bytes(b"\x00" + chunk)
        await socket.close()

    downloading = asyncio.create_task(download())
    async for message in socket:
        writer.write(message.data[1:])
        await writer.drain()
    downloading.cancel()
    await asyncio.gather(downloading, return_exceptions=True)
    writer.close()
    return socket


async def run_in_pod(request: web.Request, run: RunCommand) -> web.StreamResponse:
    """Run a command over version 5 of the channels of a WebSocket."""
    socket = web.WebSocketResponse(protocols=("v5.channel.k8s.io",))
    await socket.prepare(request)
    stdin = b""
    while (message := await socket.receive_bytes()) != b"\xff\x00":
        stdin += message[1:]
    code, output = await run(request.query.getall("command"), stdin)
    await socket.send_bytes(b"\x01" + output)
    status: dict[str, Any] = {"status": "Success"}
    if code:
        causes = [{"reason": "ExitCode", "message": str(code)}]
        status = {
            "status": "Failure",
            "reason": "NonZeroExitCode",
            "details": {"causes": causes},
        }
    await socket.send_bytes(b"\x03" + json.dumps(status).encode())
    await socket.close()
    return socket
