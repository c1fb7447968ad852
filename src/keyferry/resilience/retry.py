"""Whether a failed try is worth another one, and after which pause. [pure]

The pause grows exponentially and is drawn at random from its whole length ("full jitter"), so that
the pods of a node do not come back in step. What a server that throttles asks for (`Retry-After`)
is read here, and obeyed for the whole server in `keyferry.resilience`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently to try."""

    tries: int = 4
    """At most so many, the first one included."""
    base: float = 0.8
    """Seconds: the longest pause after the first failure; it doubles with each further one."""
    cap: float = 10.0
    """Seconds: no pause of our own choice is longer."""

    def max_delay(self, failures: int) -> float:
        """The longest pause in seconds after so many failures, at least 1."""
        # The exponent is bounded, because a float is.
        return min(self.cap, self.base * 2.0 ** min(failures - 1, 64))


@dataclass(frozen=True, slots=True)
class Wait:
    """Try again after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No further try: the tries or the time are used up."""


def decide_retry(
    policy: RetryPolicy, *, failures: int, time_left: float, jitter: float
) -> Wait | GiveUp:
    """What to do after a failed try.

    Args:
        policy: the limits.
        failures: how many tries have failed so far, at least 1.
        time_left: seconds until the time limit of the whole request.
        jitter: a random number from 0 to 1.
    """
    if failures >= policy.tries:
        return GiveUp()
    pause = policy.max_delay(failures) * jitter
    return Wait(pause) if pause < time_left else GiveUp()
