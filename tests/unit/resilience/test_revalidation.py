"""keyferry.resilience.revalidation: when a list is requested, and what is done with its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from keyferry.errors import (
    IdentityError,
    KeyferryError,
    VaultError,
    VaultThrottledError,
    VaultUnavailableError,
)
from keyferry.resilience.cache_key import CacheKey, IdentityKey
from keyferry.resilience.call_context import CallContext, Purpose
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.revalidation import BulkRevalidator, ListRefusedError
from tests.fakes.resilience import HOST, ROTATING
from tests.fakes.virtual_time import LoopClock, max_jitter, virtual_time

IDENTITY = IdentityKey("Mode", ("a",))


def key(name: str) -> CacheKey:
    return CacheKey(HOST, IDENTITY, ("read", name))


KNOWN_LIMITS = 20


@dataclass
class ListedVault:
    """A vault with one list of all its objects, which never change.

    Attributes:
        fetcher: sends the requests.
        length: of the list.
        is_refused: whether the list is refused.
        error: raised instead of the list.
        list_limits: the longest useful list, for each request of the list.
        reads: the number of requests for objects.
    """

    fetcher: Fetcher
    length: int = 1
    is_refused: bool = False
    error: KeyferryError | None = None
    list_limits: list[int] = field(default_factory=list)
    reads: int = 0

    def __post_init__(self) -> None:
        self.revalidator = BulkRevalidator(self.fetcher, max_known_limits=KNOWN_LIMITS)

    async def refresh(self, count: int) -> None:
        """Let one interval pass, and refresh a pod with this number of objects."""
        await asyncio.sleep(121.0)
        await asyncio.gather(*(self.fetch(str(number)) for number in range(count)))

    def lists(self, outcome: str) -> float:
        """Return how many lists had this outcome."""
        labels = {"vault": HOST, "identity": "Mode", "outcome": outcome}
        registry = self.fetcher.metrics.registry
        return registry.get_sample_value("keyferry_vault_list_requests_total", labels) or 0.0

    async def fetch(self, name: str) -> int:
        """Refresh one object."""

        async def read(context: CallContext) -> int:
            self.reads += 1
            return 1

        async def revalidate(cached: int, context: CallContext) -> bool:
            return await self.revalidator.revalidate(VaultListing(self, key(name)), context)

        fetched = await self.fetcher.fetch(
            key(name),
            read,
            purpose=Purpose.REFRESH,
            size_of=lambda _: 10,
            revalidate=revalidate,
            volume="pod",
        )
        return fetched.value


@dataclass(frozen=True)
class VaultListing:
    """Implements `RevalidationList`."""

    vault: ListedVault
    key: CacheKey
    list_name: str = "list"

    @property
    def list_key(self) -> CacheKey:
        return CacheKey(HOST, IDENTITY, (self.list_name,))

    def covers(self, key: CacheKey, value: Any) -> bool:
        return key.resource[0] == "read"

    def max_length(self, cached: int) -> int:
        return max(cached - 1, 0)

    async def find_unchanged(
        self, cached: Mapping[CacheKey, Any], context: CallContext, *, limit: int
    ) -> frozenset[CacheKey] | None:
        self.vault.list_limits.append(limit)
        if self.vault.is_refused:
            raise ListRefusedError
        if self.vault.error:
            raise self.vault.error
        return None if self.vault.length > limit else frozenset(cached)


@asynccontextmanager
async def listed_vault() -> AsyncIterator[ListedVault]:
    fetcher = Fetcher(ROTATING, LoopClock(), random=max_jitter)
    try:
        yield ListedVault(fetcher)
    finally:
        await fetcher.close()


@virtual_time
async def test_one_list_revalidates_all_objects() -> None:
    async with listed_vault() as vault:
        for _ in range(3):
            await vault.refresh(5)
        assert ([4, 4], 5) == (vault.list_limits, vault.reads)
        assert 2.0 == vault.lists("read")


@virtual_time
async def test_list_that_saves_no_request_is_not_requested() -> None:
    async with listed_vault() as vault:
        for _ in range(3):
            await vault.refresh(1)
        assert ([], 3) == (vault.list_limits, vault.reads)


@virtual_time
async def test_list_that_was_too_long_is_requested_when_it_can_save_more() -> None:
    """Or after an hour, when it may be shorter."""
    async with listed_vault() as vault:
        vault.length = 7
        for count in (5, 5, 5, 9, 9, 9):
            await vault.refresh(count)
        assert [4, 8, 8, 8] == vault.list_limits
        assert (1.0, 3.0) == (vault.lists("too_long"), vault.lists("read"))


@virtual_time
async def test_refused_list_is_not_requested_for_an_hour() -> None:
    async with listed_vault() as vault:
        vault.is_refused = True
        for count in (2, 2, *range(2, 30)):
            await vault.refresh(count)
        assert 1 == len(vault.list_limits)
        for _ in range(2):
            await vault.refresh(29)
        assert 2 == len(vault.list_limits)
        assert 2.0 == vault.lists("refused")


@virtual_time
async def test_failed_list_is_not_requested_for_five_minutes_and_objects_are_read() -> None:
    async with listed_vault() as vault:
        await vault.refresh(5)
        vault.error = VaultError("failed to list: the response is too large")
        for reads in (10, 15, 20):
            await vault.refresh(5)
            assert (1, reads) == (len(vault.list_limits), vault.reads)
        vault.error = None
        await vault.refresh(5)
        assert (2, 20) == (len(vault.list_limits), vault.reads)
        assert (1.0, 1.0) == (vault.lists("failed"), vault.lists("read"))


@pytest.mark.parametrize("error", [IdentityError, VaultThrottledError, VaultUnavailableError])
@virtual_time
async def test_error_that_reads_would_meet_too_fails_the_refresh(
    error: type[KeyferryError],
) -> None:
    """A vault that throttles gets no request for each object; the list is requested again."""
    async with listed_vault() as vault:
        await vault.refresh(5)
        vault.error = error("unavailable")
        await asyncio.sleep(121.0)
        for attempts in (1, 2):
            await asyncio.sleep(10.0)
            with pytest.raises(error):
                await vault.fetch("0")
            assert (attempts, 5) == (len(vault.list_limits), vault.reads)
        assert 2.0 == vault.lists("failed")


@virtual_time
async def test_number_of_remembered_limits_is_bounded() -> None:
    """SecretProviderClasses can name any number of vaults; the oldest limits are evicted."""
    async with listed_vault() as vault:
        vault.is_refused = True
        await vault.refresh(2)
        await vault.refresh(2)
        assert 1 == len(vault.list_limits)
        for number in range(KNOWN_LIMITS):
            other = VaultListing(vault, key("0"), list_name=f"list-{number}")
            await vault.revalidator.revalidate(other, CallContext.new(HOST))
        vault.list_limits.clear()
        await vault.refresh(2)
        assert 1 == len(vault.list_limits)
