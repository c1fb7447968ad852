"""Circuit breaker: stops requests to a host that fails, and probes whether it recovered. [pure]

closed     Requests are sent.
open       Requests fail at once, and do not wait in vain.
half-open  The open period has passed. One request is sent as a probe; the others wait for its
           outcome. A response closes the circuit breaker; a failure doubles the open period.

Times are seconds of any monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyferry.errors import KeyferryError

_UNUSED_SECONDS = 300.0
"""An open circuit breaker is no longer reported when its host was not used for this long. The host
may be a typing error that was corrected."""


@dataclass(frozen=True, slots=True)
class CircuitBreakerLimits:
    """When the circuit breaker opens and for how long. Times in seconds."""

    min_failures: int = 5
    """The number of consecutive failures before it opens."""
    min_failing_seconds: float = 5.0
    """The time between the first and the last of these failures, at least. Many connections that
    break at once are not an outage."""
    min_open_seconds: float = 5.0
    """The first open period."""
    max_open_seconds: float = 30.0
    """The longest open period."""


@dataclass(frozen=True, slots=True)
class Allow:
    """The request may be sent.

    Attributes:
        probe: whether it is the probe of a half-open circuit breaker.
    """

    probe: bool = False


@dataclass(frozen=True, slots=True)
class AwaitProbe:
    """A probe is in flight; its outcome decides."""


@dataclass(frozen=True, slots=True)
class Reject:
    """The circuit breaker is open.

    Attributes:
        failing_since: the time of the first failure.
        next_probe_at: when the next probe may be sent.
        last_error: the last failure.
    """

    failing_since: float
    next_probe_at: float
    last_error: KeyferryError


Verdict = Allow | AwaitProbe | Reject

_ALLOW = Allow()


class CircuitBreaker:
    """The circuit breaker of one host.

    Args:
        limits: when it opens and for how long.
    """

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
        """Whether it is open or half-open."""
        return self._open_seconds > 0

    def is_reported_open(self, now: float) -> bool:
        """Return whether the metrics report it as open: it is, and the host was used recently."""
        return self.is_open and now < self._next_probe_at + _UNUSED_SECONDS

    def verdict(self, now: float) -> Verdict:
        """Return whether a request may be sent. Changes nothing."""
        if not self._open_seconds or self._last_error is None:
            return _ALLOW
        if self._probing:
            return AwaitProbe()
        if now >= self._next_probe_at:
            return Allow(probe=True)
        return Reject(self._failing_since, self._next_probe_at, self._last_error)

    def probe_sent(self) -> None:
        """Record that the probe is in flight."""
        self._probing = True

    def probe_abandoned(self) -> None:
        """Record that the probe was canceled, so that another request becomes the probe."""
        self._probing = False

    def on_success(self) -> None:
        """Record a response of the host, whatever its status."""
        self._failures = 0
        self._open_seconds = 0.0
        self._probing = False
        self._last_error = None

    def on_failure(
        self, error: KeyferryError, *, now: float, jitter: float, probe: bool = False
    ) -> None:
        """Record that the host did not respond.

        Args:
            error: what happened.
            now: the time.
            jitter: a random number from 0 to 1, so that the nodes of a cluster probe at different
                times.
            probe: whether the request was the probe.
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
            return  # the request was sent before the circuit breaker opened
        elif (
            self._failures >= limits.min_failures
            and now - self._failing_since >= limits.min_failing_seconds
        ):
            self._open(limits.min_open_seconds, now, jitter)

    def _open(self, open_seconds: float, now: float, jitter: float) -> None:
        self._open_seconds = open_seconds
        self._next_probe_at = now + open_seconds * (0.5 + jitter / 2)
