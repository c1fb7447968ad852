"""Sends single requests to a vault, over TCP or a Unix socket.

Each request is tried once here. Retries are decided in `keyferry.resilience`.

Source: docs/reference/upstream-vault-provider.md#requests
Source: docs/reference/upstream-vault-provider.md#vault-agent
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from yarl import URL

from keyferry.aio.http_library import aiohttp
from keyferry.errors import VaultError
from keyferry.net.addresses import ForbiddenAddressError, is_listed
from keyferry.net.connection_errors import (
    forbidden_address_error,
    is_forbidden_address,
    safe_cause,
)
from keyferry.net.exchange import BodyTooLargeError, ignore_bytes, read_body
from keyferry.net.http_client import MAX_RESPONSE_BYTES
from keyferry.net.retryable import RETRY_STATUSES, RetryableFailure
from keyferry.providers.vault.http.http_errors import (
    chooses_status,
    redirect_error,
    tls_required_problem,
    unavailable_error,
    vault_connection_problem,
)
from keyferry.providers.vault.http.response import parse_errors
from keyferry.records import replace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from keyferry.net.exchange import HttpResponse
    from keyferry.net.http_client import HttpsClient
    from keyferry.net.inspection.observed import Inspection
    from keyferry.providers.restrictions import ClassRestrictions
    from keyferry.providers.vault.http.server import Server
    from keyferry.providers.vault.http.tls import TlsContexts

_REDIRECT_STATUSES = frozenset({301, 302, 307})
_RETRYABLE_STATUSES = RETRY_STATUSES | {412}
"""412: this node has not yet replicated the state that another node has."""
_TLS_REQUIRED_TEXT = b"HTTP request to an HTTPS server"
"""Response of Go servers to plain HTTP on a TLS port."""
_UNPROCESSED_STATUSES = frozenset({412, 429, 503})
"""Statuses of requests that were not processed, so that any request can be retried."""


@dataclass(frozen=True, slots=True)
class VaultRequest:
    """A request to a vault.

    Attributes:
        path: encoded path and query, beginning with `/v1/`.
        action: completes the sentence "failed to ..." in messages.
        method: HTTP method.
        body: JSON body; None for none.
        token: vault token; "" for none.
        idempotent: whether the request can be sent twice without harm.
        secrets: secrets of the request that no message quotes, in addition to the token.
        count: called with the size of each chunk of the response.
    """

    path: str
    action: str
    method: str = "GET"
    body: bytes | None = field(default=None, repr=False)
    token: str = field(default="", repr=False)
    idempotent: bool = True
    secrets: tuple[str, ...] = field(default=(), repr=False)
    count: Callable[[int], None] = ignore_bytes


@dataclass(frozen=True, slots=True)
class RawResponse:
    """The status and body of a response.

    Attributes:
        status: HTTP status.
        body: response body, which may contain secrets.
        from_other_host: whether it comes from the target of a redirect to another host.
    """

    status: int
    body: bytes = field(repr=False)
    from_other_host: bool = False

    @property
    def ok(self) -> bool:
        """Whether the request succeeded."""
        return 200 <= self.status < 400

    @property
    def errors(self) -> tuple[str, ...]:
        """The errors in the body."""
        return parse_errors(self.body)


class VaultHttp:
    """Sends requests to vaults, each once.

    Args:
        https: client for connections over TCP.
        tls_contexts: cache of TLS contexts.
        restrictions: the addresses that SecretProviderClasses may name.
    """

    def __init__(
        self, https: HttpsClient, tls_contexts: TlsContexts, restrictions: ClassRestrictions
    ) -> None:
        self._https = https
        self._tls_contexts = tls_contexts
        self._restrictions = restrictions
        self._socket_sessions: dict[str, aiohttp.ClientSession] = {}

    def check_address(self, server: Server, action: str) -> None:
        """Check the address of a vault without connecting to it.

        Args:
            server: the vault.
            action: completes the sentence "failed to ...".

        Raises:
            ClassInvalidError: the SecretProviderClass may not name this address.
        """
        if not server.address_from_class:
            return
        url = URL(server.address.base, encoded=True)
        if server.address.socket:
            permitted = self._restrictions.unix_sockets
        else:
            permitted = self._restrictions.permits_address(url.raw_host or "", url.port or 0)
        if not permitted:
            raise forbidden_address_error(action, server.host)

    async def send(
        self, server: Server, request: VaultRequest, seconds: float
    ) -> RawResponse | RetryableFailure:
        """Send a request once, and follow at most one redirect.

        Args:
            server: the vault.
            request: the request.
            seconds: timeout; the client's own timeout also applies.

        Returns:
            The response, or a failure that may be retried.

        Raises:
            ClassInvalidError: the SecretProviderClass may not name the address or a file.
            ConnectionFailedError: the connection failed, and a retry would not help.
            PlatformError: the configured TLS files cannot be used.
            VaultError: the response is too large, or redirects without end, to plain HTTP, or to a
                host that is not permitted.
        """
        self.check_address(server, request.action)
        url, redirected_to = URL(server.address.base + request.path, encoded=True), None
        try:
            result = await self._send_once(server, request, url, seconds)
            if isinstance(result, URL):
                redirected_to = result
                result = await self._send_once(server, request, redirected_to, seconds)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if is_forbidden_address(error):
                host = server.host if redirected_to is None else redirected_to.authority
                raise forbidden_address_error(request.action, host) from None
            problem = vault_connection_problem(error, server, redirected_to)
            unsent = isinstance(
                error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError
            )
            if not problem.transient or not (request.idempotent or unsent):
                raise problem.error(request.action) from safe_cause(error)
            failure = problem.error(request.action)
            return RetryableFailure(failure, cause=safe_cause(error), host_fault=failure.host_fault)
        if isinstance(result, URL):
            raise VaultError(
                f"failed to {request.action}: {server.host} redirects more than once",
                "Set vaultAddress to the address of the active node or of a load balancer.",
            )
        if isinstance(result, RawResponse) and redirected_to is not None:
            return replace(
                result, from_other_host=_host_and_port(redirected_to) != _host_and_port(url)
            )
        return result

    async def inspect(self, server: Server, *, seconds: float) -> Inspection:
        """Open a connection to a vault as `send` does, and return what there is to see.

        Args:
            server: the vault, which has no Unix socket.
            seconds: time limit for creating the TLS context.

        Raises:
            ClassInvalidError: the SecretProviderClass may not name the address or a file.
            PlatformError: the configured TLS files cannot be used.
        """
        action = f"reach {server.host}"
        self.check_address(server, action)
        url = URL(server.address.base, encoded=True)
        guarded = server.address_from_class
        try:
            if url.scheme != "https":
                return await self._https.pool.inspect(
                    url, name=server.host, guarded=guarded, proxy=server.proxy
                )
            async with self._tls_contexts.open(server, seconds=seconds) as tls:
                return await tls.pool.inspect(
                    url,
                    name=server.host,
                    guarded=guarded,
                    proxy=server.proxy,
                    server_hostname=server.tls.server_name or None,
                    tls=tls.context,
                )
        except ForbiddenAddressError:
            raise forbidden_address_error(action, server.host) from None

    async def close(self) -> None:
        """Close all connections that this client opened."""
        await self._tls_contexts.close()
        for session in self._socket_sessions.values():
            await session.close()
        self._socket_sessions.clear()

    async def _send_once(
        self, server: Server, request: VaultRequest, url: URL, seconds: float
    ) -> RawResponse | URL | RetryableFailure:
        """Send a request to `url`; return the response, or the target of its redirect."""
        async with self._response(server, request, url, seconds) as response:
            try:
                body = await read_body(response, max_bytes=MAX_RESPONSE_BYTES, count=request.count)
            except BodyTooLargeError:
                raise VaultError(
                    f"failed to {request.action}: the response of {server.host} is larger than "
                    f"{MAX_RESPONSE_BYTES} bytes",
                    f"Check that {server.host} is a vault.",
                ) from None
        raw = RawResponse(response.status, body)
        if response.status == 400 and _TLS_REQUIRED_TEXT in body and url.scheme == "http":
            raise tls_required_problem(server).error(request.action)
        if response.status in _RETRYABLE_STATUSES and (
            request.idempotent or response.status in _UNPROCESSED_STATUSES
        ):
            pause = self._https.retry_after(response.headers)
            error = unavailable_error(
                raw.status,
                raw.errors,
                server,
                request.action,
                pause,
                secrets=(request.token, *request.secrets),
            )
            # 500 reports a failed backend of an engine, and 412 concerns only this request:
            # neither means that the host is unavailable.
            host_fault = response.status not in (412, 500)
            chosen = chooses_status(request.path) or chooses_status(url.raw_path)
            error.is_outage = host_fault and response.status != 429 and not chosen
            return RetryableFailure(error, pause, host_fault=host_fault, chosen_by_caller=chosen)
        if response.status in _REDIRECT_STATUSES and server.follow_redirects:
            target = _redirect_target(url, response.headers.get("Location", ""), server, request)
            self._check_redirect(url, target, server, request)
            return target
        return raw

    @asynccontextmanager
    async def _response(
        self, server: Server, request: VaultRequest, url: URL, seconds: float
    ) -> AsyncIterator[HttpResponse]:
        """Send a request to `url`; yield the response."""
        settings = self._https.settings
        limit = min(seconds, settings.try_timeout)
        options: dict[str, Any] = {
            "headers": _headers(server, request),
            "skip_auto_headers": ("Content-Type",),
            "data": request.body,
            "timeout": aiohttp.ClientTimeout(total=limit, connect=settings.connect_timeout),
        }
        if server.address.socket:
            session = self._socket_session(server.address.socket)
            async with session.request(
                request.method, url, allow_redirects=False, **options
            ) as response:
                yield response
            return
        options |= {"guarded": server.address_from_class, "proxy": server.proxy}
        if url.scheme != "https":
            async with self._https.pool.request(request.method, url, **options) as response:
                yield response
            return
        options["server_hostname"] = server.tls.server_name or None
        async with (
            self._tls_contexts.open(server, seconds=limit) as tls,
            tls.pool.request(request.method, url, ssl=tls.context, **options) as response,
        ):
            yield response

    def _socket_session(self, path: str) -> aiohttp.ClientSession:
        if path not in self._socket_sessions:
            self._socket_sessions[path] = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(path, limit=0), cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._socket_sessions[path]

    def _check_redirect(self, url: URL, target: URL, server: Server, request: VaultRequest) -> None:
        """Check the target of a redirect, which the author of a SecretProviderClass may control.

        Raises:
            VaultError: it is another host than that of the vault, and is not permitted.
        """
        listed = self._restrictions.vault_addresses
        if (
            not server.address_from_class
            or self._restrictions.any_redirect
            or _host_and_port(url) == _host_and_port(target)
            or (listed and is_listed(listed, *_host_and_port(target)))
        ):
            return
        raise redirect_error(server, request.action)


def _host_and_port(url: URL) -> tuple[str, int]:
    return (url.raw_host or "").rstrip(".").lower(), url.port or 0


def _headers(server: Server, request: VaultRequest) -> dict[str, str]:
    headers = {**dict(server.headers), "X-Vault-Request": "true"}
    if server.namespace:
        headers["X-Vault-Namespace"] = server.namespace
    if request.token:
        headers["X-Vault-Token"] = request.token
    return headers


def _redirect_target(url: URL, location: str, server: Server, request: VaultRequest) -> URL:
    """Return the target of a redirect. It receives the token, so TLS must not be dropped."""
    try:
        target = URL(urljoin(str(url), location), encoded=True)
        usable = target.scheme in ("http", "https") and bool(target.host and target.port)
    except ValueError:
        target, usable = url, False
    if not location or not usable:
        problem = f"failed to {request.action}: {server.host} redirects to an invalid address"
        raise VaultError(problem, "Set api_addr of every node of the vault.")
    if url.scheme == "https" and target.scheme != "https":
        problem = f"failed to {request.action}: {server.host} redirects from https to http"
        raise VaultError(problem, "Set api_addr of every node of the vault to an https address.")
    return target
