"""Whether a failed try is worth another one, and after which pause. [pure]

The pause grows exponentially and is drawn at random from its whole length ("full jitter"), so that
the pods of a node do not come back in step. What a server that throttles asks for (`Retry-After`)
is read here, and obeyed for the whole server in `keyferry.resilience`.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from keyferry.errors import VaultThrottledError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.errors import KeyferryError

RETRY_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
"""The HTTP statuses that say "later", not "no"."""


@dataclass(frozen=True, slots=True)
class RetryableFailure:
    """One try failed, and another may end better.

    Attributes:
        error: what to raise when there is none.
        retry_after: seconds the server asked to wait.
        cause: what `error` is chained to; None where its text could hold a secret value.
        host_fault: whether the server as a whole failed, and not what was asked of it.
    """

    error: KeyferryError
    retry_after: float | None = None
    cause: Exception | None = None
    host_fault: bool = True

    @property
    def is_throttled(self) -> bool:
        """Whether the server said "later", to everybody."""
        return self.retry_after is not None or isinstance(self.error, VaultThrottledError)


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


def retry_after_seconds(headers: Mapping[str, str], *, now: float) -> float | None:
    """The pause in seconds that a response asks for, if it does so readably.

    Args:
        headers: of the response, with names compared case-insensitively by the mapping itself.
        now: seconds since the epoch, for the form that is a date.
    """
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        milliseconds = _number(headers.get(name, ""))
        if milliseconds is not None:
            return milliseconds / 1000
    text = headers.get("Retry-After", "")
    seconds = _number(text)
    return seconds if seconds is not None else _until(text, now=now)


def _number(text: str) -> float | None:
    """Plain digits as a number; not the `nan`, `inf` or `1_0` that float() also reads."""
    whole, _, fraction = text.strip().partition(".")
    digits = whole + fraction
    if not whole or len(digits) > 12 or not (digits.isascii() and digits.isdigit()):
        return None
    return float(f"{whole}.{fraction or 0}")


def _until(text: str, *, now: float) -> float | None:
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None
