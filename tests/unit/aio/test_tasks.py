"""Background tasks: a failure is logged, and the end of the stack cancels them."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import AsyncExitStack, suppress

import pytest

from keyferry.aio.tasks import gather_or_cancel, map_concurrently, spawn, spawn_until_exit
from tests.fakes.log import captured_log


async def _fail() -> None:
    raise ValueError("a-secret-value")


async def test_a_failed_task_is_logged_without_the_text_of_its_exception() -> None:
    with captured_log() as log:
        task = spawn(_fail(), name="rotation")
        await asyncio.wait([task])
    assert "task stopped: internal error" in log.getvalue()
    assert "rotation" in log.getvalue()
    assert "ValueError" in log.getvalue()
    assert "a-secret-value" not in log.getvalue()


async def test_tasks_of_a_stack_are_cancelled_with_it() -> None:
    cancelled = asyncio.Event()

    async def wait_forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with captured_log() as log:
        async with AsyncExitStack() as stack:
            spawn_until_exit(stack, wait_forever(), name="rotation")
            await asyncio.sleep(0)
    assert cancelled.is_set()
    assert "" == log.getvalue()


async def test_results_of_a_limited_map_are_in_order_and_few_run_at_once() -> None:
    """No more than the limit, however many items there are."""
    running = most = 0

    async def work(item: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return item * 2

    assert [item * 2 for item in range(50)] == await map_concurrently(work, range(50), limit=7)
    assert 7 == most
    assert [] == await map_concurrently(work, [], limit=7)


async def test_failure_of_a_limited_map_cancels_the_rest() -> None:
    """Items that have not begun are never begun."""
    begun = []

    async def work(item: int) -> None:
        begun.append(item)
        if item == 1:
            raise ValueError("1")
        await asyncio.sleep(60)

    with pytest.raises(ValueError, match="1"):
        await map_concurrently(work, range(10), limit=3)
    assert [0, 1, 2] == begun


async def test_error_of_gathered_work_is_freed_without_the_garbage_collector() -> None:
    """Its frames may hold megabytes."""
    held: list[weakref.ref[Exception]] = []

    class LargeError(ValueError):
        """Unlike a `ValueError`, it can be referred to weakly."""

    async def fail() -> None:
        error = LargeError()
        held.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    gc.disable()
    try:
        with suppress(ValueError):
            await gather_or_cancel(fail(), asyncio.sleep(3600))
        for _ in range(5):
            await asyncio.sleep(0)
        assert [None] == [reference() for reference in held]
    finally:
        gc.enable()
