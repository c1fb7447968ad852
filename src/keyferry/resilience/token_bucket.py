"""How many requests a vault gets: a token bucket that a throttling vault slows down. [pure]

The bucket holds `burst` tokens at the most and gains `rate` a second; a request takes one. When the
vault says that this is too much, the rate is halved, and grows back in a straight line, so that the
nodes of a cluster, which know nothing of each other, come to share what the vault gives.
"""

from __future__ import annotations

_RECOVERY_SECONDS = 60.0
"""So long the rate takes from nothing back to its full height."""
_MIN_RATE = 1.0
"""Requests a second; the rate sinks no lower, so that the vault's recovery is seen."""


class TokenBucket:
    """The budget of one vault. Times are seconds from an arbitrary start.

    Args:
        rate: requests a second; 0: no limit.
        burst: so many at once after a quiet time, at least 1.
        now: the time.
    """

    def __init__(self, *, rate: float, burst: int, now: float) -> None:
        self._max_rate = rate
        self._burst = burst
        self._rate = rate
        self._tokens = float(burst)
        self._refilled_at = now
        self._throttled_at = float("-inf")

    def available(self, now: float) -> float:
        """How many requests may go at once; infinite without a limit."""
        if not self._max_rate:
            return float("inf")
        self._refill(now)
        return self._tokens

    def take(self, now: float) -> None:
        """One request goes."""
        if self._max_rate:
            self._refill(now)
            self._tokens -= 1.0

    def refund(self) -> None:
        """One that was taken did not go after all."""
        if self._max_rate:
            self._tokens += 1.0

    def delay(self, now: float) -> float:
        """Seconds until the next request may go."""
        missing = 1.0 - self.available(now)
        return max(0.0, missing / self._rate) if missing > 0 else 0.0

    def throttle(self, *, sent_at: float, now: float, until: float) -> None:
        """The vault throttles a request: half the rate from here on, and no request for a while.

        Args:
            sent_at: when that request was sent; of those that were on the way together one counts.
            now: the time.
            until: when the vault may be asked again; one request may go then, and others by rate.
        """
        if not self._max_rate:
            return
        self._refill(now)
        if sent_at >= self._throttled_at:
            self._throttled_at = now
            self._rate = max(self._rate / 2, min(_MIN_RATE, self._max_rate))
            self._tokens = 1.0
        self._refilled_at = max(self._refilled_at, until)

    def _refill(self, now: float) -> None:
        passed = now - self._refilled_at
        if passed <= 0:
            return
        self._refilled_at = now
        grown = self._max_rate * passed / _RECOVERY_SECONDS
        before, self._rate = self._rate, min(self._max_rate, self._rate + grown)
        room = max(1.0, self._burst * self._rate / self._max_rate)
        self._tokens = min(room, self._tokens + passed * (before + self._rate) / 2)
