"""How many requests a vault gets: a token bucket that a throttling vault slows down. [pure]

The bucket holds `burst` tokens at the most and gains `rate` a second; a request takes one. When the
vault says that this is too much, the rate is halved, and grows back in a straight line, so that the
nodes of a cluster, which know nothing of each other, come to share what the vault gives.
"""

from __future__ import annotations

_RECOVERY_SECONDS = 60.0
"""So long the rate takes from nothing back to its full height."""
_LOWEST_RATE = 1.0
"""Requests a second; the rate sinks no lower, so that the vault's recovery is seen."""


class Budget:
    """The budget of one vault. Times are seconds from an arbitrary start.

    Args:
        rate: requests a second; 0: no limit.
        burst: so many at once after a quiet time, at least 1.
        now: the time.
    """

    def __init__(self, *, rate: float, burst: int, now: float) -> None:
        self._full_rate = rate
        self._burst = burst
        self._rate = rate
        self._tokens = float(burst)
        self._filled = now
        self._slowed = float("-inf")

    def left(self, now: float) -> float:
        """How many requests may go at once; infinite without a limit."""
        if not self._full_rate:
            return float("inf")
        self._fill(now)
        return self._tokens

    def take(self, now: float) -> None:
        """One request goes."""
        if self._full_rate:
            self._fill(now)
            self._tokens -= 1.0

    def give_back(self) -> None:
        """One that was taken did not go after all."""
        if self._full_rate:
            self._tokens += 1.0

    def wait(self, now: float) -> float:
        """Seconds until the next request may go."""
        missing = 1.0 - self.left(now)
        return max(0.0, missing / self._rate) if missing > 0 else 0.0

    def slow_down(self, *, sent: float, now: float, until: float) -> None:
        """The vault throttles a request: half the rate from here on, and no request for a while.

        Args:
            sent: when that request was sent; of those that were on the way together one counts.
            now: the time.
            until: when the vault may be asked again; one request may go then, and others by rate.
        """
        if not self._full_rate:
            return
        self._fill(now)
        if sent >= self._slowed:
            self._slowed = now
            self._rate = max(self._rate / 2, min(_LOWEST_RATE, self._full_rate))
            self._tokens = 1.0
        self._filled = max(self._filled, until)

    def _fill(self, now: float) -> None:
        passed = now - self._filled
        if passed <= 0:
            return
        self._filled = now
        grown = self._full_rate * passed / _RECOVERY_SECONDS
        before, self._rate = self._rate, min(self._full_rate, self._rate + grown)
        room = max(1.0, self._burst * self._rate / self._full_rate)
        self._tokens = min(room, self._tokens + passed * (before + self._rate) / 2)
