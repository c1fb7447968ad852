"""keyferry.resilience.freshness through the hub: who asks the vault when, over many intervals."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

from keyferry.errors import AccessDeniedError, KeyferryError, VaultThrottledError
from keyferry.net.retryable import RetryableFailure
from keyferry.resilience.cache_key import CacheKey, IdentityHasher, IdentityKey
from keyferry.resilience.call_context import CallContext, Purpose
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.freshness import FreshnessPolicy
from keyferry.resilience.settings import ResilienceSettings
from tests.fakes.virtual_time import LoopClock, run_in_virtual_time

INTERVAL = 120
ROTATING = ResilienceSettings(refresh_interval=INTERVAL, tracks_volumes=True, qps=0.0)
OBJECTS = ("db", "tls", "key")
ANSWER_SECONDS = 0.02
RETRY_AFTER = 7.0


@dataclass
class Node:
    """Volumes of many identities, each looked at once a second, as the timer of the driver does.

    Attributes:
        economy: of the node.
        asked: when each identity asked for each object in a refresh.
        mounted: how often one asked in a first mount.
        tried: when each volume was refreshed last.
        error: what the vault says instead.
        throttles_until: it answers nothing but "later" before.
        throttled: how often it said so.
        oldest: the greatest age of content that was seen.
    """

    economy: Fetcher
    asked: dict[CacheKey, list[float]] = field(default_factory=lambda: defaultdict(list))
    mounted: Counter[CacheKey] = field(default_factory=Counter)
    tried: dict[str, float] = field(default_factory=dict)
    error: KeyferryError | None = None
    throttles_until: float = 0.0
    throttled: int = 0
    oldest: float = 0.0

    async def fill(self, volume: str, purpose: Purpose = Purpose.REFRESH) -> None:
        """Fetch what a volume holds; its identity is what stands before the slash."""
        identity = IdentityKey("Mode", (volume.partition("/")[0],))
        keys = [CacheKey("contoso", identity, ("read", name)) for name in OBJECTS]

        async def read(key: CacheKey, context: CallContext) -> str:
            async def attempt(seconds: float) -> str | RetryableFailure:
                if self.economy.now() < self.throttles_until:
                    self.throttled += 1
                    return RetryableFailure(VaultThrottledError("later"), retry_after=RETRY_AFTER)
                if purpose is Purpose.REFRESH:
                    self.asked[key].append(self.economy.now())
                else:
                    self.mounted[key] += 1
                await asyncio.sleep(ANSWER_SECONDS)
                if self.error:
                    raise self.error
                return "content"

            return await self.economy.transport.send(attempt, context)

        async def fetch(key: CacheKey) -> None:
            await self.economy.fetch(
                key,
                lambda context: read(key, context),
                purpose=purpose,
                size_of=lambda _: 10,
                volume=volume,
            )

        await asyncio.gather(*map(fetch, keys), return_exceptions=True)

    async def mount(self, volumes: Iterable[str]) -> None:
        names = list(volumes)
        self.tried |= dict.fromkeys(names, 0.0)
        await asyncio.gather(*(self.fill(name, Purpose.FIRST) for name in names))

    async def live(self, until: int) -> None:
        """Look every second."""
        while (left := until - self.economy.now()) > 0:
            await asyncio.sleep(min(left, 1 - self.economy.now() % 1))
            self.oldest = max(self.oldest, self.economy.oldest_content_age or 0)
            due = [v for v in self.tried if self.economy.is_due(v, last_attempt=self.tried[v])]
            self.tried |= dict.fromkeys(due, self.economy.now())
            await asyncio.gather(*map(self.fill, due))

    def asked_between(self, start: float, end: float) -> int:
        return sum(start < moment <= end for times in self.asked.values() for moment in times)


async def run_node(identities: int, pods: int, intervals: int) -> Node:
    node = Node(Fetcher(ROTATING, LoopClock()))
    await node.mount(f"{who}/{pod}" for who in range(identities) for pod in range(pods))
    await node.live(intervals * INTERVAL)
    await node.economy.close()
    return node


def test_each_object_of_an_identity_is_asked_for_once_in_an_interval() -> None:
    """Whatever the number of pods, and content is never older than the interval."""
    node = run_in_virtual_time(run_node(identities=40, pods=5, intervals=6))
    assert 40 * len(OBJECTS) == len(node.asked)
    assert {6} == {len(times) for times in node.asked.values()}
    assert {1} == set(node.mounted.values())
    # Looks are a second apart, and an answer is as old as its question.
    assert INTERVAL - 1 <= node.oldest <= INTERVAL + 1 + ANSWER_SECONDS


def test_refreshes_are_spread_over_the_interval() -> None:
    """Though all pods started together: no moment has much more than its share, from the first."""
    node = run_in_virtual_time(run_node(identities=300, pods=1, intervals=3))
    tenth = INTERVAL / 10
    in_tenths = [node.asked_between(n * tenth, (n + 1) * tenth) for n in range(30)]
    assert 3 * 300 * len(OBJECTS) == sum(in_tenths)
    assert max(in_tenths) < 2 * 30 * len(OBJECTS)
    assert min(in_tenths) > 0.3 * 30 * len(OBJECTS)


def test_pods_that_come_in_between_ask_for_no_refresh_of_their_own() -> None:
    """They are refreshed with the others of their identity."""

    async def story() -> Node:
        node = Node(Fetcher(ROTATING, LoopClock()))
        await node.mount(f"{who}/0" for who in range(20))
        for arrival in range(1, 30):
            await node.live(arrival * 20 + 1)
            await node.mount(f"{who}/{arrival}" for who in range(20))
        await node.live(600)
        await node.economy.close()
        return node

    node = run_in_virtual_time(story())
    assert max(len(times) for times in node.asked.values()) <= 5
    assert node.oldest <= INTERVAL + 1 + ANSWER_SECONDS


def test_a_refresh_that_failed_is_tried_at_the_next_tick() -> None:
    """A vault that refuses is not asked every second."""

    async def story() -> Node:
        node = Node(Fetcher(ROTATING, LoopClock()))
        await node.mount(["a/0", "a/1"])
        node.error = AccessDeniedError("may not read")
        await node.live(5 * INTERVAL)
        await node.economy.close()
        return node

    node = run_in_virtual_time(story())
    assert {5} == {len(times) for times in node.asked.values()}
    assert node.oldest > 4 * INTERVAL


def test_a_vault_that_throttles_at_a_tick_is_asked_no_more_often() -> None:
    """Each object is answered once all the same, when the vault wants to be asked again."""

    async def story() -> Node:
        node = Node(Fetcher(ROTATING, LoopClock()))
        await node.mount(f"{who}/{pod}" for who in range(10) for pod in range(20))
        await node.live(INTERVAL)
        node.throttles_until = node.economy.now() + 20
        await node.live(2 * INTERVAL + 10 * int(RETRY_AFTER))
        assert node.throttled
        node.oldest = 0.0
        await node.live(4 * INTERVAL)
        await node.economy.close()
        return node

    node = run_in_virtual_time(story())
    assert {4} == {len(times) for times in node.asked.values()}
    assert node.throttled <= 10 * len(OBJECTS)
    # What was late is on time again.
    assert node.oldest <= INTERVAL + 1 + ANSWER_SECONDS


def ticked_in_each_tenth(identities: Iterable[IdentityKey]) -> list[int]:
    """How many have their tick in each tenth of the interval."""
    rules = FreshnessPolicy(cache_ttl=15.0, refresh_interval=10.0)
    used = [{CacheKey("contoso", identity, ("read", "db")): 0.0} for identity in identities]

    def by(moment: float) -> int:
        return sum(rules.is_due(one, last_attempt=0.0, now=moment) for one in used)

    return [by(tenth + 1.0) - by(float(tenth)) for tenth in range(10)]


@pytest.mark.parametrize("over", ["identities", "nodes"])
def test_ticks_are_spread_over_identities_and_over_nodes(over: str) -> None:
    """A thousand identities of a node, and one identity on a thousand nodes, each with its key."""

    def identity(number: int) -> IdentityKey:
        node, account = (0, number) if over == "identities" else (number, 0)
        key = node.to_bytes(32)
        return IdentityHasher(key).identity_key(
            "WorkloadIdentity", ("issuer", f"shop:account-{account}")
        )

    tenths = ticked_in_each_tenth(map(identity, range(1000)))
    assert 1000 == sum(tenths)
    # A tenth of a thousand, and five times what chance makes of it.
    assert 50 < min(tenths)
    assert max(tenths) < 150


def test_nothing_is_known_of_a_volume_that_uses_nothing() -> None:
    """Its driver has to know by itself."""

    async def story() -> None:
        node = Node(Fetcher(ROTATING, LoopClock()))
        assert node.economy.is_due("a/0", last_attempt=0.0) is None
        await node.mount(["a/0"])
        assert node.economy.is_due("a/0", last_attempt=0.0) is False
        node.economy.release("a/0")
        assert node.economy.is_due("a/0", last_attempt=0.0) is None

    run_in_virtual_time(story())


@pytest.mark.parametrize("purpose", list(Purpose))
@pytest.mark.parametrize("interval", [None, 0.0, 100.0])
def test_an_age_that_is_asked_for_goes_before_all_rules(
    purpose: Purpose, interval: float | None
) -> None:
    """A login or a list knows best how long it counts."""
    rules = FreshnessPolicy(cache_ttl=15.0, refresh_interval=interval)
    identity = IdentityKey("Mode", ("a",))

    def is_fresh(max_age: float | None) -> bool:
        return rules.is_fresh(
            1000.0, identity=identity, purpose=purpose, max_age=max_age, now=1010.0
        )

    assert (True, False, False) == (is_fresh(10.1), is_fresh(10.0), is_fresh(0.0))
    if purpose is Purpose.FIRST or interval is None:
        assert is_fresh(None)
    elif not interval:
        assert not is_fresh(None)
