"""A relay in front of a development vault that records every request unchanged.

async with token_relay(vault) as relay:
    ...                      # clients connect to relay.redirect
    relay.requests[0].form
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import parse_qsl

from aiohttp import web
from yarl import URL

from keyferry.net.exchange import read_body
from keyferry.net.http_client import HttpsClient
from keyferry.records import replace
from keyferry_devvault.client import DevRedirect
from keyferry_devvault.crypto.development_ca import write_server_certificate
from tests.fakes.devvault import DevVault


@dataclass(frozen=True)
class RecordedRequest:
    """A recorded request."""

    method: str
    url: str
    headers: Mapping[str, str]
    form: Mapping[str, str]


class TokenRelay:
    """Terminates TLS, forwards each request to the vault and returns the response.

    Attributes:
        redirect: redirects connections to the relay.
        requests: the requests so far.
        redirect_location: if not empty, every request is answered with a redirect to it.
    """

    def __init__(self, upstream: HttpsClient, redirect: DevRedirect) -> None:
        self._upstream = upstream
        self.redirect = redirect
        self.requests: list[RecordedRequest] = []
        self.redirect_location = ""

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Record and forward one request."""
        body, url = await request.read(), f"https://{request.host}{request.raw_path}"
        pairs = parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=bool(body))
        assert len(dict(pairs)) == len(pairs), "a field comes twice"
        self.requests.append(
            RecordedRequest(request.method, url, dict(request.headers), dict(pairs))
        )
        if self.redirect_location:
            return web.Response(status=307, headers={"Location": self.redirect_location})
        target = URL(url, encoded=True)
        async with self._upstream.pool.request(
            request.method,
            target,
            proxied=False,
            data=body,
            headers={"Content-Type": request.headers.get("Content-Type", "")},
        ) as answer:
            body = await read_body(answer, max_bytes=1 << 20)
            return web.Response(status=answer.status, body=body, content_type="application/json")


@asynccontextmanager
async def token_relay(vault: DevVault) -> AsyncIterator[TokenRelay]:
    """Run the relay on a free port of loopback, with a certificate of the vault's CA."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(write_server_certificate(vault.data.folder))
    upstream = HttpsClient(vault.emulator.https)
    relay = TokenRelay(upstream, vault.redirect)
    runner = web.ServerRunner(web.Server(relay.handle, access_log=None))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        host, port, *_ = runner.addresses[0]
        relay.redirect = replace(vault.redirect, https=(str(host), int(port)))
        yield relay
    finally:
        await runner.cleanup()
        await upstream.close()
