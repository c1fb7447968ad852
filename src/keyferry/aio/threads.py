"""File work on a thread that runs to its end whatever happens to the caller."""

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
    """Calls `function` on a thread and returns what it returns.

    When the caller is cancelled meanwhile (kubelet gave up on the call), however often, the
    cancellation is delivered only after the thread has finished: a lock released over half-done
    file work would let the next call interleave with it. What the function raised is then dropped.
    """
    work = asyncio.get_running_loop().run_in_executor(None, partial(function, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([work])
        work.exception()  # heard, so that the loop does not complain
        raise
