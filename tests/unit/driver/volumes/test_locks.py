"""keyferry.driver.volumes.locks: one call at a time for one target."""

from __future__ import annotations

import asyncio

import pytest

from keyferry.driver.volumes.locks import TargetLocks
from keyferry.errors import Code, VolumeUnpublishedError


async def test_publish_calls_of_one_volume_are_serialized() -> None:
    """In the order of their arrival."""
    locks, seen = TargetLocks(), []

    async def call(name: str) -> None:
        async with locks.for_publish("/t"):
            seen.append(f"{name} in")
            await asyncio.sleep(0)
            seen.append(f"{name} out")

    await asyncio.gather(call("a"), call("b"), call("c"))
    assert ["a in", "a out", "b in", "b out", "c in", "c out"] == seen


async def test_calls_for_different_volumes_run_concurrently() -> None:
    """Each waits for the other to be inside, so one after the other would hang."""
    locks, both = TargetLocks(), asyncio.Barrier(2)

    async def call(target: str) -> None:
        async with locks.for_publish(target):
            await both.wait()

    await asyncio.wait_for(asyncio.gather(call("/a"), call("/b")), 5)


async def test_unused_locks_are_removed() -> None:
    """A node sees new target paths all the time."""
    locks = TargetLocks()
    async with locks.for_publish("/t"):
        waiting = asyncio.create_task(locks.for_publish("/t").__aenter__())
        await asyncio.sleep(0)
        assert 1 == len(locks)
        waiting.cancel()
        await asyncio.wait([waiting])
        async with locks.for_publish("/u"):
            assert 2 == len(locks)
    assert 0 == len(locks)


async def test_failed_and_cancelled_calls_release_the_lock() -> None:
    """The next call gets it."""
    locks = TargetLocks()
    with pytest.raises(ZeroDivisionError):
        async with locks.for_publish("/t"):
            raise ZeroDivisionError
    holding = asyncio.Event()

    async def hold_on() -> None:
        async with locks.for_publish("/t"):
            holding.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold_on())
    await holding.wait()
    task.cancel()
    await asyncio.wait([task])
    async with asyncio.timeout(100), locks.for_publish("/t"):
        assert 1 == len(locks)
    assert 0 == len(locks)


class Filling:
    """A call that fills a volume and never comes to its end.

    Attributes:
        inside: it holds the lock.
        cleaning: it is cancelled, and cleans up until `cleaned` is set.
        cleaned: see there.
    """

    def __init__(self, locks: TargetLocks, target: str = "/t") -> None:
        self.inside, self.cleaning, self.cleaned = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.task = asyncio.create_task(self._run(locks, target))

    async def _run(self, locks: TargetLocks, target: str) -> None:
        async with locks.for_publish(target):
            self.inside.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.cleaning.set()
                await self.cleaned.wait()


async def test_unpublish_cancels_publish_calls_and_waits_for_their_cleanup() -> None:
    """Running and waiting calls end with `VolumeUnpublishedError`."""
    locks = TargetLocks()
    first = Filling(locks)
    await first.inside.wait()
    second = Filling(locks)
    await asyncio.sleep(0)
    seen = []

    async def empty() -> None:
        async with locks.for_unpublish("/t"):
            seen.append(first.task.done())

    emptying = asyncio.create_task(empty())
    await asyncio.wait_for(first.cleaning.wait(), 5)
    assert not emptying.done()
    first.cleaned.set()
    await asyncio.wait_for(emptying, 5)
    assert [True] == seen
    for call in (first, second):
        with pytest.raises(
            VolumeUnpublishedError, match="the volume at /t was unpublished"
        ) as caught:
            await asyncio.wait_for(call.task, 5)
        assert Code.ABORTED == caught.value.code
    assert not second.inside.is_set()
    assert 0 == len(locks)


async def test_unpublish_does_not_cancel_other_volumes_or_later_calls() -> None:
    """A later publish waits for the lock."""
    locks = TargetLocks()
    other = Filling(locks, "/u")
    await other.inside.wait()
    async with locks.for_unpublish("/t"):
        later = Filling(locks)
        await asyncio.sleep(0)
        assert not later.inside.is_set()
    await asyncio.wait_for(later.inside.wait(), 5)
    assert not other.task.done()
    for call in (other, later):
        call.cleaned.set()
        call.task.cancel()
        await asyncio.wait([call.task])


async def test_concurrent_unpublish_calls_both_succeed() -> None:
    """Kubelet repeats them."""
    locks, seen = TargetLocks(), []

    async def empty(name: str) -> None:
        async with locks.for_unpublish("/t"):
            await asyncio.sleep(0)
            seen.append(name)

    filling = Filling(locks)
    await filling.inside.wait()
    filling.cleaned.set()
    await asyncio.wait_for(asyncio.gather(empty("a"), empty("b")), 5)
    assert ["a", "b"] == seen
    await asyncio.wait([filling.task])


async def test_cancellation_by_the_caller_is_not_translated() -> None:
    """Also if an unpublish cancels the call at the same time."""
    locks = TargetLocks()
    filling = Filling(locks)
    await filling.inside.wait()

    async def empty() -> None:
        async with locks.for_unpublish("/t"):
            pass

    emptying = asyncio.create_task(empty())
    await asyncio.wait_for(filling.cleaning.wait(), 5)
    filling.task.cancel()
    await asyncio.wait_for(asyncio.gather(emptying, filling.task, return_exceptions=True), 5)
    assert filling.task.cancelled()


async def test_timeout_inside_the_block_is_not_translated() -> None:
    """It is not caused by an unpublish."""
    locks = TargetLocks()
    with pytest.raises(TimeoutError, match="mine"):
        async with locks.for_publish("/t"):
            raise TimeoutError("mine")
