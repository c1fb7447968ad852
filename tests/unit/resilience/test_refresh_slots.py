"""A node over many rotation intervals: which refreshes request what and when, in virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from keyferry.errors import AccessDeniedError, KeyferryError, VaultThrottledError
from keyferry.net.retryable import RetryableFailure
from keyferry.resilience.cache_key import CacheKey, IdentityKey
from keyferry.resilience.call_context import CallContext, Purpose
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.freshness import is_refresh_due
from tests.fakes.resilience import HOST, ROTATING
from tests.fakes.virtual_time import LoopClock, virtual_time

INTERVAL = 120
OBJECTS = ("db", "tls", "key")
LATENCY = 0.02
RETRY_AFTER = 7.0


@dataclass
class Node:
    """A node whose volumes are checked every second, as the rotation of the driver does.

    Attributes:
        fetcher: of the node.
        refreshes: when each object was requested in a refresh.
        first_mounts: how often each object was requested in a first mount.
        attempts: when each volume was refreshed last.
        error: raised instead of a response.
        throttles_until: before this time the vault throttles all requests.
        throttled: the number of throttled requests.
        max_age: the greatest age of content so far.
    """

    fetcher: Fetcher
    refreshes: dict[CacheKey, list[float]] = field(default_factory=lambda: defaultdict(list))
    first_mounts: Counter[CacheKey] = field(default_factory=Counter)
    attempts: dict[str, float] = field(default_factory=dict)
    error: KeyferryError | None = None
    throttles_until: float = 0.0
    throttled: int = 0
    max_age: float = 0.0

    async def fetch_all(self, volume: str, purpose: Purpose = Purpose.REFRESH) -> None:
        """Fetch the content of a volume, named `IDENTITY/POD`."""
        identity = IdentityKey("Mode", (volume.partition("/")[0],))

        async def fetch(key: CacheKey) -> None:
            async def attempt(seconds: float) -> str | RetryableFailure:
                return await self._respond(key, purpose)

            async def load(context: CallContext) -> str:
                return await self.fetcher.transport.send(attempt, context)

            await self.fetcher.fetch(
                key, load, purpose=purpose, size_of=lambda _: 10, volume=volume
            )

        keys = [CacheKey(HOST, identity, ("read", name)) for name in OBJECTS]
        await asyncio.gather(*map(fetch, keys), return_exceptions=True)

    async def _respond(self, key: CacheKey, purpose: Purpose) -> str | RetryableFailure:
        if self.fetcher.now() < self.throttles_until:
            self.throttled += 1
            return RetryableFailure(VaultThrottledError("throttles"), retry_after=RETRY_AFTER)
        if purpose is Purpose.REFRESH:
            self.refreshes[key].append(self.fetcher.now())
        else:
            self.first_mounts[key] += 1
        await asyncio.sleep(LATENCY)
        if self.error:
            raise self.error
        return "content"

    async def mount(self, volumes: Iterable[str]) -> None:
        """Mount volumes."""
        names = list(volumes)
        self.attempts |= dict.fromkeys(names, 0.0)
        await asyncio.gather(*(self.fetch_all(name, Purpose.FIRST) for name in names))

    async def run_until(self, end: int) -> None:
        """Refresh the volumes that are due, once a second."""
        while (left := end - self.fetcher.now()) > 0:
            await asyncio.sleep(min(left, 1 - self.fetcher.now() % 1))
            self.max_age = max(self.max_age, self.fetcher.oldest_content_age or 0)
            due = [
                volume
                for volume, last_attempt in self.attempts.items()
                if self.is_due(volume, last_attempt)
            ]
            self.attempts |= dict.fromkeys(due, self.fetcher.now())
            await asyncio.gather(*map(self.fetch_all, due))

    def is_due(self, volume: str, last_attempt: float) -> bool:
        """Return whether a slot of the volume has passed."""
        return is_refresh_due(
            self.fetcher.refresh_slots(volume),
            last_attempt=last_attempt,
            now=self.fetcher.now(),
            interval=INTERVAL,
        )

    def refreshes_between(self, start: float, end: float) -> int:
        """Return the number of requests of refreshes in a period."""
        return sum(start < sent_at <= end for times in self.refreshes.values() for sent_at in times)

    @property
    def refresh_counts(self) -> set[int]:
        """How many times each object was requested in a refresh."""
        return {len(times) for times in self.refreshes.values()}


@asynccontextmanager
async def running_node() -> AsyncIterator[Node]:
    fetcher = Fetcher(ROTATING, LoopClock())
    try:
        yield Node(fetcher)
    finally:
        await fetcher.close()


@virtual_time
async def test_each_object_of_an_identity_is_requested_once_per_interval() -> None:
    """Whatever the number of pods; content is never older than the interval."""
    async with running_node() as node:
        await node.mount(f"{identity}/{pod}" for identity in range(20) for pod in range(5))
        await node.run_until(6 * INTERVAL)
        assert 20 * len(OBJECTS) == len(node.refreshes)
        assert {6} == node.refresh_counts
        assert {1} == set(node.first_mounts.values())
        # Volumes are checked once a second, and a response is as old as its request.
        assert INTERVAL - 1 <= node.max_age <= INTERVAL + 1 + LATENCY


@virtual_time
async def test_refreshes_are_spread_over_the_interval() -> None:
    """Even if all pods started together, and from the first interval on."""
    async with running_node() as node:
        await node.mount(f"{identity}/0" for identity in range(200))
        await node.run_until(3 * INTERVAL)
        tenth = INTERVAL / 10
        counts = [node.refreshes_between(n * tenth, (n + 1) * tenth) for n in range(30)]
        assert 3 * 200 * len(OBJECTS) == sum(counts)
        assert max(counts) < 2 * 20 * len(OBJECTS)
        assert min(counts) > 0.3 * 20 * len(OBJECTS)


@virtual_time
async def test_pods_that_start_later_share_the_refreshes_of_their_identity() -> None:
    async with running_node() as node:
        await node.mount(f"{identity}/0" for identity in range(10))
        for pod in range(1, 30):
            await node.run_until(pod * 20 + 1)
            await node.mount(f"{identity}/{pod}" for identity in range(10))
        await node.run_until(600)
        assert max(node.refresh_counts) <= 5
        assert node.max_age <= INTERVAL + 1 + LATENCY


@virtual_time
async def test_failed_refresh_is_retried_in_the_next_slot() -> None:
    async with running_node() as node:
        await node.mount(["a/0", "a/1"])
        node.error = AccessDeniedError("denied")
        await node.run_until(5 * INTERVAL)
        assert {5} == node.refresh_counts
        assert node.max_age > 4 * INTERVAL


@virtual_time
async def test_throttling_in_a_slot_causes_no_additional_requests() -> None:
    """Each object is requested when the backoff ends, and in time again in the next slot."""
    async with running_node() as node:
        await node.mount(f"{identity}/{pod}" for identity in range(10) for pod in range(20))
        await node.run_until(INTERVAL)
        node.throttles_until = node.fetcher.now() + 20
        await node.run_until(2 * INTERVAL + 10 * int(RETRY_AFTER))
        assert 0 < node.throttled <= 10 * len(OBJECTS)
        node.max_age = 0.0
        await node.run_until(4 * INTERVAL)
        assert {4} == node.refresh_counts
        assert node.max_age <= INTERVAL + 1 + LATENCY


@virtual_time
async def test_volume_without_known_content_has_no_slots() -> None:
    """The driver has its own schedule for such volumes."""
    async with running_node() as node:
        assert () == node.fetcher.refresh_slots("a/0")
        await node.mount(["a/0"])
        (slot,) = node.fetcher.refresh_slots("a/0")
        assert 0.0 == slot.validated_at
        node.fetcher.release("a/0")
        assert () == node.fetcher.refresh_slots("a/0")
