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

_UNASKED_SECONDS = 300.0
"""A vault that nobody asked for so long when he might have is nobody's any more, such as one whose
name was a slip of the pen."""


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """When a vault counts as failing. Times in seconds."""

    failures: int = 5
    """At least so many in a row ..."""
    seconds: float = 5.0
    """... over at least so long: a moment in which many connections break is not the end."""
    first_pause: float = 5.0
    """Until the first probe."""
    longest_pause: float = 30.0
    """Between probes, at the most."""


@dataclass(frozen=True, slots=True)
class Go:
    """A request may go; `probe` where the others wait for what becomes of it."""

    probe: bool = False


@dataclass(frozen=True, slots=True)
class Hold:
    """A probe is under way; what becomes of it decides."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """The vault is left alone.

    Attributes:
        since: when the first of the failures was.
        probe: when the next probe goes.
        last: the last failure.
    """

    since: float
    probe: float
    last: KeyferryError


Verdict = Go | Hold | Refuse

_GO = Go()


class Breaker:
    """What is known of one vault. Times are seconds from an arbitrary start."""

    def __init__(self, limits: BreakerLimits) -> None:
        self._limits = limits
        self._failures = 0
        self._since = 0.0
        self._last: KeyferryError | None = None
        self._pause = 0.0
        self._probe = 0.0
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether the vault is left alone."""
        return self._pause > 0

    def is_left_alone(self, now: float) -> bool:
        """The same, unless nobody has wanted to know for a while whether it is back."""
        return self.is_open and now < self._probe + _UNASKED_SECONDS

    def verdict(self, now: float) -> Verdict:
        """Whether a request may go; asking changes nothing."""
        if not self._pause or self._last is None:
            return _GO
        if self._probing:
            return Hold()
        if now >= self._probe:
            return Go(probe=True)
        return Refuse(self._since, self._probe, self._last)

    def go(self, go: Go) -> None:
        """A request goes, as its verdict said."""
        self._probing = self._probing or go.probe

    def answered(self) -> None:
        """The vault gave an answer, whatever it said."""
        self._failures = 0
        self._pause = 0.0
        self._probing = False
        self._last = None

    def failed(
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
            self._since = now
        self._failures += 1
        self._last = error
        limits = self._limits
        if probe:
            self._probing = False
            self._open(min(limits.longest_pause, 2 * self._pause), now, jitter)
        elif self._pause:
            return  # it was on the way when the vault was given up
        elif self._failures >= limits.failures and now - self._since >= limits.seconds:
            self._open(limits.first_pause, now, jitter)

    def given_up(self) -> None:
        """Whoever was to probe has gone; somebody else will."""
        self._probing = False

    def _open(self, pause: float, now: float, jitter: float) -> None:
        self._pause = pause
        self._probe = now + pause * (0.5 + jitter / 2)
