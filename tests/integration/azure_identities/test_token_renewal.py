"""How long a token is cached, and when it is renewed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import pytest

from keyferry.aio.clock import SystemClock
from keyferry.errors import IdentityError
from keyferry.net.http_client import HttpsClient
from keyferry.providers.azure.auth.identity import VmManagedIdentity
from keyferry.providers.azure.auth.token_cache import AccessTokenRequest, TokenCache
from keyferry.providers.azure.clouds import CLOUDS
from keyferry_devvault.http_types import RequestKind
from tests.fakes.devvault import DEFAULT_TENANT, DevVault, RespondStatus
from tests.fakes.resilience import uncached_fetcher
from tests.integration.azure_identities.calls import MI


class FastClock(SystemClock):
    """A clock that a test sets ahead.

    Attributes:
        seconds: how far.
    """

    seconds = 0.0

    def wall(self) -> datetime:
        return super().wall() + timedelta(seconds=self.seconds)


@asynccontextmanager
async def renewals(
    vault: DevVault, clock: FastClock
) -> AsyncIterator[Callable[[], Awaitable[str]]]:
    """Gets a token, and waits until nobody asks for another one any more."""
    client = HttpsClient(vault.emulator.https)
    credentials = TokenCache(client, uncached_fetcher().transport, clock=clock)
    login = AccessTokenRequest(VmManagedIdentity(MI), DEFAULT_TENANT, CLOUDS[0])

    async def token() -> str:
        got = await credentials.token_provider(login).get_token()
        while not credentials.cached_token(credentials.identity_key(login)).is_idle:  # noqa: ASYNC110 - a task has no event to wait for
            await asyncio.sleep(0.01)
        return got

    try:
        yield token
    finally:
        await credentials.close()
        await client.close()


@pytest.mark.parametrize(
    ("lifetime", "kept_until", "renewed_at"),
    [(3600, 3290, 3310), (60, 45, 51), (86400, 43190, 43210)],
)
async def test_a_token_is_renewed_before_it_expires(
    vault: DevVault, lifetime: int, kept_until: int, renewed_at: int
) -> None:
    """Five minutes before, in the last fifth of a short life, in the middle of a long one.

    Nobody waits for that: who comes first still gets the old token, the next one the new.
    """
    vault.tune(token_lifetime_seconds=lifetime)
    clock = FastClock()
    async with renewals(vault, clock) as token:
        first = await token()
        clock.seconds = kept_until
        assert (first, 1) == (await token(), vault.count(RequestKind.IMDS))
        clock.seconds = renewed_at
        vault.tune(token_lifetime_seconds=3 * lifetime)
        assert (first, 2) == (await token(), vault.count(RequestKind.IMDS))
        assert await token() != first
        assert vault.count(RequestKind.IMDS) == 2


async def test_a_failed_renewal_leaves_the_token_in_use_until_it_ends(vault: DevVault) -> None:
    """And is tried again, but not by every mount; in its last minute a token is not used."""
    clock = FastClock()
    async with renewals(vault, clock) as token:
        first = await token()
        vault.add_fault("/metadata", RespondStatus(403), times=None)
        asked = []
        for clock.seconds in (3310, 3320, 3345, 3530):
            assert await token() == first
            asked.append(vault.count(RequestKind.IMDS, status=403))
        assert asked == [1, 1, 2, 3]
        clock.seconds = 3545
        with pytest.raises(IdentityError):
            await token()
