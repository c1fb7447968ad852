"""An event loop whose time passes only when everybody waits, and then at once.

def test_x() -> None:
    async def story() -> None:
        await asyncio.sleep(3600)
    run_virtually(story())
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar

T = TypeVar("T")
WALL_START = 1_700_000_000.0


class _JumpingSelector(selectors.DefaultSelector):
    """Waits for nothing; the loop's time jumps instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits for ever")
        self.now += max(timeout, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time begins at 0."""

    def __init__(self) -> None:
        self._selector_clock = _JumpingSelector()
        super().__init__(self._selector_clock)

    def time(self) -> float:
        return self._selector_clock.now


class LoopClock:
    """Implements `Clock` with the time of the running loop."""

    def monotonic(self) -> float:
        """Seconds from the start of the loop."""
        return asyncio.get_running_loop().time()

    def wall(self) -> datetime:
        """The same on the wall."""
        return datetime.fromtimestamp(WALL_START + self.monotonic(), UTC)

    async def sleep(self, seconds: float) -> None:
        """Returns when so many seconds have passed."""
        await asyncio.sleep(seconds)


def max_jitter() -> float:
    """Dice that make every pause as long as it can be."""
    return 1.0


def run_in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
