"""Background tasks: a failure is logged, and the end of the stack cancels them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from keyferry.aio.tasks import spawn, spawn_until_exit
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
