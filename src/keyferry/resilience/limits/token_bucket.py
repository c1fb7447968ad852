"""Token bucket: limits the rate of requests to one host, and slows down when throttled. [pure]

The bucket holds at most `burst` tokens and gains `rate` tokens per second; a request takes one.
When the host throttles, the rate is halved. It returns linearly to its maximum, so that the nodes
of a cluster converge on the limit of the host without communicating.

Times are seconds of any monotonic clock.
"""

from __future__ import annotations

_RECOVERY_SECONDS = 60.0
"""How long the rate takes from zero to its maximum."""
_MIN_RATE = 1.0
"""The lowest rate in requests per second, so that the recovery of a host is noticed."""


class TokenBucket:
    """The token bucket of one host, or of one tenant at one host.

    Args:
        rate: the maximum number of requests per second; 0: no limit.
        burst: the number of tokens in a full bucket, at least 1.
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
        """Return the number of tokens; infinity without a limit."""
        if not self._max_rate:
            return float("inf")
        self._refill(now)
        return self._tokens

    def is_full(self, now: float) -> bool:
        """Return whether the bucket is as a new one."""
        return self.available(now) >= self._burst and self._rate == self._max_rate

    def take(self, now: float) -> None:
        """Take a token for a request."""
        if self._max_rate:
            self._refill(now)
            self._tokens -= 1.0

    def refund(self) -> None:
        """Return the token of a request that was not sent."""
        if self._max_rate:
            self._tokens += 1.0

    def delay(self, now: float) -> float:
        """Return the seconds until a token is available."""
        missing = 1.0 - self.available(now)
        return max(0.0, missing / self._rate) if missing > 0 else 0.0

    def throttle(self, *, sent_at: float, now: float, until: float) -> None:
        """Halve the rate, and give no token before `until`, because the host throttled a request.

        Args:
            sent_at: when the request was sent. Requests that were in flight together halve the
                rate only once.
            now: the time.
            until: when the host accepts requests again. One request may be sent then, and others
                at the halved rate.
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
        elapsed = now - self._refilled_at
        if elapsed <= 0:
            return
        self._refilled_at = now
        growth = self._max_rate * elapsed / _RECOVERY_SECONDS
        previous_rate, self._rate = self._rate, min(self._max_rate, self._rate + growth)
        capacity = max(1.0, self._burst * self._rate / self._max_rate)
        self._tokens = min(capacity, self._tokens + elapsed * (previous_rate + self._rate) / 2)
