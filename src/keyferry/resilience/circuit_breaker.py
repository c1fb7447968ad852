"""When a vault that fails is left alone, and when it is tried again. [pure]

A vault that has given no answer for a while is *open*: whoever asks is told at once since when and
until when, instead of waiting in vain and in the way of others. At the end of that time one request
goes as a probe, and the others wait for what becomes of it. Each probe that fails doubles the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyferry.errors import KeyferryError

_UNUSED_SECONDS = 300.0
"""A vault that nobody asked for so long when he might have is nobody's any more, such as one whose
name was a slip of the pen."""


@dataclass(frozen=True, slots=True)
class CircuitBreakerLimits:
    """When a vault counts as failing. Times in seconds."""

    min_failures: int = 5
    """At least so many in a row ..."""
    min_failing_seconds: float = 5.0
    """... over at least so long: a moment in which many connections break is not the end."""
    min_open_seconds: float = 5.0
    """Until the first probe."""
    max_open_seconds: float = 30.0
    """Between probes, at the most."""


@dataclass(frozen=True, slots=True)
class Allow:
    """A request may go; `probe` where the others wait for what becomes of it."""

    probe: bool = False


@dataclass(frozen=True, slots=True)
class AwaitProbe:
    """A probe is under way; what becomes of it decides."""


@dataclass(frozen=True, slots=True)
class Reject:
    """The vault is left alone.

    Attributes:
        failing_since: when the first of the failures was.
        next_probe_at: when the next probe goes.
        last_error: the last failure.
    """

    failing_since: float
    next_probe_at: float
    last_error: KeyferryError


Verdict = Allow | AwaitProbe | Reject

_ALLOW = Allow()


class CircuitBreaker:
    """What is known of one vault. Times are seconds from an arbitrary start."""

    def __init__(self, limits: CircuitBreakerLimits) -> None:
        self._limits = limits
        self._failures = 0
        self._failing_since = 0.0
        self._last_error: KeyferryError | None = None
        self._open_seconds = 0.0
        self._next_probe_at = 0.0
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether the vault is left alone."""
        return self._open_seconds > 0

    def is_reported_open(self, now: float) -> bool:
        """The same, unless nobody has wanted to know for a while whether it is back."""
        return self.is_open and now < self._next_probe_at + _UNUSED_SECONDS

    def verdict(self, now: float) -> Verdict:
        """Whether a request may go; asking changes nothing."""
        if not self._open_seconds or self._last_error is None:
            return _ALLOW
        if self._probing:
            return AwaitProbe()
        if now >= self._next_probe_at:
            return Allow(probe=True)
        return Reject(self._failing_since, self._next_probe_at, self._last_error)

    def probe_sent(self) -> None:
        """The probe is in flight; other requests wait for its outcome."""
        self._probing = True

    def on_success(self) -> None:
        """The vault gave an answer, whatever it said."""
        self._failures = 0
        self._open_seconds = 0.0
        self._probing = False
        self._last_error = None

    def on_failure(
        self, error: KeyferryError, *, now: float, jitter: float, probe: bool = False
    ) -> None:
        """It gave none.

        Args:
            error: what happened.
            now: the time.
            jitter: a random number from 0 to 1: the nodes of a cluster do not probe in step.
            probe: whether it was the probe.
        """
        if not self._failures:
            self._failing_since = now
        self._failures += 1
        self._last_error = error
        limits = self._limits
        if probe:
            self._probing = False
            self._open(min(limits.max_open_seconds, 2 * self._open_seconds), now, jitter)
        elif self._open_seconds:
            return  # it was on the way when the vault was given up
        elif (
            self._failures >= limits.min_failures
            and now - self._failing_since >= limits.min_failing_seconds
        ):
            self._open(limits.min_open_seconds, now, jitter)

    def probe_abandoned(self) -> None:
        """Whoever was to probe has gone; somebody else will."""
        self._probing = False

    def _open(self, open_seconds: float, now: float, jitter: float) -> None:
        self._open_seconds = open_seconds
        self._next_probe_at = now + open_seconds * (0.5 + jitter / 2)
