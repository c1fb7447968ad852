"""The one HTTP client: TLS, time limits, translation of foreign exceptions. One request, one try.

`connection_errors` names what went wrong on the way, and `http_responses` reads what
came back; here are the connections. Whether and when there is another try is decided for the whole
vault in `keyferry.resilience`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from keyferry.aio.clock import SystemClock
from keyferry.aio.http_library import aiohttp
from keyferry.errors import VaultError
from keyferry.net.connection_errors import (
    connection_problem,
    forbidden_address_error,
    is_forbidden_address,
    safe_cause,
)
from keyferry.net.connection_pool import ConnectionPool, Connections, HttpsSettings
from keyferry.net.exchange import BodyTooLargeError, ignore_bytes, read_body
from keyferry.net.http_responses import (
    ErrorResponse,
    parse_error_response,
    parse_json_response,
    retryable_error,
)
from keyferry.net.retryable import RETRY_STATUSES, RetryableFailure, retry_after_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from yarl import URL

    from keyferry.aio.clock import Clock
    from keyferry.net.address_guard import AddressGuard


__all__ = ["HttpsClient", "HttpsSettings", "JsonRequest"]

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
        count: called with the size of each chunk of the response.
    """

    url: URL
    headers: Mapping[str, str] = field(repr=False)
    document: type[T]
    action: str
    count: Callable[[int], None] = ignore_bytes


class HttpsClient:
    """Sends requests in one event loop; opens connections on first use.

    Args:
        settings: settings of the connections.
        clock: reads the time, for `Retry-After`.
        guard: refuses connections to some addresses for hosts that SecretProviderClasses name;
            None for none.

    Attributes:
        pool: the connections with the default TLS context.
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
        self._connections = Connections(settings, guard)
        self.pool = self.new_pool()

    def new_pool(self) -> ConnectionPool:
        """Return a new pool of connections; its owner closes it."""
        return ConnectionPool(self._connections)

    async def close(self) -> None:
        """Close every connection of every pool."""
        await self._connections.close()

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
            async with self.pool.request(
                "GET", url, guarded=True, headers=request.headers, timeout=timeout
            ) as response:
                body = await read_body(response, max_bytes=MAX_RESPONSE_BYTES, count=request.count)
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
            failure = problem.error(action)
            return RetryableFailure(failure, cause=safe_cause(error), host_fault=failure.host_fault)
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
