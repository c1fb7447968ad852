"""Clocks for tests: one that the test advances, and one that jumps over every sleep.

clock = ManualClock()
...
await clock.advance(300)   # every sleep that ended by now has returned

clock = AutojumpClock()
fetcher = Fetcher(settings, clock, random=clock.random)
...
assert clock.sleeps == [0.8, 1.6]
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, TypeVar

T = TypeVar("T")

START = datetime(2030, 1, 1, 12, tzinfo=UTC)
WALL_START = 1_700_000_000.0
"""The start of `AutojumpClock`, in seconds since the epoch."""
LOOP_TURNS = 30
"""The number of loop iterations in which all tasks that are awake run until they need I/O."""


class ManualClock:
    """Implements `Clock`; only `advance` moves the time.

    Attributes:
        now: seconds since the start of the clock.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = count()

    def monotonic(self) -> float:
        """Return the seconds since the start of the clock."""
        return self.now

    def wall(self) -> datetime:
        """Return the wall time, which starts at `START`."""
        return START + timedelta(seconds=self.now)

    async def sleep(self, seconds: float) -> None:
        """Wait until the test has advanced the clock by `seconds`."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._order), woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Advance the time and wake up the sleepers in order."""
        end = self.now + seconds
        await self.run_ready_tasks()
        while self._sleepers and self._sleepers[0][0] <= end:
            time, _, woken = heapq.heappop(self._sleepers)
            self.now = max(self.now, time)
            if not woken.done():
                woken.set_result(None)
            await self.run_ready_tasks()
        self.now = end

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work`, and advance the time until it has ended."""
        task = asyncio.create_task(work)
        while not task.done():
            await self.advance(0.25)
            await asyncio.sleep(0.001)
        return await task

    @staticmethod
    async def run_ready_tasks() -> None:
        """Run all tasks that are awake until they need I/O."""
        for _ in range(LOOP_TURNS):
            await asyncio.sleep(0)


@dataclass
class AutojumpClock:
    """Implements `Clock`; a sleep returns at once and advances the time.

    Attributes:
        jitter: returned by `random`.
        elapsed: seconds slept so far.
        sleeps: the duration of every sleep, in seconds.
    """

    jitter: float = 1.0
    elapsed: float = 0.0
    sleeps: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        """Return the seconds slept so far."""
        return self.elapsed

    def wall(self) -> datetime:
        """Return the wall time, which starts at `WALL_START`."""
        return datetime.fromtimestamp(WALL_START + self.elapsed, UTC)

    def random(self) -> float:
        """Return the jitter."""
        return self.jitter

    async def sleep(self, seconds: float) -> None:
        """Record the sleep and advance the time."""
        self.sleeps.append(seconds)
        self.elapsed += seconds
