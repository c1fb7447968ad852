"""The queue of keys, by a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from operator import itemgetter

import pytest

from keyferry.aio.work_queue import WORKERS, WORKERS_PER_GROUP, WorkQueue
from tests.fakes.clock import ManualClock


class Work:
    """What is done for keys.

    Attributes:
        done: the keys, in the order of their runs.
        succeeds: what a run comes to.
        gate: while it is closed, runs wait.
    """

    def __init__(self) -> None:
        self.done: list[str] = []
        self.succeeds = True
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, key: str) -> bool:
        self.done.append(key)
        await self.gate.wait()
        if key == "defect":
            raise ZeroDivisionError
        return self.succeeds


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def queue(work: Work, clock: ManualClock) -> AsyncIterator[WorkQueue[str]]:
    """A queue that waits 10, 20, 30 ... seconds after failures."""
    made = WorkQueue(
        work,
        group_of=lambda key: key[0],
        clock=clock,
        name="keys",
        backoff=lambda failures: 10.0 * failures,
    )
    async with made.running():
        yield made


async def test_a_key_is_in_it_once(queue: WorkQueue[str], work: Work) -> None:
    """However often it is added before its turn."""
    for _ in range(3):
        queue.add("a")
    queue.add("b")
    assert 2 == len(queue)
    await ManualClock.run_ready_tasks()
    assert ["a", "b"] == work.done
    assert 0 == len(queue)


async def test_what_is_added_during_its_run_is_run_again(queue: WorkQueue[str], work: Work) -> None:
    """The run may have looked before the change; it never runs twice side by side."""
    work.gate.clear()
    queue.add("a")
    await ManualClock.run_ready_tasks()
    queue.add("a")
    queue.add("a")
    await ManualClock.run_ready_tasks()
    assert ["a"] == work.done
    work.gate.set()
    await ManualClock.run_ready_tasks()
    assert ["a", "a"] == work.done


async def test_who_settles_waits_for_a_run_that_begins_later(
    queue: WorkQueue[str], work: Work
) -> None:
    """A run in progress does not count: it may have started too early."""
    work.gate.clear()
    queue.add("a")
    await ManualClock.run_ready_tasks()
    settled = asyncio.create_task(queue.run_and_wait("a"))
    work.gate.set()
    await settled
    assert ["a", "a"] == work.done


async def test_a_failure_is_tried_again_later_and_later(
    queue: WorkQueue[str], work: Work, clock: ManualClock
) -> None:
    """The caller gets the first result; a success resets the backoff."""
    work.succeeds = False
    await queue.run_and_wait("a")
    await clock.advance(9)
    assert ["a"] == work.done
    await clock.advance(1)
    assert ["a"] * 2 == work.done
    await clock.advance(19)
    assert ["a"] * 2 == work.done
    work.succeeds = True
    await clock.advance(1)
    assert ["a"] * 3 == work.done
    await clock.advance(1000)
    assert ["a"] * 3 == work.done
    work.succeeds = False
    await queue.run_and_wait("a")
    await clock.advance(10)
    assert ["a"] * 5 == work.done


async def test_what_failed_can_be_tried_at_once(
    queue: WorkQueue[str], work: Work, clock: ManualClock
) -> None:
    """Failed keys are retried; other keys are not."""
    await queue.run_and_wait("fine")
    work.succeeds = False
    await queue.run_and_wait("a")
    work.succeeds = True
    queue.retry_failed()
    await ManualClock.run_ready_tasks()
    assert ["fine", "a", "a"] == work.done
    await clock.advance(1000)
    assert ["fine", "a", "a"] == work.done


async def test_a_defect_stops_no_other_key(queue: WorkQueue[str], work: Work) -> None:
    """It counts as a failure."""
    await queue.run_and_wait("defect")
    await queue.run_and_wait("a")
    assert ["defect", "a"] == work.done
    assert 1 == len(queue)


async def test_many_keys_are_worked_on_side_by_side(queue: WorkQueue[str], work: Work) -> None:
    """A slow one does not hold up the others."""
    work.gate.clear()
    for key in "abcd":
        queue.add(key)
    await ManualClock.run_ready_tasks()
    assert list("abcd") == work.done


async def test_groups_take_turns_and_none_takes_all_workers() -> None:
    """A namespace with many keys that take long does not delay those of another."""
    begun: list[str] = []
    stuck = asyncio.Event()

    async def work(key: str) -> bool:
        begun.append(key)
        if key.startswith("a"):
            await stuck.wait()
        return True

    queue = WorkQueue(work, group_of=itemgetter(0), clock=ManualClock(), name="keys")
    async with queue.running():
        for number in range(3 * WORKERS):
            queue.add(f"a{number}")
        await queue.run_and_wait("b0")
        assert WORKERS_PER_GROUP == sum(key.startswith("a") for key in begun)
        stuck.set()
        await queue.run_and_wait("a999")
    assert 3 * WORKERS + 2 == len(begun)
