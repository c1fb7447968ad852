"""keyferry.resilience.revalidation: when a list is asked for, and what is learnt of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
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
from keyferry.resilience.settings import ResilienceSettings
from tests.fakes.virtual_time import LoopClock, max_jitter, run_in_virtual_time

ROTATING = ResilienceSettings(refresh_interval=120.0, tracks_volumes=True, qps=0.0)
WHO = IdentityKey("Mode", ("a",))


def key(name: str, who: IdentityKey = WHO) -> CacheKey:
    return CacheKey("contoso", who, ("read", name))


@dataclass
class ListedVault:
    """A vault with a list of its objects.

    Attributes:
        length: of the list.
        refuses: whether nobody gets it.
        error: what becomes of it otherwise.
        asked: how long a list each question for it would take.
    """

    fetcher: Fetcher
    length: int = 1
    refuses: bool = False
    error: KeyferryError | None = None
    asked: list[int] = field(default_factory=list)
    reads: int = 0

    def __post_init__(self) -> None:
        self.revalidator = BulkRevalidator(self.fetcher)

    async def refresh(self, count: int) -> None:
        """Two minutes later: the refresh of a pod with so many objects."""
        await asyncio.sleep(121.0)
        await asyncio.gather(*(self.fetch(str(number)) for number in range(count)))

    def lists(self, outcome: str) -> float:
        """How many lists ended so."""
        labels = {"vault": "contoso", "identity": "Mode", "outcome": outcome}
        registry = self.fetcher.metrics.registry
        return registry.get_sample_value("keyferry_vault_list_requests_total", labels) or 0.0

    async def fetch(self, name: str) -> int:
        async def read(context: CallContext) -> int:
            self.reads += 1
            return 1

        async def unchanged(held: int, context: CallContext) -> bool:
            return await self.revalidator.revalidate(VaultListing(self, key(name)))

        fetched = await self.fetcher.fetch(
            key(name),
            read,
            purpose=Purpose.REFRESH,
            size_of=lambda _: 10,
            revalidate=unchanged,
            volume="pod",
        )
        return fetched.value


@dataclass(frozen=True)
class VaultListing:
    """Implements `Collection` for all objects of a shelf."""

    vault: ListedVault
    key: CacheKey

    @property
    def list_key(self) -> CacheKey:
        return CacheKey("contoso", WHO, ("list",))

    def covers(self, key: CacheKey, value: Any) -> bool:
        return key.resource[0] == "read"

    def max_length(self, cached: int) -> int:
        return max(cached - 1, 0)

    async def find_unchanged(
        self, cached: Mapping[CacheKey, Any], context: CallContext, *, limit: int
    ) -> frozenset[CacheKey] | None:
        self.vault.asked.append(limit)
        if self.vault.refuses:
            raise ListRefusedError
        if self.vault.error:
            raise self.vault.error
        return None if self.vault.length > limit else frozenset(cached)


Story = Callable[[ListedVault], Awaitable[None]]


def play(story: Story) -> None:
    async def run() -> None:
        economy = Fetcher(ROTATING, LoopClock(), random=max_jitter)
        await story(ListedVault(economy))
        await economy.close()

    run_in_virtual_time(run())


def test_one_list_serves_all_objects() -> None:
    """However many ask for a proof at once."""

    async def story(shelf: ListedVault) -> None:
        for _ in range(3):
            await shelf.refresh(5)
        assert ([4, 4], 5) == (shelf.asked, shelf.reads)
        assert 2.0 == shelf.lists("read")

    play(story)


def test_no_list_is_asked_for_that_spares_nothing() -> None:
    """An object alone is as cheap as the list."""

    async def story(shelf: ListedVault) -> None:
        for _ in range(3):
            await shelf.refresh(1)
        assert ([], 3) == (shelf.asked, shelf.reads)

    play(story)


def test_a_list_that_is_too_long_is_asked_for_again_when_it_could_spare_more() -> None:
    """Or after an hour, when it may have become shorter."""

    async def story(shelf: ListedVault) -> None:
        shelf.length = 7
        for count in (5, 5, 5, 9, 9, 9):
            await shelf.refresh(count)
        assert [4, 8, 8, 8] == shelf.asked
        assert (1.0, 3.0) == (shelf.lists("too_long"), shelf.lists("read"))

    play(story)


def test_a_refusal_counts_for_an_hour_however_much_it_could_spare() -> None:
    """Then it is tried once again."""

    async def story(shelf: ListedVault) -> None:
        shelf.refuses = True
        for count in (2, 2, *range(2, 30)):
            await shelf.refresh(count)
        assert 1 == len(shelf.asked)
        for _ in range(2):
            await shelf.refresh(29)
        assert 2 == len(shelf.asked)
        assert 2.0 == shelf.lists("refused")

    play(story)


def test_a_list_that_fails_is_left_alone_for_five_minutes_and_the_objects_are_read() -> None:
    """It was to spare calls; no refresh fails of it, and nobody hammers it."""

    async def story(shelf: ListedVault) -> None:
        await shelf.refresh(5)
        shelf.error = VaultError("failed to list: it sends more than 1048576 bytes")
        for reads in (10, 15, 20):
            await shelf.refresh(5)
            assert (1, reads) == (len(shelf.asked), shelf.reads)
        shelf.error = None
        await shelf.refresh(5)
        assert (2, 20) == (len(shelf.asked), shelf.reads)
        assert (1.0, 1.0) == (shelf.lists("failed"), shelf.lists("read"))

    play(story)


@pytest.mark.parametrize("kind", [IdentityError, VaultThrottledError, VaultUnavailableError])
def test_what_the_objects_would_meet_too_is_told_at_once(kind: type[KeyferryError]) -> None:
    """A vault that throttles is not asked for each object instead; the list is tried again."""

    async def story(shelf: ListedVault) -> None:
        await shelf.refresh(5)
        shelf.error = kind("not now")
        await asyncio.sleep(121.0)
        for tries in (1, 2):
            await asyncio.sleep(10.0)
            with pytest.raises(kind):
                await shelf.fetch("0")
            assert (tries, 5) == (len(shelf.asked), shelf.reads)
        assert 2.0 == shelf.lists("failed")

    play(story)


def test_what_is_learnt_is_bounded() -> None:
    """Classes can name any number of vaults; the longest unused go first."""

    async def story(shelf: ListedVault) -> None:
        shelf.refuses = True
        await shelf.refresh(2)
        await shelf.refresh(2)
        assert 1 == len(shelf.asked)
        for number in range(1000):
            shelf.revalidator._remember_limit(
                key(str(number)), "too_long", 1.0, shelf.fetcher.now() + 3600
            )
        await shelf.refresh(2)
        assert 2 == len(shelf.asked)

    play(story)
