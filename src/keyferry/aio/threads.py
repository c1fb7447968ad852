"""Threads of their own for one kind of blocking work."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from keyferry.aio.tasks import shielded

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


class DedicatedThreads:
    """Runs functions on threads that no other work can occupy.

    Work that waits for something outside this process would otherwise take all threads of the event
    loop's default executor.

    Args:
        name: the prefix of the names of the threads.
        count: the maximum number of threads; they start when they are needed.
    """

    def __init__(self, name: str, count: int) -> None:
        self._executor = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function` on a thread and return its result.

        A cancellation (kubelet gave up on the call) is delivered only after the function has
        finished. Otherwise the caller would release its lock while files are half written. The
        exception of a cancelled call is dropped.
        """
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._executor, partial(function, *args, **kwargs))
        try:
            return await shielded(work)
        except asyncio.CancelledError:
            while not work.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([work])
            work.exception()  # read, so that the loop does not log it as lost
            raise

    async def is_free(self, seconds: float) -> bool:
        """Return whether a thread becomes free within this time."""
        work = asyncio.get_running_loop().run_in_executor(self._executor, _nothing)
        try:
            await asyncio.wait_for(work, seconds)
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """End the threads that have nothing to do. No method is called afterwards."""
        self._executor.shutdown(wait=False)


def _nothing() -> None:
    """Do nothing, to show that a thread is free."""
