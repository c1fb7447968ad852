"""The token of one whole identity: kept while it lasts, asked for once however many wait for it.

A token that nears its end is renewed by the next mount that comes, which does not wait for that:
until the old one really ends, no mount fails because the token endpoint does.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.errors import KeyferryError
from keyferry.providers.azure.auth.identity import profile
from keyferry.providers.azure.auth.token_errors import TOKEN_EXCEPTIONS, token_failure
from keyferry.resilience.retry import RetryableFailure

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry.net.http_client import HttpsClient
    from keyferry.providers.azure.auth.access_token import AccessToken, TokenSource
    from keyferry.providers.azure.auth.identity import Identity
    from keyferry.providers.azure.auth.token_sources import AccessTokenRequest, TokenSourceFactory
    from keyferry.resilience.fetcher import Fetcher

_RENEW_BEFORE_SECONDS = 300.0
_RENEW_BEFORE_SHARE = 0.2
"""A token is renewed so long before it expires, or in this last part of a short life."""
_EXPIRY_MARGIN_SECONDS = 60.0
_EXPIRY_MARGIN_SHARE = 0.05
"""It is not used any more in its last minute, or in this last part of a short life."""
_RENEW_RETRY_SECONDS = 30.0
"""A renewal that failed is tried again after this."""


@dataclass(frozen=True, slots=True)
class _InFlightRequest:
    """A request for a token that is under way.

    Attributes:
        identity: whose proof it uses; another mount's may be newer.
        task: the request.
    """

    identity: Identity
    task: asyncio.Task[str]


class CachedToken:
    """One request at a time, and its result while it lasts.

    Args:
        https: reads the headers of refusals.
        fetcher: decides about further tries.
        source_factory: makes the source when it is first needed.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        https: HttpsClient,
        fetcher: Fetcher,
        source_factory: TokenSourceFactory,
        clock: Callable[[], float],
    ) -> None:
        self._https = https
        self._fetcher = fetcher
        self._source_factory = source_factory
        self._clock = clock
        self._source: TokenSource | None = None
        self._in_flight: _InFlightRequest | None = None
        self._token: AccessToken | None = None
        self._renew_at = 0.0
        self._use_until = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for a token of it."""
        return self._in_flight is None or self._in_flight.task.done()

    async def get_token(self, request: AccessTokenRequest) -> str:
        """The kept token; else join the request that is under way, or make one."""
        now = self._clock()
        if self._token is not None and now < self._use_until:
            if now >= self._renew_at and self.is_idle:
                self._renew_at = now + _RENEW_RETRY_SECONDS
                self._start_request(request)
            return self._token.text
        flight = self._in_flight
        if flight is None or flight.task.done():
            flight = self._start_request(request)
        try:
            return await asyncio.shield(flight.task)
        except KeyferryError:
            if flight.identity == request.identity:
                raise
        # It failed with the proof of another pod; ours may be newer.
        return await asyncio.shield(self._start_request(request).task)

    def invalidate(self, token: str) -> None:
        """Drop what is kept, unless somebody has got a newer one meanwhile."""
        if self._token is not None and token == self._token.text:
            self._source = None
            self._token = None

    async def close(self) -> None:
        """Cancel the request that is under way."""
        if self._in_flight is not None:
            self._in_flight.task.cancel()
            await asyncio.wait([self._in_flight.task])

    def _start_request(self, request: AccessTokenRequest) -> _InFlightRequest:
        task = asyncio.create_task(self._request_token(request))
        task.add_done_callback(_consume_exception)
        self._in_flight = _InFlightRequest(request.identity, task)
        return self._in_flight

    async def _request_token(self, request: AccessTokenRequest) -> str:
        if self._source is None:
            self._source = self._source_factory.create(request)
        source = self._source

        host, mode = self._source_factory.endpoint_host(request), type(request.identity).__name__

        async def attempt(seconds: float) -> AccessToken | RetryableFailure:
            limit = min(seconds, self._https.settings.try_timeout)
            return await self._try_once(source, request, limit)

        kept = await self._fetcher.caller_for(host, mode=mode).call(attempt)
        left = max(kept.expires_at - self._clock(), 0.0)
        renew_at = kept.expires_at - min(_RENEW_BEFORE_SECONDS, left * _RENEW_BEFORE_SHARE)
        self._renew_at = renew_at if kept.renew_at is None else min(renew_at, kept.renew_at)
        self._use_until = kept.expires_at - min(_EXPIRY_MARGIN_SECONDS, left * _EXPIRY_MARGIN_SHARE)
        self._token = kept
        return kept.text

    async def _try_once(
        self, source: TokenSource, request: AccessTokenRequest, seconds: float
    ) -> AccessToken | RetryableFailure:
        try:
            return await source.request_token(
                profile(request.identity).service_account_token, seconds
            )
        except TOKEN_EXCEPTIONS as error:
            failure = token_failure(
                error,
                identity=request.identity,
                tenant=request.tenant,
                host=self._source_factory.endpoint_host(request),
            )
            # Not chained: what came from the endpoint goes no further than this.
            if not failure.transient:
                raise failure.error from None
            headers = failure.response.headers if failure.response else {}
            # One identity that is not known yet is no reason to leave the others without tokens.
            status = failure.response.status if failure.response else None
            of_server = status is None or status >= 500
            retry_after = self._https.retry_after(headers)
            return RetryableFailure(failure.error, retry_after, host_fault=of_server)


def _consume_exception(task: asyncio.Task[str]) -> None:
    """Take note of a failure that nobody waits for any more, so that asyncio does not report it."""
    if not task.cancelled():
        task.exception()
