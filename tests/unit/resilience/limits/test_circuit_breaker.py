"""keyferry.resilience.limits.circuit_breaker: when it opens, probes and closes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from keyferry.errors import VaultError
from keyferry.resilience.limits.circuit_breaker import (
    Allow,
    AwaitProbe,
    CircuitBreaker,
    CircuitBreakerLimits,
    Reject,
)

LIMITS = CircuitBreakerLimits(
    min_failures=3, min_failing_seconds=5.0, min_open_seconds=4.0, max_open_seconds=10.0
)
ERROR = VaultError("failed to connect")


def open_breaker(jitter: float = 1.0) -> CircuitBreaker:
    """Return a circuit breaker that failed from 10 to 15; with full jitter it is open until 19."""
    breaker = CircuitBreaker(LIMITS)
    for now in (10.0, 12.0, 15.0):
        breaker.on_failure(ERROR, now=now, jitter=jitter)
    return breaker


def test_few_failures_do_not_open_it() -> None:
    breaker = CircuitBreaker(LIMITS)
    breaker.on_failure(ERROR, now=0.0, jitter=1.0)
    breaker.on_failure(ERROR, now=100.0, jitter=1.0)
    assert Allow() == breaker.verdict(100.0)


def test_many_failures_at_one_moment_do_not_open_it() -> None:
    """A hundred connections that break at once are not an outage."""
    breaker = CircuitBreaker(LIMITS)
    for _ in range(100):
        breaker.on_failure(ERROR, now=0.0, jitter=1.0)
    assert Allow() == breaker.verdict(4.9)


def test_failures_during_a_short_time_do_not_open_it() -> None:
    """A restart of the vault takes a few seconds."""
    breaker = CircuitBreaker(LIMITS)
    for second in range(5):
        breaker.on_failure(ERROR, now=float(second), jitter=1.0)
    assert not breaker.is_open


def test_failures_during_a_longer_time_open_it() -> None:
    expected = Reject(failing_since=10.0, next_probe_at=19.0, last_error=ERROR)
    assert expected == open_breaker().verdict(18.9)
    assert open_breaker().is_open


def test_response_resets_the_number_of_failures() -> None:
    breaker = CircuitBreaker(LIMITS)
    for now in (10.0, 12.0):
        breaker.on_failure(ERROR, now=now, jitter=1.0)
    breaker.on_success()
    breaker.on_failure(ERROR, now=15.0, jitter=1.0)
    assert Allow() == breaker.verdict(15.0)


def test_half_open_breaker_allows_one_probe() -> None:
    breaker = open_breaker()
    assert Allow(probe=True) == breaker.verdict(19.0)
    breaker.probe_sent()
    assert AwaitProbe() == breaker.verdict(19.0)


def test_successful_probe_closes_it() -> None:
    breaker = open_breaker()
    breaker.probe_sent()
    breaker.on_success()
    assert (Allow(), False) == (breaker.verdict(19.0), breaker.is_open)


def test_failed_probe_doubles_the_open_period_up_to_the_maximum() -> None:
    breaker, now = open_breaker(), 19.0
    for open_seconds in (8.0, 10.0, 10.0):
        breaker.probe_sent()
        breaker.on_failure(ERROR, now=now, jitter=1.0, probe=True)
        assert Reject(
            failing_since=10.0, next_probe_at=now + open_seconds, last_error=ERROR
        ) == breaker.verdict(now)
        now += open_seconds


def test_jitter_halves_the_open_period_at_most() -> None:
    """Nodes probe at different times."""
    assert Allow(probe=True) == open_breaker(jitter=0.0).verdict(17.0)


def test_abandoned_probe_is_replaced() -> None:
    breaker = open_breaker()
    breaker.probe_sent()
    breaker.probe_abandoned()
    assert Allow(probe=True) == breaker.verdict(19.0)


def test_late_failure_does_not_extend_the_open_period() -> None:
    """Its request was sent before the circuit breaker opened."""
    breaker = open_breaker()
    breaker.on_failure(ERROR, now=18.0, jitter=1.0)
    assert Allow(probe=True) == breaker.verdict(19.0)


@given(st.lists(st.sampled_from(["fail", "respond", "send", "abandon"]), max_size=60))
def test_request_is_allowed_after_the_longest_open_period(events: list[str]) -> None:
    """Unless a probe is in flight."""
    breaker, now, probing = CircuitBreaker(LIMITS), 0.0, False
    for event in events:
        now += 1.0
        verdict = breaker.verdict(now)
        if event == "send" and isinstance(verdict, Allow):
            if verdict.probe:
                breaker.probe_sent()
                probing = True
        elif event == "fail":
            breaker.on_failure(ERROR, now=now, jitter=1.0, probe=probing)
            probing = False
        elif event == "respond":
            breaker.on_success()
            probing = False
        elif event == "abandon" and probing:
            breaker.probe_abandoned()
            probing = False
    later = breaker.verdict(now + LIMITS.max_open_seconds)
    assert isinstance(later, AwaitProbe if probing else Allow)
