"""keyferry.resilience.fetcher: what answers a refresh that somebody requested."""

from __future__ import annotations

import asyncio

import pytest

from keyferry.errors import AccessDeniedError, ObjectMissingError
from keyferry.resilience.call_context import Purpose
from tests.fakes.resilience import NumberVault, now, number_vault
from tests.fakes.virtual_time import virtual_time

R = Purpose.REFRESH


async def _refused(vault: NumberVault) -> None:
    vault.error = ObjectMissingError("no such object")
    with pytest.raises(ObjectMissingError):
        await vault.get()
    vault.error = None


@virtual_time
async def test_negative_cache_does_not_answer_a_refresh_that_was_requested_later() -> None:
    async with number_vault() as vault:
        await _refused(vault)
        await asyncio.sleep(1.0)
        with pytest.raises(ObjectMissingError):
            await vault.fetch(R)
        assert 1 == (await vault.fetch(R, not_before=now())).value


@virtual_time
async def test_negative_cache_answers_a_refresh_that_was_requested_before() -> None:
    async with number_vault() as vault:
        requested_at = now()
        await asyncio.sleep(1.0)
        await _refused(vault)
        with pytest.raises(ObjectMissingError):
            await vault.fetch(R, not_before=requested_at)
        assert 1 == vault.reads


@virtual_time
async def test_value_ends_the_negative_cache() -> None:
    async with number_vault() as vault:
        await _refused(vault)
        await asyncio.sleep(1.0)
        await vault.fetch(R, not_before=now())
        assert 1 == await vault.get(max_age=0.0)


@virtual_time
async def test_requested_refresh_does_not_join_an_earlier_call() -> None:
    async with number_vault() as vault:
        vault.latency = 10.0
        earlier = asyncio.create_task(vault.fetch(R))
        await asyncio.sleep(4.0)
        requested = asyncio.create_task(vault.fetch(R, not_before=now()))
        await asyncio.sleep(2.0)
        joined = asyncio.create_task(vault.fetch(R))
        await asyncio.gather(earlier, requested, joined)
        assert 2 == vault.reads
        assert (4.0, 4.0) == ((await requested).fetched_at, (await joined).fetched_at)


@virtual_time
async def test_overtaken_value_does_not_replace_a_newer_one() -> None:
    async with number_vault() as vault:
        vault.latency = 10.0
        earlier = asyncio.create_task(vault.fetch(R))
        await asyncio.sleep(4.0)
        vault.latency = 1.0
        await vault.fetch(R, not_before=now())
        await earlier
        assert 4.0 == (await vault.fetch()).fetched_at


@virtual_time
async def test_overtaken_value_does_not_hide_a_newer_error() -> None:
    async with number_vault() as vault:
        vault.latency = 10.0
        earlier = asyncio.create_task(vault.fetch(R))
        await asyncio.sleep(4.0)
        vault.latency, vault.error = 1.0, AccessDeniedError("denied")
        with pytest.raises(AccessDeniedError):
            await vault.fetch(R, not_before=now())
        vault.error = None
        await earlier
        assert 0 == vault.fetcher.cache_bytes


@virtual_time
async def test_overtaken_error_does_not_drop_a_newer_value() -> None:
    async with number_vault() as vault:
        vault.latency = 10.0
        earlier = asyncio.create_task(vault.fetch(R))
        await asyncio.sleep(4.0)
        vault.latency = 1.0
        await vault.fetch(R, not_before=now())
        vault.error = ObjectMissingError("no such object")
        with pytest.raises(ObjectMissingError):
            await earlier
        assert 10 == vault.fetcher.cache_bytes
        assert 4.0 == (await vault.fetch()).fetched_at
