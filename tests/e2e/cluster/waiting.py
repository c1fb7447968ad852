"""Polling for a condition."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tests.e2e.children import Child

PATIENCE_SECONDS = 120.0
"""How long to wait before a test fails; a busy machine is slow."""

_POLL_SECONDS = 0.2

T = TypeVar("T")


async def eventually(
    look: Callable[[], Awaitable[T | None]],
    what: str,
    *,
    seconds: float = PATIENCE_SECONDS,
    pause: float = _POLL_SECONDS,
) -> T:
    """Poll until `look` returns a result; return it.

    Args:
        look: returns None or raises AssertionError while there is no result.
        what: the condition, for the message.
        seconds: the timeout.
        pause: seconds between two polls.

    Raises:
        AssertionError: the timeout expired; the message contains the last error.
    """
    last: AssertionError | None = None
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        try:
            if (result := await look()) is not None:
                return result
        except AssertionError as error:
            last = error
        await asyncio.sleep(pause)
    raise AssertionError(f"timeout after {seconds:.0f} seconds waiting for {what}: {last}")


def must_run(child: Child) -> None:
    """Fail immediately if the process has exited.

    Raises:
        RuntimeError: the process has exited; the message contains the end of its output.
    """
    ended = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if ended is not None:
        raise RuntimeError(f"{child.name} exited early:\n{child.text()[-2000:]}")
