"""Blocking calls of one tenant never take the threads of another one."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest

from keyferry.aio.tenant_threads import TenantThreads


async def test_result_and_exception_of_the_function_are_passed_on() -> None:
    threads = TenantThreads("test", max_threads=1, max_per_tenant=1)
    assert threading.get_ident() != await threads.run("shop", threading.get_ident)
    with pytest.raises(ZeroDivisionError):
        await threads.run("shop", lambda: 1 // 0)


async def test_calls_that_never_return_delay_only_their_tenant() -> None:
    """The other tenant gets a thread at once, however many calls wait."""
    threads = TenantThreads("test", max_threads=3, max_per_tenant=2)
    blocked = threading.Event()
    try:
        calls = [asyncio.create_task(threads.run("evil", blocked.wait)) for _ in range(20)]
        await asyncio.sleep(0)
        assert "done" == await threads.run("shop", lambda: "done")
        assert not any(call.done() for call in calls)
    finally:
        blocked.set()
    assert all(await asyncio.gather(*calls))


async def test_place_of_a_cancelled_caller_is_taken_until_the_thread_ends() -> None:
    """Otherwise a tenant that gives up and retries would take every thread."""
    threads = TenantThreads("test", max_threads=9, max_per_tenant=1)
    blocked, started = threading.Event(), threading.Event()

    def block() -> None:
        started.set()
        blocked.wait()

    call = asyncio.create_task(threads.run("evil", block))
    while not started.is_set():  # noqa: ASYNC110 - set by a thread
        await asyncio.sleep(0.001)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    second = asyncio.create_task(threads.run("evil", lambda: "second"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not second.done()
    blocked.set()
    assert "second" == await second


async def test_exception_of_a_cancelled_call_is_not_logged() -> None:
    """Nobody waits for it."""
    threads = TenantThreads("test", max_threads=1, max_per_tenant=1)
    blocked, logged = threading.Event(), list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))

    def fail() -> None:
        blocked.wait()
        raise ZeroDivisionError

    call = asyncio.create_task(threads.run("evil", fail))
    await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    blocked.set()
    assert "next" == await threads.run("evil", lambda: "next")
    gc.collect()
    assert [] == logged
