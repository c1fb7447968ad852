"""The one HTTP client: TLS, time limits, translation of foreign exceptions. One request, one try.

`connection_errors` names what went wrong on the way, and `http_responses` reads what
came back; here are the connections. Whether and when there is another try is decided for the whole
vault in `keyferry.resilience`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import aiohttp

from keyferry.aio.clock import SystemClock
from keyferry.errors import VaultError
from keyferry.net.connection_errors import (
    connection_problem,
    forbidden_address_error,
    is_forbidden_address,
    safe_cause,
)
from keyferry.net.connector import new_connector
from keyferry.net.http_body import BodyTooLargeError, read_body, uncounted
from keyferry.net.http_responses import (
    ErrorResponse,
    parse_error_response,
    parse_json_response,
    retryable_error,
)
from keyferry.net.proxies import Proxies
from keyferry.net.resolver import TenantResolver
from keyferry.net.retryable import RETRY_STATUSES, RetryableFailure, retry_after_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.abc import AbstractResolver
    from yarl import URL

    from keyferry.aio.clock import Clock
    from keyferry.net.address_guard import AddressGuard
    from keyferry.net.http_body import Receiving


class NewConnector(Protocol):
    """Makes a connection pool."""

    def __call__(
        self, *, resolver: AbstractResolver | None = None, guard: AddressGuard | None = None
    ) -> aiohttp.TCPConnector:
        """Return a new connection pool; see `new_connector`."""


@dataclass(frozen=True, slots=True)
class HttpsSettings:
    """How connections to vaults are made. All times in seconds."""

    connector: NewConnector = field(default_factory=lambda: new_connector)
    """Makes the connection pools of a client."""
    proxies: Proxies = field(default_factory=Proxies)
    """The proxies of the environment."""
    connect_timeout: float = 5.0
    """For DNS, TCP and TLS together."""
    try_timeout: float = 15.0
    """For one request and its answer."""


T = TypeVar("T")

MAX_RESPONSE_BYTES = 1 << 20
"""Limit of a response body; a Key Vault secret has at most 25 KiB."""


@dataclass(frozen=True, slots=True)
class JsonRequest(Generic[T]):
    """A GET request for a JSON document.

    Attributes:
        url: absolute, encoded.
        headers: of the request.
        document: the msgspec type of the response body.
        action: completes the sentence "failed to ...", for messages.
        receiving: counts the bytes of the response while it arrives.
    """

    url: URL
    headers: Mapping[str, str] = field(repr=False)
    document: type[T]
    action: str
    receiving: Receiving = uncounted


class ConnectionPool:
    """The connections of one client, or those with one TLS context; opened on first use.

    Args:
        settings: settings of the connections.
        resolver: resolves host names.
        guard: refuses connections to some addresses for guarded requests; None for none.
    """

    def __init__(
        self, settings: HttpsSettings, resolver: TenantResolver, guard: AddressGuard | None
    ) -> None:
        self._settings = settings
        self._resolver = resolver
        self._guard = guard
        self._connectors: dict[bool, aiohttp.TCPConnector] = {}
        self._sessions: dict[tuple[str, bool], aiohttp.ClientSession] = {}

    def session(
        self, url: URL, *, proxied: bool = True, guarded: bool = False, proxy: str = ""
    ) -> aiohttp.ClientSession:
        """Return the shared session for a request to `url`.

        Args:
            url: absolute.
            proxied: whether the proxies of the environment apply. Link-local services such as IMDS
                are never behind one.
            guarded: whether a SecretProviderClass names the host, so that the guard applies. A
                proxy resolves the name itself; then only the name is checked.
            proxy: URL of the proxy to use instead of those of the environment; "" for none.

        Raises:
            ForbiddenAddressError: the guard refuses the host.
            PlatformError: the connection pool cannot be made.
        """
        if guarded and self._guard is not None:
            self._guard.check_host(url.raw_host or "")
        if proxied and not proxy:
            proxy = self._settings.proxies.proxy_for(url.scheme, url.host or "")
        key = (proxy, guarded and not proxy)
        if key not in self._sessions:
            # By default aiohttp reads the environment and ~/.netrc for each request, in a thread.
            self._sessions[key] = aiohttp.ClientSession(
                connector=self._connector(guarded=key[1]),
                connector_owner=False,
                proxy=proxy or None,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._sessions[key]

    def _connector(self, *, guarded: bool) -> aiohttp.TCPConnector:
        guarded = guarded and self._guard is not None
        if guarded not in self._connectors:
            guard = self._guard if guarded else None
            self._connectors[guarded] = self._settings.connector(
                resolver=self._resolver, guard=guard
            )
        return self._connectors[guarded]

    async def close(self) -> None:
        """Close every connection."""
        sessions, connectors = list(self._sessions.values()), list(self._connectors.values())
        self._sessions.clear()
        self._connectors.clear()
        for session in sessions:
            await session.close()
        for connector in connectors:
            await connector.close()


class HttpsClient:
    """Sends requests in one event loop; opens connections on first use.

    Args:
        settings: settings of the connections.
        clock: reads the time, for `Retry-After`.
        guard: refuses connections to some addresses for hosts that SecretProviderClasses name;
            None for none.
    """

    def __init__(
        self,
        settings: HttpsSettings,
        *,
        clock: Clock | None = None,
        guard: AddressGuard | None = None,
    ) -> None:
        self.settings = settings
        self._clock = clock or SystemClock()
        self._guard = guard
        self._resolver = TenantResolver()
        self._pool = self.new_pool()

    def new_pool(self) -> ConnectionPool:
        """Return a new pool of connections; its owner closes it."""
        return ConnectionPool(self.settings, self._resolver, self._guard)

    def session(
        self, url: URL, *, proxied: bool = True, guarded: bool = False
    ) -> aiohttp.ClientSession:
        """Return the shared session for a request to `url`; see `ConnectionPool.session`."""
        return self._pool.session(url, proxied=proxied, guarded=guarded)

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()

    async def get_json(
        self, request: JsonRequest[T], seconds: float
    ) -> T | ErrorResponse | RetryableFailure:
        """Send `request` once and parse the JSON response.

        A SecretProviderClass names the host, so the guard applies.

        Args:
            request: the request.
            seconds: time limit; `try_timeout` also applies.

        Returns:
            The document; an error response; or a failure that the caller can retry.

        Raises:
            ClassInvalidError: the guard refuses the host.
            ConnectionFailedError: the connection failed, and a retry cannot succeed.
            VaultError: the response is not the JSON of `document`, or is too long.
        """
        limit = min(seconds, self.settings.try_timeout)
        timeout = aiohttp.ClientTimeout(total=limit, connect=self.settings.connect_timeout)
        url, action = request.url, request.action
        host = url.host or str(url)
        try:
            async with self.session(url, guarded=True).get(
                url, headers=request.headers, timeout=timeout, allow_redirects=False
            ) as response:
                with request.receiving() as count:
                    body = await read_body(response, max_bytes=MAX_RESPONSE_BYTES, count=count)
        except BodyTooLargeError:
            raise VaultError(
                f"failed to {action}: the response of {host} is larger than {MAX_RESPONSE_BYTES}"
                " bytes",
                f"Check that {host} is a vault and that no proxy answers instead.",
            ) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if is_forbidden_address(error):
                raise forbidden_address_error(action, host) from None
            problem = connection_problem(error, host=host)
            if not problem.transient:
                raise problem.error(action) from safe_cause(error)
            return RetryableFailure(problem.error(action), cause=safe_cause(error))
        if response.status in RETRY_STATUSES:
            pause = self.retry_after(response.headers)
            return RetryableFailure(
                retryable_error(response.status, host=host, action=action, retry_after=pause), pause
            )
        if response.status != 200:
            return parse_error_response(response.status, response.headers, body)
        return parse_json_response(body, request.document, host=host, action=action)

    def retry_after(self, headers: Mapping[str, str]) -> float | None:
        """Return the seconds of a Retry-After header; None without one."""
        return retry_after_seconds(headers, now=self._clock.wall().timestamp())
