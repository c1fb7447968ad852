"""keyferry.resilience.fetcher: the negative cache, and stale content during an outage."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from keyferry.errors import (
    AccessDeniedError,
    ConnectionFailedError,
    IdentityError,
    InternalError,
    KeyferryError,
    ObjectNotFoundError,
    ObjectUnusableError,
    VaultError,
    VaultThrottledError,
    VaultUnavailableError,
)
from keyferry.resilience.call_context import Purpose
from tests.fakes.resilience import ROTATING, number_vault, object_key
from tests.fakes.virtual_time import virtual_time

R = Purpose.REFRESH

# --- negative cache -------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ObjectNotFoundError("not found"), AccessDeniedError("denied")])
@virtual_time
async def test_refusal_is_cached_for_five_seconds(error: KeyferryError) -> None:
    """Each caller gets its own copy of the error."""
    async with number_vault() as vault:
        vault.error = error
        raised = []
        for _ in range(3):
            with pytest.raises(type(error)) as caught:
                await vault.get()
            raised.append(caught.value)
        assert (1, 2.0) == (vault.reads, vault.served("negative_hit"))
        assert 3 == len({id(one) for one in raised})
        vault.error = None
        await asyncio.sleep(5.0)
        assert 1 == await vault.get()


@virtual_time
async def test_refusal_is_cached_for_one_identity_only() -> None:
    async with number_vault() as vault:
        vault.error = AccessDeniedError("denied")
        with pytest.raises(AccessDeniedError):
            await vault.get(identity="a")
        vault.error = None
        assert 1 == await vault.get(identity="b")


@virtual_time
async def test_negative_cache_is_bounded() -> None:
    """SecretProviderClasses can name any number of objects; the oldest entries are evicted."""
    async with number_vault() as vault:
        vault.error = ObjectNotFoundError("not found")
        for number in range(5000):
            with pytest.raises(ObjectNotFoundError):
                await vault.get(identity=str(number))
        with pytest.raises(ObjectNotFoundError):
            await vault.get(identity="4999")
        assert 5000 == vault.reads
        with pytest.raises(ObjectNotFoundError):
            await vault.get(identity="0")
        assert 5001 == vault.reads


@virtual_time
async def test_other_failures_are_not_cached() -> None:
    async with number_vault() as vault:
        vault.error = VaultError("failed with status 503")
        for _ in range(2):
            with pytest.raises(VaultError):
                await vault.get()
        assert 2 == vault.reads


@virtual_time
async def test_denied_request_drops_cached_content() -> None:
    async with number_vault() as vault:
        await vault.get()
        vault.error = AccessDeniedError("denied")
        with pytest.raises(AccessDeniedError):
            await vault.get(max_age=0.0)
        with pytest.raises(AccessDeniedError):
            await vault.get()
        assert 0 == vault.fetcher.cache_bytes


# --- stale content during an outage ---------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        VaultError("failed with status 503"),
        ConnectionFailedError("failed to connect"),
        VaultThrottledError("throttles"),
        VaultUnavailableError("circuit breaker open"),
    ],
)
@virtual_time
async def test_starting_pod_gets_stale_content_during_an_outage(error: KeyferryError) -> None:
    """Only content that running pods of the same identity use; a refresh fails."""
    async with number_vault() as vault:
        await vault.get(volume="running")
        await asyncio.sleep(100.0)
        vault.error = error
        stale = await vault.fetch(volume="starting")
        assert (1, 100.0) == (stale.value, stale.age)
        assert (2, 1.0) == (vault.reads, vault.served("stale"))
        assert 100.0 == vault.fetcher.oldest_content_age
        vault.fetcher.release("running")
        assert 100.0 == vault.fetcher.oldest_content_age
        with pytest.raises(type(error)):
            await vault.get(identity="b")
        await asyncio.sleep(21.0)
        with pytest.raises(type(error)):
            await vault.get(R, volume="starting")
        assert 1 == await vault.get(volume="starting")
        await asyncio.sleep(120.0)
        with pytest.raises(type(error)):
            await vault.get(volume="late")


@pytest.mark.parametrize(
    "error",
    [
        IdentityError("no token"),
        AccessDeniedError("denied"),
        ObjectNotFoundError("not found"),
        ObjectUnusableError("not usable"),
        InternalError("internal error"),
    ],
)
@virtual_time
async def test_starting_pod_gets_no_stale_content_after_a_refusal(error: KeyferryError) -> None:
    async with number_vault() as vault:
        await vault.get()
        await asyncio.sleep(100.0)
        vault.error = error
        with pytest.raises(type(error)):
            await vault.get()


@virtual_time
async def test_zero_cache_ttl_disables_stale_content() -> None:
    async with number_vault(replace(ROTATING, cache_ttl=0.0)) as vault:
        await vault.get()
        vault.error = VaultError("failed with status 503")
        with pytest.raises(VaultError):
            await vault.get()


@virtual_time
async def test_content_that_was_only_revalidated_for_an_hour_is_not_served_stale() -> None:
    async with number_vault() as vault:
        await vault.get()
        for _ in range(30):
            await asyncio.sleep(120.0)
            vault.fetcher.mark_validated([object_key()], validated_at=vault.fetcher.now())
        await asyncio.sleep(20.0)
        vault.error = VaultError("failed with status 503")
        with pytest.raises(VaultError):
            await vault.get()
