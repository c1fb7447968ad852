"""A reflector on a quiet node of a busy cluster, for a day of virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from keyferry.kubernetes.api.watches.reflector import Reflector
from keyferry.kubernetes.api.watches.stream import MIN_WATCH_SECONDS
from tests.fakes.virtual_time import virtual_time
from tests.fakes.watch_cache import WatchCache

DAY = 24 * 3600.0
ROLLOVERS = round(DAY / MIN_WATCH_SECONDS / 2)
"""The fewest in a day."""


def value_of(manifest: Any) -> str:
    """Return what the reflector caches."""
    return str(manifest["value"])


def new_cache(*, bookmarks: bool = True) -> WatchCache:
    """Return a cache whose streams end as the driver asks for."""
    randomness = random.Random(1)
    return WatchCache(lambda: MIN_WATCH_SECONDS * (1 + randomness.random()), bookmarks=bookmarks)


@asynccontextmanager
async def reflecting(cache: WatchCache) -> AsyncIterator[Reflector[str]]:
    """Run a reflector on the cache."""
    reflector = Reflector(cache, value_of, name="pods", backoff=lambda _: 0.5)
    task = asyncio.create_task(reflector.run())
    try:
        async with cache.running():
            await reflector.in_sync.wait()
            yield reflector
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@virtual_time
async def test_quiet_node_does_not_list_again_in_24_hours() -> None:
    """17 million changes of other objects happen meanwhile, and more than 144 streams end."""
    cache = new_cache()
    await cache.put("web", "1")
    async with reflecting(cache) as reflector:
        await asyncio.sleep(DAY)
        assert cache.lists == 1
        assert cache.streams > ROLLOVERS
        await cache.put("web", "2")
        await asyncio.sleep(1)
        assert reflector.items() == ["2"]


@virtual_time
async def test_without_bookmarks_nearly_each_rollover_lists_again() -> None:
    """What the test above would see if bookmarks were not asked for, or not used."""
    cache = new_cache(bookmarks=False)
    async with reflecting(cache):
        await asyncio.sleep(DAY)
    assert cache.lists > ROLLOVERS


@virtual_time
async def test_changes_at_any_time_of_a_stream_arrive_once() -> None:
    """Every 37 seconds an object changes, or is deleted and created again."""
    cache = new_cache()
    seen: list[tuple[str | None, str | None]] = []
    async with reflecting(cache) as reflector:
        reflector.on_change.append(lambda before, after: seen.append((before, after)))
        for number in range(300):
            await asyncio.sleep(37)
            await cache.put("web", str(number))
            if number % 10 == 9:
                await asyncio.sleep(1)
                await cache.remove("web")
        await asyncio.sleep(1)
        assert cache.lists == 1
    assert len(seen) == 330
    assert [after for _, after in seen if after] == [str(number) for number in range(300)]


@virtual_time
async def test_failed_connections_do_not_list_again() -> None:
    """The API server is unavailable for 20 seconds, twice an hour, and it keeps its watch cache."""
    cache = new_cache()
    syncs: list[int] = []
    async with reflecting(cache) as reflector:
        reflector.on_sync.append(lambda: syncs.append(1))
        for _ in range(12):
            await asyncio.sleep(1780)
            await cache.go_down()
            await asyncio.sleep(20)
            assert not reflector.in_sync.is_set()
            cache.is_down = False
            await asyncio.sleep(1)
            assert reflector.in_sync.is_set()
    assert cache.lists == 1
    assert len(syncs) == 12


@virtual_time
async def test_deletion_during_an_outage_is_not_lost() -> None:
    """The restarted server has no history: the list replaces the cached objects."""
    cache = new_cache()
    await cache.put("web", "1")
    await cache.put("db", "1")
    async with reflecting(cache) as reflector:
        await cache.go_down()
        await cache.remove("web")
        await asyncio.sleep(5)
        assert sorted(reflector.items()) == ["1", "1"]
        cache.restart()
        await asyncio.sleep(5)
        assert reflector.items() == ["1"]
        assert reflector.get("shop", "db") == "1"
    # The first list may be of any state, the second one not older than what was seen.
    first, second = cache.versions_asked
    assert first == "0"
    assert int(second) >= 1002


@virtual_time
async def test_restored_etcd_is_listed_from_its_latest_state() -> None:
    """Its versions are lower than those seen, so no list is `not older` than these."""
    cache = new_cache()
    await cache.put("web", "1")
    async with reflecting(cache) as reflector:
        await cache.go_down()
        await asyncio.sleep(1)
        await cache.remove("web")
        cache.restore()
        await asyncio.sleep(3)
        assert reflector.items() == []
    assert cache.versions_asked == ["0", "1001", ""]


@pytest.mark.parametrize("seconds", [0.0, 0.5])
@virtual_time
async def test_streams_that_end_at_once_are_reopened_with_backoff(seconds: float) -> None:
    """A broken proxy must not make the driver flood the API server."""
    waits: list[int] = []

    def backoff(failures: int) -> float:
        waits.append(failures)
        return 10.0

    cache = WatchCache(lambda: seconds)
    reflector = Reflector(cache, value_of, name="pods", backoff=backoff)
    task = asyncio.create_task(reflector.run())
    await asyncio.sleep(100)
    task.cancel()
    assert cache.streams <= 12
    assert waits[:3] == [0, 1, 2]
