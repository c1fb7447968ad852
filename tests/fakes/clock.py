"""Clocks of tests: one that the test moves, and one that moves only while somebody pauses.

clock = VirtualClock()
...
await clock.advance(300)   # whoever slept until then has woken up

clock = StillClock()
economy = Economy(clock=clock, dice=clock.dice)
...
assert clock.pauses == [0.8, 1.6]
"""

from __future__ import annotations

import asyncio
import heapq
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count

START = datetime(2030, 1, 1, 12, tzinfo=UTC)
WALL_START = 1_700_000_000.0
"""Seconds since the epoch at which the clock that stands still begins."""
LOOP_TURNS = 30
"""How often the loop turns until all that woke up has gone as far as it can without I/O."""


class ManualClock:
    """Implements `Clock`; time passes only by `advance`.

    Attributes:
        now: seconds from its start.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = count()

    def monotonic(self) -> float:
        """Seconds from its start."""
        return self.now

    def wall(self) -> datetime:
        """The same on the wall."""
        return START + timedelta(seconds=self.now)

    async def sleep(self, seconds: float) -> None:
        """Wait until somebody has advanced that far."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._order), woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Let time pass, sleeper by sleeper."""
        end = self.now + seconds
        await self.run_ready_tasks()
        while self._sleepers and self._sleepers[0][0] <= end:
            time, _, woken = heapq.heappop(self._sleepers)
            self.now = max(self.now, time)
            if not woken.done():
                woken.set_result(None)
            await self.run_ready_tasks()
        self.now = end

    @staticmethod
    async def run_ready_tasks() -> None:
        """Let the loop turn."""
        for _ in range(LOOP_TURNS):
            await asyncio.sleep(0)


@dataclass
class AutojumpClock:
    """Implements `Clock`; time passes only while somebody pauses, and then at once.

    Attributes:
        jitter: what the dice show, always.
        elapsed: seconds paused so far.
        sleeps: every pause, in seconds.
    """

    jitter: float = 1.0
    elapsed: float = 0.0
    sleeps: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        """Seconds paused so far."""
        return self.elapsed

    def wall(self) -> datetime:
        """The same on the wall."""
        return datetime.fromtimestamp(WALL_START + self.elapsed, UTC)

    def random(self) -> float:
        """What the dice show."""
        return self.jitter

    async def sleep(self, seconds: float) -> None:
        """Let that much time pass."""
        self.sleeps.append(seconds)
        self.elapsed += seconds
