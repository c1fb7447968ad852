"""Waiting for something that becomes true in its own time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tests.e2e.children import Child

PATIENCE_SECONDS = 120.0
"""How long a cluster is waited for before the test fails; a busy machine takes its time."""

_POLL_SECONDS = 0.2

T = TypeVar("T")


async def eventually(
    look: Callable[[], Awaitable[T | None]],
    what: str,
    *,
    seconds: float = PATIENCE_SECONDS,
    pause: float = _POLL_SECONDS,
) -> T:
    """Look again and again until there is something to see.

    Args:
        look: gives None as long as there is nothing; the reason may be an AssertionError as well.
        what: is waited for, for the message.
        seconds: how long.
        pause: seconds between two looks.

    Raises:
        AssertionError: there was nothing in time; it says what the last look saw.
    """
    last: AssertionError | None = None
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        try:
            if (seen := await look()) is not None:
                return seen
        except AssertionError as error:
            last = error
        await asyncio.sleep(pause)
    raise AssertionError(f"waited {seconds:.0f} seconds in vain for {what}: {last}")


def must_run(child: Child) -> None:
    """Stop the waiting at once when the process that is waited for has ended.

    Raises:
        RuntimeError: it has; with the end of what it said.
    """
    ended = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if ended is not None:
        raise RuntimeError(f"{child.name} ended early:\n{child.text()[-2000:]}")
