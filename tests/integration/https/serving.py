"""Servers on loopback with configured responses, and a client for them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import msgspec
import pytest
from aiohttp import web
from yarl import URL

from keyferry.errors import KeyferryError
from keyferry.net.http_client import HttpsClient, HttpsSettings, JsonRequest
from keyferry.net.http_responses import ErrorResponse
from keyferry.resilience.call_context import CallContext
from keyferry.resilience.fetcher import Fetcher
from tests.fakes.clock import AutojumpClock
from tests.fakes.resilience import uncached_fetcher

CLOUD_URL = URL("https://contoso.vault.azure.net/secrets/x")
CANARY = "canary-3b1d"


class Document(msgspec.Struct):
    value: str


Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


async def ok(request: web.BaseRequest) -> web.Response:
    """The answer that is asked for."""
    return web.json_response({"value": "fine"})


def status(code: int, **headers: str) -> Handler:
    """A handler that answers with a status."""

    async def handler(request: web.BaseRequest) -> web.Response:
        return web.json_response(
            {"error": {"code": "Code", "message": CANARY}}, status=code, headers=headers
        )

    return handler


async def half(request: web.BaseRequest) -> web.StreamResponse:
    """Half an answer, then nothing."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"value": "canary-3b1d')
    assert request.transport is not None
    request.transport.close()
    return response


async def hang(request: web.BaseRequest) -> web.Response:
    """Send no response until the client disconnects."""
    await asyncio.sleep(60)
    return web.Response()


@dataclass
class Server:
    """What a loopback server was asked.

    Attributes:
        address: where it listens.
        requests: the `Host` and `Authorization` headers of each request.
        server_names: the names asked for by SNI.
    """

    address: tuple[str, int] = ("", 0)
    requests: list[tuple[str, str]] = field(default_factory=list)
    server_names: list[str | None] = field(default_factory=list)

    @property
    def url(self) -> URL:
        return URL(f"http://{self.address[0]}:{self.address[1]}/x")


@asynccontextmanager
async def serving(*handlers: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server that answers the first request by the first handler; the last one stays."""
    server = Server()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        server.requests.append((request.host, request.headers.get("Authorization", "")))
        return await handlers[min(len(server.requests), len(handlers)) - 1](request)

    if tls is not None:
        tls.sni_callback = lambda _socket, name, _context: server.server_names.append(name)
    runner = web.ServerRunner(web.Server(answer, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        server.address = runner.addresses[0][:2]
        yield server
    finally:
        await runner.cleanup()


@dataclass(frozen=True)
class Client:
    """Connections, and who decides about further tries."""

    https: HttpsClient
    fetcher: Fetcher


@asynccontextmanager
async def client(
    settings: HttpsSettings | None = None, clock: AutojumpClock | None = None
) -> AsyncIterator[Client]:
    """A client that pauses in no time."""
    still = clock or AutojumpClock()
    https = HttpsClient(settings or HttpsSettings(), clock=still)
    try:
        yield Client(https, uncached_fetcher(still))
    finally:
        await https.close()


async def get(made: Client, url: URL) -> Document | ErrorResponse:
    """Read the document at `url`."""
    request = JsonRequest(url, {"Authorization": "Bearer t"}, Document, "read secret x")
    return await made.fetcher.transport.send(
        partial(made.https.get_json, request), CallContext.new(url.host or "")
    )


async def failure(made: Client, url: URL) -> KeyferryError:
    """The error that reading ends with; nothing of an answer is in it."""
    with pytest.raises(KeyferryError) as caught:
        await get(made, url)
    assert CANARY not in str(caught.value)
    assert caught.value.problem.startswith("failed to read secret x: ")
    return caught.value
