"""keyferry.aio.threads: work on a thread runs to its end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from keyferry.aio.threads import DedicatedThreads


@pytest.fixture
def threads() -> Iterator[DedicatedThreads]:
    """Two threads."""
    pool = DedicatedThreads("test", 2)
    yield pool
    pool.close()


@asynccontextmanager
async def blocked(run: Callable[[Callable[[], object]], Awaitable[object]]) -> AsyncIterator[None]:
    """Occupy all threads of `run` for the block."""
    release = threading.Event()
    tasks = [asyncio.ensure_future(run(release.wait)) for _ in range(64)]
    await asyncio.sleep(0)
    try:
        yield
    finally:
        release.set()
        await asyncio.wait(tasks)


async def test_threads_are_not_those_of_the_event_loop(threads: DedicatedThreads) -> None:
    """Work that is stuck on the loop's default executor does not keep this work waiting."""
    async with blocked(asyncio.to_thread):
        assert 255 == await threads.run(int, "ff", base=16)
        assert await threads.is_free(10)


async def test_threads_that_are_all_stuck_are_reported(threads: DedicatedThreads) -> None:
    """Until one is free again; the checks leave nothing behind."""
    assert await threads.is_free(10)
    async with blocked(threads.run):
        assert not await threads.is_free(0.01)
        assert not await threads.is_free(0.01)
    assert await threads.is_free(10)


async def test_what_the_function_returns_or_raises_comes_back(threads: DedicatedThreads) -> None:
    """With its arguments, on another thread."""
    assert 255 == await threads.run(int, "ff", base=16)
    assert threading.get_ident() != await threads.run(threading.get_ident)
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0)


async def test_a_cancelled_caller_waits_until_the_work_is_done(threads: DedicatedThreads) -> None:
    """A lock that it holds is not released over half-done work."""
    started, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        go_on.wait(10)
        done.set()

    task = asyncio.create_task(threads.run(work))
    await asyncio.to_thread(started.wait, 10)
    task.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done.is_set()


async def test_a_caller_cancelled_twice_waits_all_the_same(threads: DedicatedThreads) -> None:
    """The second one, as from a server that stops, does not cut the work short either."""
    started, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        go_on.wait(10)
        done.set()

    task = asyncio.create_task(threads.run(work))
    await asyncio.to_thread(started.wait, 10)
    for _ in range(3):
        task.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
    still_waiting = not task.done()
    go_on.set()
    await asyncio.wait([task])
    assert still_waiting
    assert done.is_set()
    assert task.cancelled()


async def test_error_of_work_with_a_cancelled_caller_is_retrieved(
    threads: DedicatedThreads,
) -> None:
    """The cancellation is what the caller gets; the loop does not complain about the rest."""
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: complaints.append(context["message"])
    )
    started, go_on = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        go_on.wait(10)
        raise OSError("full")

    task = asyncio.create_task(threads.run(work))
    await asyncio.to_thread(started.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.wait([task])
    assert task.cancelled()
    del task
    assert [] == complaints
