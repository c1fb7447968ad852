"""The token of one whole identity: kept while it lasts, asked for once however many wait for it.

A token that nears its end is renewed by the next mount that comes, which does not wait for that:
until the old one really ends, no mount fails because the token endpoint does.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.azure.modes import profile
from keyferry.azure.token_errors import FAILURES, no_token
from keyferry.errors import KeyferryError
from keyferry.retry import TryFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry.azure.modes import Identity
    from keyferry.azure.token_source import AccessToken, TokenSource
    from keyferry.azure.token_sources import Login, TokenSources
    from keyferry.economy.hub import Economy
    from keyferry.https import HttpsClient

_RENEW_BEFORE_SECONDS = 300.0
_RENEW_BEFORE_SHARE = 0.2
"""A token is renewed so long before it expires, or in this last part of a short life."""
_UNUSED_SECONDS = 60.0
_UNUSED_SHARE = 0.05
"""It is not used any more in its last minute, or in this last part of a short life."""
_RENEW_AGAIN_SECONDS = 30.0
"""A renewal that failed is tried again after this."""


@dataclass(frozen=True, slots=True)
class _Flight:
    """A request for a token that is under way.

    Attributes:
        identity: whose proof it uses; another mount's may be newer.
        task: the request.
    """

    identity: Identity
    task: asyncio.Task[str]


class Credential:
    """One request at a time, and its result while it lasts.

    Args:
        https: reads the headers of refusals.
        economy: decides about further tries.
        sources: makes the source when it is first needed.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        https: HttpsClient,
        economy: Economy,
        sources: TokenSources,
        clock: Callable[[], float],
    ) -> None:
        self._https = https
        self._economy = economy
        self._sources = sources
        self._clock = clock
        self._source: TokenSource | None = None
        self._flight: _Flight | None = None
        self._kept: AccessToken | None = None
        self._renew_at = 0.0
        self._use_until = 0.0

    @property
    def idle(self) -> bool:
        """Whether nobody waits for a token of it."""
        return self._flight is None or self._flight.task.done()

    async def token(self, login: Login) -> str:
        """The kept token; else join the request that is under way, or make one."""
        now = self._clock()
        if self._kept is not None and now < self._use_until:
            if now >= self._renew_at and self.idle:
                self._renew_at = now + _RENEW_AGAIN_SECONDS
                self._start(login)
            return self._kept.text
        flight = self._flight
        if flight is None or flight.task.done():
            flight = self._start(login)
        try:
            return await asyncio.shield(flight.task)
        except KeyferryError:
            if flight.identity == login.identity:
                raise
        # It failed with the proof of another pod; ours may be newer.
        return await asyncio.shield(self._start(login).task)

    def forget(self, token: str) -> None:
        """Drop what is kept, unless somebody has got a newer one meanwhile."""
        if self._kept is not None and token == self._kept.text:
            self._source = None
            self._kept = None

    async def close(self) -> None:
        """Cancel the request that is under way."""
        if self._flight is not None:
            self._flight.task.cancel()
            await asyncio.wait([self._flight.task])

    def _start(self, login: Login) -> _Flight:
        task = asyncio.create_task(self._request(login))
        task.add_done_callback(_heed)
        self._flight = _Flight(login.identity, task)
        return self._flight

    async def _request(self, login: Login) -> str:
        if self._source is None:
            self._source = self._sources.new(login)
        source = self._source

        host, mode = self._sources.host(login), type(login.identity).__name__

        async def attempt(seconds: float) -> AccessToken | TryFailed:
            limit = min(seconds, self._https.settings.try_timeout)
            return await self._try(source, login, limit)

        kept = await self._economy.errand(host, mode=mode).run(attempt)
        left = max(kept.expires - self._clock(), 0.0)
        renew_at = kept.expires - min(_RENEW_BEFORE_SECONDS, left * _RENEW_BEFORE_SHARE)
        self._renew_at = renew_at if kept.renew is None else min(renew_at, kept.renew)
        self._use_until = kept.expires - min(_UNUSED_SECONDS, left * _UNUSED_SHARE)
        self._kept = kept
        return kept.text

    async def _try(
        self, source: TokenSource, login: Login, seconds: float
    ) -> AccessToken | TryFailed:
        try:
            return await source.token(profile(login.identity).token, seconds)
        except FAILURES as error:
            failure = no_token(
                error,
                identity=login.identity,
                tenant=login.tenant,
                host=self._sources.host(login),
            )
            # Not chained: what came from the endpoint goes no further than this.
            if not failure.transient:
                raise failure.error from None
            headers = failure.answer.headers if failure.answer else {}
            # One identity that is not known yet is no reason to leave the others without tokens.
            status = failure.answer.status if failure.answer else None
            of_server = status is None or status >= 500
            retry_after = self._https.retry_after(headers)
            return TryFailed(failure.error, retry_after, of_server=of_server)


def _heed(task: asyncio.Task[str]) -> None:
    """Take note of a failure that nobody waits for any more, so that asyncio does not report it."""
    if not task.cancelled():
        task.exception()
