"""keyferry.driver.locks: one call at a time for one target."""

from __future__ import annotations

import asyncio

import pytest

from keyferry.driver.locks import TargetLocks


async def test_calls_for_one_target_come_one_after_the_other() -> None:
    """In the order in which they asked."""
    locks, seen = TargetLocks(), []

    async def call(name: str) -> None:
        async with locks.hold("/t"):
            seen.append(f"{name} in")
            await asyncio.sleep(0)
            seen.append(f"{name} out")

    await asyncio.gather(call("a"), call("b"), call("c"))
    assert ["a in", "a out", "b in", "b out", "c in", "c out"] == seen


async def test_calls_for_different_targets_run_side_by_side() -> None:
    """Each waits for the other to be inside, so one after the other would hang."""
    locks, both = TargetLocks(), asyncio.Barrier(2)

    async def call(target: str) -> None:
        async with locks.hold(target):
            await both.wait()

    await asyncio.wait_for(asyncio.gather(call("/a"), call("/b")), 5)


async def test_a_lock_exists_only_while_it_is_wanted() -> None:
    """A node sees new targets for ever; none of them is remembered."""
    locks = TargetLocks()
    async with locks.hold("/t"):
        waiting = asyncio.create_task(locks.hold("/t").__aenter__())
        await asyncio.sleep(0)
        assert 1 == len(locks)
        waiting.cancel()
        await asyncio.wait([waiting])
        async with locks.hold("/u"):
            assert 2 == len(locks)
    assert 0 == len(locks)


async def test_an_error_and_a_cancelled_wait_give_the_lock_back() -> None:
    """The next call gets in, whatever became of the one before."""
    locks = TargetLocks()
    with pytest.raises(ZeroDivisionError):
        async with locks.hold("/t"):
            raise ZeroDivisionError
    holding = asyncio.Event()

    async def hold_on() -> None:
        async with locks.hold("/t"):
            holding.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold_on())
    await holding.wait()
    task.cancel()
    await asyncio.wait([task])
    async with asyncio.timeout(5), locks.hold("/t"):
        assert 1 == len(locks)
    assert 0 == len(locks)
