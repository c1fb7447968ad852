"""Single requests to a vault: one try each, over TCP or a Unix socket.

Whether there is another try is decided in `keyferry.resilience`.

Source: docs/reference/upstream-vault-provider.md#requests
Source: docs/reference/upstream-vault-provider.md#vault-agent
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from keyferry.errors import VaultError
from keyferry.net.connection_errors import safe_cause
from keyferry.net.http_client import MAX_RESPONSE_BYTES
from keyferry.net.retryable import RETRY_STATUSES, RetryableFailure
from keyferry.providers.vault.http.http_errors import (
    tls_required_problem,
    unavailable_error,
    vault_connection_problem,
)
from keyferry.providers.vault.http.response import parse_errors

if TYPE_CHECKING:
    from keyferry.net.http_client import HttpsClient
    from keyferry.providers.vault.http.server import Server
    from keyferry.providers.vault.http.tls import TlsContexts

_REDIRECT_STATUSES = frozenset({301, 302, 307})
_RETRYABLE_STATUSES = RETRY_STATUSES | {412}
"""412: this node has not yet seen what another one wrote."""
_TLS_REQUIRED_TEXT = b"HTTP request to an HTTPS server"
"""How servers made with Go answer who speaks no TLS to them."""
_UNPROCESSED_STATUSES = frozenset({412, 429, 503})
"""The statuses after which nothing has been done, so that anything can be tried again."""


@dataclass(frozen=True, slots=True)
class VaultRequest:
    """What is sent.

    Attributes:
        path: encoded, from `/v1/` on.
        action: the end of the sentence "failed to ...", for messages.
        method: of HTTP.
        body: JSON, None for none.
        token: of Vault, "" for none.
        idempotent: whether sending it twice does no harm.
        secrets: what no message repeats, besides the token.
    """

    path: str
    action: str
    method: str = "GET"
    body: bytes | None = field(default=None, repr=False)
    token: str = field(default="", repr=False)
    idempotent: bool = True
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class RawResponse:
    """What came back.

    Attributes:
        status: of HTTP.
        body: of a success it may hold secrets.
    """

    status: int
    body: bytes = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether the vault did what was asked."""
        return 200 <= self.status < 400

    @property
    def errors(self) -> tuple[str, ...]:
        """What a refusal says."""
        return parse_errors(self.body)


class VaultHttp:
    """Makes the requests.

    Args:
        https: the connections over TCP.
        tls_contexts: the TLS contexts of vaults.
    """

    def __init__(self, https: HttpsClient, tls_contexts: TlsContexts) -> None:
        self._https = https
        self._tls_contexts = tls_contexts
        self._socket_sessions: dict[str, aiohttp.ClientSession] = {}

    async def send(
        self, server: Server, request: VaultRequest, seconds: float
    ) -> RawResponse | RetryableFailure:
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
            reply = await self._send_once(server, request, url, seconds)
            if isinstance(reply, URL):
                sent_to = reply
                reply = await self._send_once(server, request, sent_to, seconds)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            problem = vault_connection_problem(error, server, sent_to)
            unsent = isinstance(
                error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError
            )
            if not problem.transient or not (request.idempotent or unsent):
                raise problem.error(request.action) from safe_cause(error)
            return RetryableFailure(problem.error(request.action), cause=safe_cause(error))
        if isinstance(reply, URL):
            raise VaultError(
                f"failed to {request.action}: {server.host} redirects more than once",
                "Set the address of the class to that of the active node or of a load balancer.",
            )
        return reply

    async def close(self) -> None:
        """Close the connections to Unix sockets."""
        for session in self._socket_sessions.values():
            await session.close()
        self._socket_sessions.clear()

    async def _send_once(
        self, server: Server, request: VaultRequest, url: URL, seconds: float
    ) -> RawResponse | URL | RetryableFailure:
        """One answer, or where it redirects to."""
        settings = self._https.settings
        timeout = aiohttp.ClientTimeout(
            total=min(seconds, settings.try_timeout), connect=settings.connect_timeout
        )
        context = await self._tls_contexts.get(server) if url.scheme == "https" else None
        async with self._client_session(server, url).request(
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
                if len(body) > MAX_RESPONSE_BYTES:
                    raise VaultError(
                        f"failed to {request.action}: {server.host} sends more than "
                        f"{MAX_RESPONSE_BYTES} bytes",
                        f"Check that {server.host} is a vault.",
                    )
        reply = RawResponse(response.status, bytes(body))
        if response.status == 400 and _TLS_REQUIRED_TEXT in body and url.scheme == "http":
            raise tls_required_problem(server).error(request.action)
        if response.status in _RETRYABLE_STATUSES and (
            request.idempotent or response.status in _UNPROCESSED_STATUSES
        ):
            pause = self._https.retry_after(response.headers)
            error = unavailable_error(
                reply.status,
                reply.errors,
                server,
                request.action,
                pause,
                secrets=(request.token, *request.secrets),
            )
            # 500 is how engines say that their own back end refused; 412 is about this request.
            return RetryableFailure(error, pause, host_fault=response.status not in (412, 500))
        if response.status in _REDIRECT_STATUSES and server.follow_redirects:
            return _redirect_target(url, response.headers.get("Location", ""), server, request)
        return reply

    def _client_session(self, server: Server, url: URL) -> aiohttp.ClientSession:
        path = server.address.socket
        if not path:
            return self._https.session(url)
        if path not in self._socket_sessions:
            self._socket_sessions[path] = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(path, limit=0), cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._socket_sessions[path]


def _headers(server: Server, request: VaultRequest) -> dict[str, str]:
    headers = {**dict(server.headers), "X-Vault-Request": "true"}
    if server.namespace:
        headers["X-Vault-Namespace"] = server.namespace
    if request.token:
        headers["X-Vault-Token"] = request.token
    return headers


def _redirect_target(url: URL, location: str, server: Server, request: VaultRequest) -> URL:
    """Where a standby node sends us; the token goes there, so never from TLS to none."""
    try:
        target = URL(urljoin(str(url), location), encoded=True)
        usable = target.scheme in ("http", "https") and bool(target.host and target.port)
    except ValueError:
        target, usable = url, False
    if not location or not usable:
        problem = f"failed to {request.action}: {server.host} redirects to no usable address"
        raise VaultError(problem, "Set api_addr of every node of the vault.")
    if url.scheme == "https" and target.scheme != "https":
        problem = f"failed to {request.action}: {server.host} redirects from https to http"
        raise VaultError(problem, "Set api_addr of every node of the vault to an https address.")
    return target
