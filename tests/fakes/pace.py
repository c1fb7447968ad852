"""Clocks that stand still and pauses that take no time, for whatever waits or tries again.

pace = StillPace()
economy = Economy(pace=pace.pace)
...
assert pace.pauses == [0.8, 1.6]
"""

from __future__ import annotations

from dataclasses import dataclass, field

from keyferry.pace import Pace

WALL_START = 1_700_000_000.0


@dataclass
class StillPace:
    """Time passes only while somebody pauses.

    Attributes:
        jitter: what the dice show, always.
        elapsed: seconds paused so far.
        pauses: every pause, in seconds.
    """

    jitter: float = 1.0
    elapsed: float = 0.0
    pauses: list[float] = field(default_factory=list)

    @property
    def pace(self) -> Pace:
        """The pace to give to a client."""
        return Pace(
            now=lambda: self.elapsed,
            wall=self.wall,
            sleep=self._sleep,
            jitter=lambda: self.jitter,
        )

    def wall(self) -> float:
        """Seconds since the epoch."""
        return WALL_START + self.elapsed

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.elapsed += seconds
