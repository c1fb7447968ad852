"""The one HTTP client: TLS, time limits, translation of foreign exceptions. One request, one try.

`connection_errors` names what went wrong on the way, and `http_responses` reads what
came back; here are the connections. Whether and when there is another try is decided for the whole
vault in `keyferry.resilience`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import aiohttp

from keyferry.aio.clock import SystemClock
from keyferry.errors import VaultError
from keyferry.net.connection_errors import connection_problem, safe_cause
from keyferry.net.connector import new_connector
from keyferry.net.http_body import BodyTooLargeError, read_body
from keyferry.net.http_responses import (
    ErrorResponse,
    parse_error_response,
    parse_json_response,
    retryable_error,
)
from keyferry.net.proxies import Proxies
from keyferry.net.retryable import RETRY_STATUSES, RetryableFailure, retry_after_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from yarl import URL

    from keyferry.aio.clock import Clock


@dataclass(frozen=True, slots=True)
class HttpsSettings:
    """How connections to vaults are made. All times in seconds."""

    connector: Callable[[], aiohttp.TCPConnector] = new_connector
    """Makes the connection pool of a client."""
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
    """

    url: URL
    headers: Mapping[str, str] = field(repr=False)
    document: type[T]
    action: str


class HttpsClient:
    """Sends requests in one event loop; opens connections on first use.

    Args:
        settings: settings of the connections.
        clock: reads the time, for `Retry-After`.
    """

    def __init__(self, settings: HttpsSettings, *, clock: Clock | None = None) -> None:
        self.settings = settings
        self._clock = clock or SystemClock()
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._connector: aiohttp.TCPConnector | None = None

    def session(self, url: URL, *, proxied: bool = True) -> aiohttp.ClientSession:
        """Return the shared session for a request to `url`.

        Args:
            url: absolute.
            proxied: whether the proxies of the environment apply. Link-local services such as IMDS
                are never behind one.

        Raises:
            PlatformError: the connection pool cannot be made.
        """
        proxy = self.settings.proxies.proxy_for(url.scheme, url.host or "") if proxied else ""
        if proxy not in self._sessions:
            if self._connector is None:
                self._connector = self.settings.connector()
            # By default aiohttp reads the environment and ~/.netrc for each request, in a thread.
            self._sessions[proxy] = aiohttp.ClientSession(
                connector=self._connector,
                connector_owner=False,
                proxy=proxy or None,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._sessions[proxy]

    async def close(self) -> None:
        """Close every connection."""
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()
        if self._connector is not None:
            await self._connector.close()
            self._connector = None

    async def get_json(
        self, request: JsonRequest[T], seconds: float
    ) -> T | ErrorResponse | RetryableFailure:
        """Send `request` once and parse the JSON response.

        Args:
            request: the request.
            seconds: time limit; `try_timeout` also applies.

        Returns:
            The document; an error response; or a failure that the caller can retry.

        Raises:
            ConnectionFailedError: the connection failed, and a retry cannot succeed.
            VaultError: the response is not the JSON of `document`, or is too long.
        """
        limit = min(seconds, self.settings.try_timeout)
        timeout = aiohttp.ClientTimeout(total=limit, connect=self.settings.connect_timeout)
        url, action = request.url, request.action
        host = url.host or str(url)
        try:
            async with self.session(url).get(
                url, headers=request.headers, timeout=timeout, allow_redirects=False
            ) as response:
                body = await read_body(response, max_bytes=MAX_RESPONSE_BYTES)
        except BodyTooLargeError:
            raise VaultError(
                f"failed to {action}: the response of {host} is larger than {MAX_RESPONSE_BYTES}"
                " bytes",
                f"Check that {host} is a vault and that no proxy answers instead.",
            ) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
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
