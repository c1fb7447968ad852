"""Circuit breaker: stops requests to a host that fails, and probes whether it recovered. [pure]

Each tenant has a circuit breaker of its own for each host and kind of connection, so the failures
of one tenant never stop another. What tenants share (`Circuits`) only makes them faster.

closed     Requests are sent.
open       Requests fail at once, and do not wait in vain.
half-open  The open period has passed. One request is sent as a probe; the others wait for its
           outcome. A response closes the circuit breaker; a failure doubles the open period.

Times are seconds of any monotonic clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from keyferry.errors import KeyferryError

_UNUSED_SECONDS = 300.0
"""An open circuit breaker is no longer reported when its host was not used for this long. The host
may be a typing error that was corrected."""


class CircuitBreakerLimits(Struct, frozen=True):
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


class Allow(Struct, frozen=True):
    """The request may be sent.

    Attributes:
        probe: whether it is the probe of a half-open circuit breaker.
    """

    probe: bool = False


class AwaitProbe(Struct, frozen=True):
    """A probe is in flight; its outcome decides."""


class Reject(Struct, frozen=True):
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

    def half_open(self, now: float) -> None:
        """Send the next request as a probe, because of what other tenants found out."""
        self._open_seconds = self._open_seconds or self._limits.min_open_seconds
        self._next_probe_at = min(self._next_probe_at, now) if self._next_probe_at else now

    def is_reported_open(self, now: float) -> bool:
        """Return whether the metrics report it as open: it is, and the host was used recently."""
        return self.is_open and now < self._next_probe_at + _UNUSED_SECONDS

    def verdict(self, now: float) -> Verdict:
        """Return whether a request may be sent. Changes nothing."""
        if not self._open_seconds:
            return _ALLOW
        if self._probing:
            return AwaitProbe()
        if now >= self._next_probe_at or self._last_error is None:
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


# --- The circuit breakers of all tenants ----------------------------------------------------------

CircuitKey = tuple[int, str]
"""The connection (`Endpoint.connection`) and the tenant."""

_OUTAGE_SECONDS = 60.0
"""Without a failure for this long, a tenant no longer counts as one that cannot reach the host."""
_MAX_CONNECTIONS = 32
"""The number of connections of one tenant whose circuit breakers are kept."""
_MAX_BREAKERS = 1024


class Circuits:
    """The circuit breakers of one host: one for each tenant and connection.

    The host is in *outage* for a connection while the circuit breakers of at least two tenants are
    open and nobody has had a response. During an outage, every tenant finds out for itself, but
    faster: its first request is a probe, and one failure opens its circuit breaker. The first
    response ends the outage, and lets each tenant send a probe at once.

    A circuit breaker is created by a failure, so normal operation has no circuit breakers.

    Args:
        limits: when they open and for how long.
    """

    def __init__(self, limits: CircuitBreakerLimits) -> None:
        self._limits = limits
        self._breakers: dict[CircuitKey, CircuitBreaker] = {}
        self._failing: dict[int, dict[str, float]] = {}

    def __bool__(self) -> bool:
        """Return whether there was a failure since the last responses."""
        return bool(self._breakers)

    def is_outage(self, connection: int, now: float) -> bool:
        """Return whether independent tenants cannot reach the host and nobody can."""
        failing = self._failing.get(connection)
        if not failing or len(failing) < 2:
            return False
        return sum(now - failed_at <= _OUTAGE_SECONDS for failed_at in failing.values()) > 1

    def open_tenants(self, now: float) -> set[str]:
        """Return the tenants with an open circuit breaker that they used recently."""
        return {key[1] for key, one in self._breakers.items() if one.is_reported_open(now)}

    def has_outage(self, now: float) -> bool:
        """Return whether there is an outage for any connection."""
        return any(self.is_outage(connection, now) for connection in self._failing)

    @property
    def any_open(self) -> bool:
        """Whether any circuit breaker is open."""
        return any(breaker.is_open for breaker in self._breakers.values())

    def verdict(self, key: CircuitKey, now: float) -> Verdict:
        """Return whether a request may be sent; `probe_sent` must follow `Allow(probe=True)`."""
        breaker = self._breakers.get(key)
        if breaker is None or not breaker.is_open:
            if not self.is_outage(key[0], now):
                return _ALLOW
            breaker = breaker or self._create(key)
            breaker.half_open(now)
        return breaker.verdict(now)

    def probe_sent(self, key: CircuitKey) -> None:
        """Record that the probe of a tenant is in flight."""
        self._breakers[key].probe_sent()

    def probe_abandoned(self, key: CircuitKey) -> None:
        """Record that the probe of a tenant was canceled, so that another request is the probe."""
        if breaker := self._breakers.get(key):
            breaker.probe_abandoned()

    def on_success(self, key: CircuitKey, now: float) -> bool:
        """Record a response of the host, whatever its status.

        Returns:
            Whether the response closed the circuit breaker of the tenant.
        """
        if not self._breakers:
            return False
        closed = self._breakers.pop(key, None)
        failing = self._failing.pop(key[0], None)
        if failing and len(failing) > 1:
            for tenant in failing:
                if breaker := self._breakers.get((key[0], tenant)):
                    breaker.half_open(now)
        return closed is not None and closed.is_open

    def on_failure(
        self, key: CircuitKey, error: KeyferryError, *, now: float, jitter: float, probe: bool
    ) -> bool:
        """Record that the host did not respond; see `CircuitBreaker.on_failure`.

        Returns:
            Whether the failure opened the circuit breaker of the tenant.
        """
        breaker = self._breakers.get(key) or self._create(key)
        was_open = breaker.is_open
        breaker.on_failure(error, now=now, jitter=jitter, probe=probe)
        if breaker.is_open:
            failing = self._failing.setdefault(key[0], {})
            failing[key[1]] = now
        return breaker.is_open and not was_open

    def _create(self, key: CircuitKey) -> CircuitBreaker:
        own = [other for other in self._breakers if other[1] == key[1]]
        if len(own) >= _MAX_CONNECTIONS:
            self._drop(own[0])
        if len(self._breakers) >= _MAX_BREAKERS:
            self._drop(next(iter(self._breakers)))
        breaker = self._breakers[key] = CircuitBreaker(self._limits)
        return breaker

    def _drop(self, key: CircuitKey) -> None:
        del self._breakers[key]
        failing = self._failing.get(key[0], {})
        failing.pop(key[1], None)
        if not failing:
            self._failing.pop(key[0], None)
