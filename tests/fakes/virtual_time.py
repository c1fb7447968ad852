"""An event loop with virtual time: it advances only when all tasks wait, and then at once.

@virtual_time
async def test_x() -> None:
    await asyncio.sleep(3600)
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
WALL_START = 1_700_000_000.0


class _JumpingSelector(selectors.DefaultSelector):
    """Advances the time of the loop instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("all tasks wait forever")
        self.now += max(timeout, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time starts at 0."""

    def __init__(self) -> None:
        self._selector_clock = _JumpingSelector()
        super().__init__(self._selector_clock)

    def time(self) -> float:
        return self._selector_clock.now


class LoopClock:
    """Implements `Clock` with the time of the running loop."""

    def monotonic(self) -> float:
        """Return the seconds since the start of the loop."""
        return asyncio.get_running_loop().time()

    def wall(self) -> datetime:
        """Return the wall time, which starts at `WALL_START`."""
        return datetime.fromtimestamp(WALL_START + self.monotonic(), UTC)

    async def sleep(self, seconds: float) -> None:
        """Return after a number of seconds."""
        await asyncio.sleep(seconds)


def max_jitter() -> float:
    """Return the jitter that makes every delay as long as possible."""
    return 1.0


def run_in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` and return its result."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test in virtual time: sleeps take no real time."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        run_in_virtual_time(test(*args, **kwargs))

    return run
