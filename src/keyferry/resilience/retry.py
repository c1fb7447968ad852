"""Decides whether a failed request is retried, and after which delay. [pure]

The delay grows exponentially with full jitter: it is drawn at random from zero to its maximum, so
that clients that failed together do not retry together.
"""

from __future__ import annotations

from msgspec import Struct


class RetryPolicy(Struct, frozen=True):
    """The limits of retries."""

    tries: int = 4
    """The number of attempts, including the first one."""
    base: float = 0.8
    """The maximum delay in seconds after the first failure; it doubles with each further one."""
    cap: float = 10.0
    """The largest maximum delay in seconds."""

    def max_delay(self, failures: int) -> float:
        """Return the maximum delay in seconds after this number of failures, at least 1."""
        # The exponent is bounded because a float is.
        return min(self.cap, self.base * 2.0 ** min(failures - 1, 64))


class Wait(Struct, frozen=True):
    """Retry after a delay.

    Attributes:
        seconds: the delay.
    """

    seconds: float


class GiveUp(Struct, frozen=True):
    """Do not retry: no attempt or no time is left."""


def decide_retry(
    policy: RetryPolicy, *, failures: int, time_left: float, jitter: float
) -> Wait | GiveUp:
    """Return whether to retry after a failed attempt.

    Args:
        policy: the limits.
        failures: how many attempts have failed, at least 1.
        time_left: seconds until the deadline of the request.
        jitter: a random number from 0 to 1.
    """
    if failures >= policy.tries:
        return GiveUp()
    delay = policy.max_delay(failures) * jitter
    return Wait(delay) if delay < time_left else GiveUp()
