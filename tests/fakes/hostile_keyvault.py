"""A server with programmed responses for all hosts of a cloud, with TLS and plain HTTP.

async with hostile_keyvault(tmp_path) as vault:
    vault.single = HostileResponse(200, b"{")
    https = HttpsClient(vault.redirect.emulator().https)
    provider = AzureProvider(https, uncached_fetcher())
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from keyferry_devvault.client import DevRedirect
from tests.fakes.certificates import issue_certificate, new_ec_key


@dataclass(frozen=True)
class HostileResponse:
    """A programmed response, valid or not.

    Attributes:
        status: 200 to 599.
        body: sent unchanged.
        headers: headers of the response.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


TOKEN = HostileResponse(200, json.dumps({"access_token": "t", "expires_on": "9999999999"}).encode())
NOT_FOUND = HostileResponse(404, b"")


@dataclass
class HostileKeyVault:
    """The running server.

    Attributes:
        redirect: redirects a client to this server.
        token: response of all token endpoints.
        single: response to a request for one version.
        versions: responses to requests for the list of versions; the last one is repeated.
        request_count: number of requests.
    """

    redirect: DevRedirect
    token: HostileResponse = TOKEN
    single: HostileResponse = NOT_FOUND
    versions: tuple[HostileResponse, ...] = (NOT_FOUND,)
    request_count: int = 0
    _pages: int = 0

    def respond_with(
        self, single: HostileResponse, versions: tuple[HostileResponse, ...] = (NOT_FOUND,)
    ) -> None:
        """Set the responses and reset the counters."""
        self.single, self.versions = single, versions
        self.request_count = self._pages = 0

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Answer one request."""
        self.request_count += 1
        if request.host.endswith("vault.azure.net"):
            response = self._next_page() if request.path.endswith("/versions") else self.single
        else:
            response = self.token
        return web.Response(status=response.status, body=response.body, headers=response.headers)

    def _next_page(self) -> HostileResponse:
        response = self.versions[min(self._pages, len(self.versions) - 1)]
        self._pages += 1
        return response


@asynccontextmanager
async def hostile_keyvault(folder: Path) -> AsyncIterator[HostileKeyVault]:
    """Run the server on free ports of loopback."""
    root = issue_certificate("hostile root", new_ec_key(), is_ca=True)
    hosts = ("*.vault.azure.net", "login.microsoftonline.com")
    leaf = issue_certificate("hostile", new_ec_key(), root, hosts=hosts)
    (folder / "ca.pem").write_bytes(root.pem)
    (folder / "server.pem").write_bytes(leaf.key_pem + leaf.pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem")

    addresses: list[tuple[str, int]] = []
    vault = HostileKeyVault(DevRedirect(("127.0.0.1", 0), ("127.0.0.1", 0), folder / "ca.pem"))
    runner = web.ServerRunner(web.Server(vault.handle, access_log=None))
    await runner.setup()
    try:
        for each in (context, None):
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=each).start()
        addresses = [(str(host), int(port)) for host, port, *_ in runner.addresses]
        vault.redirect = DevRedirect(addresses[0], addresses[1], folder / "ca.pem")
        yield vault
    finally:
        await runner.cleanup()
