"""Single requests to a vault: one try each, over TCP or a Unix socket.

Source: vault, sections 1.7 and 1.11. Whether there is another try is decided in `keyferry.economy`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from keyferry.connection_errors import chainable
from keyferry.errors import VaultError
from keyferry.https import MAX_ANSWER_BYTES
from keyferry.retry import RETRY_STATUSES, TryFailed
from keyferry.vault.answer import errors_of
from keyferry.vault.unavailable import unavailable_error
from keyferry.vault.unreachable import no_tls_problem, vault_problem

if TYPE_CHECKING:
    from keyferry.https import HttpsClient
    from keyferry.vault.server import Server
    from keyferry.vault.tls import TlsContexts

_REDIRECTS = frozenset({301, 302, 307})
_LATER = RETRY_STATUSES | {412}
"""412: this node has not yet seen what another one wrote."""
_WANTS_TLS = b"HTTP request to an HTTPS server"
"""How servers made with Go answer who speaks no TLS to them."""
_NOT_BEGUN = frozenset({412, 429, 503})
"""The statuses after which nothing has been done, so that anything can be tried again."""


@dataclass(frozen=True, slots=True)
class VaultRequest:
    """What is sent.

    Attributes:
        path: encoded, from `/v1/` on.
        purpose: the end of the sentence "failed to ...", for messages.
        method: of HTTP.
        body: JSON, None for none.
        token: of Vault, "" for none.
        repeatable: whether sending it twice does no harm.
        secrets: what no message repeats, besides the token.
    """

    path: str
    purpose: str
    method: str = "GET"
    body: bytes | None = field(default=None, repr=False)
    token: str = field(default="", repr=False)
    repeatable: bool = True
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class VaultReply:
    """What came back.

    Attributes:
        status: of HTTP.
        body: of a success it may hold secrets.
    """

    status: int
    body: bytes = field(repr=False)

    @property
    def good(self) -> bool:
        """Whether the vault did what was asked."""
        return 200 <= self.status < 400

    @property
    def errors(self) -> tuple[str, ...]:
        """What a refusal says."""
        return errors_of(self.body)


class VaultHttp:
    """Makes the requests.

    Args:
        https: the connections over TCP.
        contexts: the TLS contexts of vaults.
    """

    def __init__(self, https: HttpsClient, contexts: TlsContexts) -> None:
        self._https = https
        self._contexts = contexts
        self._sockets: dict[str, aiohttp.ClientSession] = {}

    async def send(
        self, server: Server, request: VaultRequest, seconds: float
    ) -> VaultReply | TryFailed:
        """Send once.

        Args:
            server: to whom.
            request: what.
            seconds: the time limit; the client's own counts besides.

        Raises:
            ConnectionFailedError: no connection, and another try would meet the same.
            PlatformError: the TLS files of the class cannot be used.
            VaultError: the answer has no end, or leads to a place without TLS.
        """
        url, sent_to = URL(server.address.base + request.path, encoded=True), None
        try:
            reply = await self._once(server, request, url, seconds)
            if isinstance(reply, URL):
                sent_to = reply
                reply = await self._once(server, request, sent_to, seconds)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            problem = vault_problem(error, server, sent_to)
            unsent = isinstance(
                error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError
            )
            if not problem.transient or not (request.repeatable or unsent):
                raise problem.error(request.purpose) from chainable(error)
            return TryFailed(problem.error(request.purpose), cause=chainable(error))
        if isinstance(reply, URL):
            raise VaultError(
                f"failed to {request.purpose}: {server.host} redirects more than once",
                "Set the address of the class to that of the active node or of a load balancer.",
            )
        return reply

    async def close(self) -> None:
        """Close the connections to Unix sockets."""
        for session in self._sockets.values():
            await session.close()
        self._sockets.clear()

    async def _once(
        self, server: Server, request: VaultRequest, url: URL, seconds: float
    ) -> VaultReply | URL | TryFailed:
        """One answer, or where it redirects to."""
        settings = self._https.settings
        timeout = aiohttp.ClientTimeout(
            total=min(seconds, settings.try_timeout), connect=settings.connect_timeout
        )
        context = await self._contexts.of(server) if url.scheme == "https" else None
        async with self._session(server, url).request(
            request.method,
            url,
            headers=_headers(server, request),
            skip_auto_headers=("Content-Type",),
            data=request.body,
            timeout=timeout,
            allow_redirects=False,
            ssl=context or True,
            server_hostname=(server.tls.server_name or None) if context else None,
            proxy=server.proxy or None,
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_chunked(1 << 16):
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise VaultError(
                        f"failed to {request.purpose}: {server.host} sends more than "
                        f"{MAX_ANSWER_BYTES} bytes",
                        f"Check that {server.host} is a vault.",
                    )
        reply = VaultReply(response.status, bytes(body))
        if response.status == 400 and _WANTS_TLS in body and url.scheme == "http":
            raise no_tls_problem(server).error(request.purpose)
        if response.status in _LATER and (request.repeatable or response.status in _NOT_BEGUN):
            pause = self._https.retry_after(response.headers)
            error = unavailable_error(
                reply.status,
                reply.errors,
                server,
                request.purpose,
                pause,
                secrets=(request.token, *request.secrets),
            )
            # 500 is how engines say that their own back end refused; 412 is about this request.
            return TryFailed(error, pause, of_server=response.status not in (412, 500))
        if response.status in _REDIRECTS and server.redirects:
            return _target(url, response.headers.get("Location", ""), server, request)
        return reply

    def _session(self, server: Server, url: URL) -> aiohttp.ClientSession:
        path = server.address.socket
        if not path:
            return self._https.session(url)
        if path not in self._sockets:
            self._sockets[path] = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(path, limit=0), cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._sockets[path]


def _headers(server: Server, request: VaultRequest) -> dict[str, str]:
    headers = {**dict(server.headers), "X-Vault-Request": "true"}
    if server.namespace:
        headers["X-Vault-Namespace"] = server.namespace
    if request.token:
        headers["X-Vault-Token"] = request.token
    return headers


def _target(url: URL, location: str, server: Server, request: VaultRequest) -> URL:
    """Where a standby node sends us; the token goes there, so never from TLS to none."""
    try:
        target = URL(urljoin(str(url), location), encoded=True)
        usable = target.scheme in ("http", "https") and bool(target.host and target.port)
    except ValueError:
        target, usable = url, False
    if not location or not usable:
        problem = f"failed to {request.purpose}: {server.host} redirects to no usable address"
        raise VaultError(problem, "Set api_addr of every node of the vault.")
    if url.scheme == "https" and target.scheme != "https":
        problem = f"failed to {request.purpose}: {server.host} redirects from https to http"
        raise VaultError(problem, "Set api_addr of every node of the vault to an https address.")
    return target
