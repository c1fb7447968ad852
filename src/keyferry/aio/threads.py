"""Runs file operations on a thread to their end, even if the caller is cancelled."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


async def run_in_thread_uncancelled(
    function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Call `function` on a thread and return its result.

    A cancellation (kubelet gave up on the call) is delivered only after the thread has finished.
    Otherwise the caller would release its lock while files are half written. The exception of a
    cancelled call is dropped.
    """
    work = asyncio.get_running_loop().run_in_executor(None, partial(function, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([work])
        work.exception()  # read, so that the loop does not log it as lost
        raise
