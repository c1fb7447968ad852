"""Urgent keys of a work queue: before the others, but not instead of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.aio.work_queue import (
    MAX_URGENT_IN_A_ROW,
    WORKERS,
    WORKERS_PER_GROUP,
    WorkQueue,
    _ReadyKeys,
)
from tests.fakes.clock import ManualClock


class Work:
    """Runs that the test ends one by one.

    Attributes:
        started: the keys, in the order of their runs.
        fails: keys whose runs fail.
    """

    def __init__(self) -> None:
        self.started: list[str] = []
        self.fails: set[str] = set()
        self._running: dict[str, asyncio.Future[None]] = {}

    async def __call__(self, key: str) -> bool:
        self.started.append(key)
        self._running[key] = asyncio.get_running_loop().create_future()
        await self._running[key]
        return key not in self.fails

    async def finish(self, *keys: str) -> list[str]:
        """End runs; return the keys whose runs then started, and end nothing else."""
        before = len(self.started)
        for key in keys:
            self._running.pop(key).set_result(None)
        await ManualClock.run_ready_tasks()
        return self.started[before:]

    async def finish_all(self) -> list[str]:
        """End runs one after another; return the keys whose runs started meanwhile."""
        before = len(self.started)
        while self._running:
            await self.finish(next(iter(self._running)))
        return self.started[before:]


def group_of(key: str) -> str:
    return key[0]


@asynccontextmanager
async def busy_queue(work: Work, clock: ManualClock) -> AsyncIterator[WorkQueue[str]]:
    """Yield a queue with one free worker."""
    queue: WorkQueue[str] = WorkQueue(work, group_of=group_of, clock=clock, name="keys")
    async with queue.running():
        for number in range(WORKERS - 1):
            queue.add(f"{'x' if number < WORKERS_PER_GROUP else 'y'}{number}")
        await ManualClock.run_ready_tasks()
        work.started.clear()
        yield queue


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def queue(work: Work, clock: ManualClock) -> AsyncIterator[WorkQueue[str]]:
    """A queue whose only free worker processes `a0`."""
    async with busy_queue(work, clock) as busy:
        busy.add("a0")
        await ManualClock.run_ready_tasks()
        assert ["a0"] == work.started
        yield busy


async def drain(work: Work, first: str = "a0") -> list[str]:
    """Return the order in which one worker processes the queue."""
    order: list[str] = []
    started = [first]
    while started:
        started = await work.finish(*started)
        assert len(started) < 2
        order += started
    return order


async def test_urgent_key_goes_before_queued_ones(queue: WorkQueue[str], work: Work) -> None:
    """Of its own group and of all others."""
    for key in ("a1", "a2", "b1", "c1"):
        queue.add(key)
    queue.add("c2", urgent=True)
    assert ["c2", "a1", "b1", "c1", "a2"] == await drain(work)


async def test_urgent_keys_keep_their_order(queue: WorkQueue[str], work: Work) -> None:
    """The one that waits longest is first."""
    queue.add("a1")
    for key in ("b1", "b2", "b3"):
        queue.add(key, urgent=True)
    assert ["b1", "b2", "b3", "a1"] == await drain(work)


async def test_queued_key_is_promoted(queue: WorkQueue[str], work: Work) -> None:
    """It is processed once. Later additions do not move it back."""
    for key in ("a1", "a2", "a3", "b1"):
        queue.add(key)
    queue.add("a3", urgent=True)
    queue.add("a3", urgent=True)
    queue.add("a3")
    assert 4 + WORKERS == len(queue)
    assert ["a3", "a1", "b1", "a2"] == await drain(work)


async def test_groups_take_turns_with_urgent_keys(queue: WorkQueue[str], work: Work) -> None:
    """A namespace with a thousand changes delays a change elsewhere by one turn."""
    for number in range(1, 4):
        queue.add(f"a{number}", urgent=True)
    queue.add("b1", urgent=True)
    assert ["a1", "b1", "a2", "a3"] == await drain(work)


async def test_other_keys_get_their_turn_among_many_urgent_ones(
    queue: WorkQueue[str], work: Work
) -> None:
    """However fast urgent keys arrive, a refresh is not delayed forever."""
    queue.add("c1")
    for number in range(1, 3 * MAX_URGENT_IN_A_ROW):
        queue.add(f"a{number}", urgent=True)
        queue.add(f"b{number}", urgent=True)
    order = await drain(work)
    assert MAX_URGENT_IN_A_ROW >= order.index("c1")


async def test_urgent_keys_of_one_group_leave_workers_to_others(
    work: Work, clock: ManualClock
) -> None:
    """No group gets all workers, urgent or not."""
    queue: WorkQueue[str] = WorkQueue(work, group_of=group_of, clock=clock, name="keys")
    async with queue.running():
        for number in range(3 * WORKERS):
            queue.add(f"a{number}", urgent=True)
        queue.add("b1")
        await ManualClock.run_ready_tasks()
        assert WORKERS_PER_GROUP == sum(key.startswith("a") for key in work.started)
        assert "b1" in work.started


async def test_key_that_becomes_urgent_during_its_run_is_next(
    queue: WorkQueue[str], work: Work
) -> None:
    """It runs again, before keys that were queued earlier, and never twice at a time."""
    queue.add("a1")
    queue.add("b1")
    queue.add("a0")
    queue.add("a0", urgent=True)
    queue.add("a0")
    assert ["a0", "a1", "b1"] == await drain(work)


async def test_urgency_ends_with_the_run(queue: WorkQueue[str], work: Work) -> None:
    """The key is an ordinary one the next time."""
    queue.add("a0", urgent=True)
    assert ["a0"] == await work.finish("a0")
    queue.add("a0")
    queue.add("b1")
    assert ["b1", "a0"] == await drain(work)


async def test_urgent_key_does_not_wait_for_its_retry(
    queue: WorkQueue[str], work: Work, clock: ManualClock
) -> None:
    """Whatever made it fail may have been fixed by the change."""
    work.fails.add("a0")
    assert [] == await work.finish("a0")
    queue.add("a0", urgent=True)
    await ManualClock.run_ready_tasks()
    assert ["a0", "a0"] == work.started
    work.fails.clear()
    await work.finish("a0")
    await clock.advance(10_000)
    assert ["a0", "a0"] == work.started


additions = st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.booleans()), max_size=40)


@given(additions)
def test_every_key_is_processed_once_and_in_order(added: list[tuple[str, bool]]) -> None:
    """Within a group, the urgent keys and the others each keep their order."""

    async def run() -> list[str]:
        ready: _ReadyKeys[str] = _ReadyKeys(group_of)
        for number, (group, urgent) in enumerate(added):
            ready.put(f"{group}{number:02}{'u' if urgent else ''}", urgent=urgent)
        taken = []
        for _ in added:
            taken.append(await ready.get())
            ready.finished(taken[-1])
        return taken

    taken = asyncio.run(run())
    assert len(added) == len(set(taken))
    for group in "abc":
        own = [key for key in taken if key.startswith(group)]
        for kind in (True, False):
            order = [key for key in own if key.endswith("u") is kind]
            assert sorted(order) == order
    ordinary = [index for index, key in enumerate(taken) if not key.endswith("u")]
    gaps = [late - early for early, late in zip([-1, *ordinary], ordinary, strict=False)]
    assert all(gap <= MAX_URGENT_IN_A_ROW + 1 for gap in gaps)
