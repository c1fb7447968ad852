"""A server that answers for a whole cloud what a test tells it to, over TLS and in the clear.

async with hostile_vault(tmp_path) as vault:
    vault.secret = HostileAnswer(200, b"{")
    provider = AzureProvider(HttpsClient(HttpsSettings(dev=vault.redirect)), forgetful())
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from keyferry.https import DevRedirect
from tests.fakes.vault_peer import issue, new_ec


@dataclass(frozen=True)
class HostileAnswer:
    """What the server says, whatever that may be.

    Attributes:
        status: 200 to 599.
        body: sent as it is.
        headers: of the answer.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


TOKEN = HostileAnswer(200, json.dumps({"access_token": "t", "expires_on": "9999999999"}).encode())
NOTHING = HostileAnswer(404, b"")


@dataclass
class HostileVault:
    """The running server.

    Attributes:
        redirect: leads a client here.
        token: what every token endpoint answers.
        single: what a request for one version answers.
        versions: what requests for the list of versions answer in turn, the last one for ever.
        asked: how many requests came.
    """

    redirect: DevRedirect
    token: HostileAnswer = TOKEN
    single: HostileAnswer = NOTHING
    versions: tuple[HostileAnswer, ...] = (NOTHING,)
    asked: int = 0
    _pages: int = 0

    def answers(
        self, single: HostileAnswer, versions: tuple[HostileAnswer, ...] = (NOTHING,)
    ) -> None:
        """From now on it answers this."""
        self.single, self.versions = single, versions
        self.asked = self._pages = 0

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Answer one request."""
        self.asked += 1
        if request.host.endswith("vault.azure.net"):
            answer = self._page() if request.path.endswith("/versions") else self.single
        else:
            answer = self.token
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    def _page(self) -> HostileAnswer:
        answer = self.versions[min(self._pages, len(self.versions) - 1)]
        self._pages += 1
        return answer


@asynccontextmanager
async def hostile_vault(folder: Path) -> AsyncIterator[HostileVault]:
    """Run the server on free ports of loopback."""
    root = issue("hostile root", new_ec(), authority=True)
    hosts = ("*.vault.azure.net", "login.microsoftonline.com")
    leaf = issue("hostile", new_ec(), root, hosts=hosts)
    (folder / "ca.pem").write_bytes(root.pem)
    (folder / "server.pem").write_bytes(leaf.key_pem + leaf.pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem")

    addresses: list[tuple[str, int]] = []
    vault = HostileVault(DevRedirect(("127.0.0.1", 0), ("127.0.0.1", 0), folder / "ca.pem"))
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
