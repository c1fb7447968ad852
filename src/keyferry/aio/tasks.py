"""Background tasks whose failure is logged instead of lost."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from contextlib import AsyncExitStack

A = TypeVar("A")
T = TypeVar("T")

_log = get_logger("tasks")


def spawn(
    work: Coroutine[None, None, None], *, name: str, context: Context | None = None
) -> asyncio.Task[None]:
    """Run `work` in a task and log an error if it raises.

    The task may outlive the call that starts it, so it inherits no context by default: its log
    lines name no pod of that call, and no tenant is charged for its work.

    Args:
        work: what to run; it handles the errors that it expects.
        name: of the task, for the log.
        context: for work that belongs to a call: that of the call.
    """
    task = asyncio.create_task(work, name=name, context=context or Context())
    task.add_done_callback(_log_failure)
    return task


async def shielded(work: asyncio.Future[T]) -> T:
    """Return the result of `work`, which continues if the caller is cancelled.

    The error of work whose caller was cancelled is dropped. `asyncio.shield` logs it since Python
    3.14.
    """
    try:
        await asyncio.wait([work])
    except asyncio.CancelledError:
        work.add_done_callback(_drop_error)
        raise
    return work.result()


async def gather_or_cancel(*work: Coroutine[Any, Any, T]) -> list[T]:
    """Run `work` concurrently and return the results in order.

    If one raises, the others are cancelled, and this function returns when they have ended.
    """
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    finally:
        # The error refers to this frame, and the tasks to the error. Without this, what the frames
        # of the error hold would stay in memory until the garbage collector runs.
        tasks.clear()


async def map_concurrently(
    function: Callable[[A], Coroutine[Any, Any, T]], items: Sequence[A], *, limit: int
) -> list[T]:
    """Call `function` for each item, for at most `limit` items at a time; return the results.

    An event loop starts all tasks that are ready before it does anything else. The limit keeps a
    caller with thousands of items from holding up all others. If one call raises, the others are
    cancelled, and this function returns when they have ended.
    """
    waiting = enumerate(items)
    results: dict[int, T] = {}

    async def work() -> None:
        for index, item in waiting:
            results[index] = await function(item)

    await gather_or_cancel(*(work() for _ in range(min(limit, len(items)))))
    return [results[index] for index in sorted(results)]


def start_quietly(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run `work` in a task whose failure does not matter to anybody who no longer waits for it."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


def spawn_until_exit(
    stack: AsyncExitStack, work: Coroutine[None, None, None], *, name: str
) -> None:
    """Run `work` as `spawn` does; it is cancelled when `stack` is unwound."""
    task = spawn(work, name=name)

    async def cancel() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(cancel)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        # The text of an unexpected exception may hold a secret value.
        _log.error("task stopped: internal error", task=task.get_name(), type=type(error).__name__)


def _drop_error(work: asyncio.Future[Any]) -> None:
    if not work.cancelled():
        work.exception()  # read, so that the loop does not log it as lost
