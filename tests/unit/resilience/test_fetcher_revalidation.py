"""keyferry.resilience.fetcher: refreshes that revalidate cached content, in virtual time."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from keyferry.errors import AccessDeniedError
from keyferry.resilience.call_context import Purpose
from tests.fakes.resilience import number_vault, object_key
from tests.fakes.virtual_time import virtual_time

R = Purpose.REFRESH


@virtual_time
async def test_revalidated_content_is_not_requested_again() -> None:
    """It is also fresh for the next pod."""
    async with number_vault() as vault:
        await vault.get()
        await asyncio.sleep(121.0)
        assert 1 == await vault.get(R, revalidate=True)
        assert 1 == await vault.get(R, revalidate=True, volume="other")
        assert (1, 1, 1.0) == (vault.reads, vault.revalidations, vault.served("revalidated"))


@virtual_time
async def test_changed_content_is_requested_once() -> None:
    async with number_vault() as vault:
        await vault.get()
        vault.value = 2
        await asyncio.sleep(121.0)
        assert 2 == await vault.get(R, revalidate=True)
        assert (2, 1) == (vault.reads, vault.revalidations)


@virtual_time
async def test_age_counts_from_the_request_of_the_revalidation() -> None:
    async with number_vault() as vault:
        await vault.get()
        await asyncio.sleep(121.0)
        vault.revalidation_latency = 10.0
        await vault.get(R, revalidate=True)
        assert (1, 1) == (vault.reads, vault.revalidations)
        await vault.get(max_age=11.0)
        assert 1 == vault.reads
        await vault.get(max_age=9.0)
        assert 2 == vault.reads


@virtual_time
async def test_content_is_requested_again_after_an_hour_of_revalidations() -> None:
    """Revalidation does not notice a revoked read permission; a request does."""
    async with number_vault() as vault:
        await vault.get()
        for _ in range(29):
            await asyncio.sleep(121.0)
            await vault.get(R, revalidate=True)
        assert (1, 29) == (vault.reads, vault.revalidations)
        key = object_key()
        select = partial(vault.fetcher.select_revalidatable, key.vault, key.identity)
        assert {key: 1} == select(lambda _, value: value == 1)
        await asyncio.sleep(121.0)
        assert {} == select(lambda _, __: True)
        vault.error = AccessDeniedError("denied")
        with pytest.raises(AccessDeniedError):
            await vault.get(R, revalidate=True)
        assert (2, 29) == (vault.reads, vault.revalidations)


@virtual_time
async def test_first_mount_requests_the_content_instead_of_a_revalidation() -> None:
    """Both cost one request."""
    async with number_vault() as vault:
        await vault.get(revalidate=True)
        await asyncio.sleep(121.0)
        await vault.get(revalidate=True)
        assert (2, 0) == (vault.reads, vault.revalidations)
