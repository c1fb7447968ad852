"""keyferry.resilience.circuit_breaker: a vault that fails is left alone, and found again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from keyferry.errors import VaultError
from keyferry.resilience.circuit_breaker import (
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


def opened() -> CircuitBreaker:
    """It failed from 10 to 15 and is left alone until 19."""
    breaker = CircuitBreaker(LIMITS)
    for now in (10.0, 12.0, 15.0):
        breaker.on_failure(ERROR, now=now, jitter=1.0)
    return breaker


def test_a_few_failures_are_no_end() -> None:
    """Fewer than three, however long."""
    breaker = CircuitBreaker(LIMITS)
    breaker.on_failure(ERROR, now=0.0, jitter=1.0)
    breaker.on_failure(ERROR, now=100.0, jitter=1.0)
    assert Allow() == breaker.verdict(100.0)


def test_a_moment_of_many_failures_is_no_end() -> None:
    """A hundred connections that break at once are tried again."""
    breaker = CircuitBreaker(LIMITS)
    for _ in range(100):
        breaker.on_failure(ERROR, now=0.0, jitter=1.0)
    assert Allow() == breaker.verdict(4.9)


def test_many_failures_over_a_short_while_are_no_end() -> None:
    """A restart of the vault takes as long."""
    breaker = CircuitBreaker(LIMITS)
    for second in range(5):
        breaker.on_failure(ERROR, now=float(second), jitter=1.0)
    assert not breaker.is_open


def test_failures_over_a_while_open_it_and_say_since_when() -> None:
    """And until when, and what happened last."""
    assert Reject(failing_since=10.0, next_probe_at=19.0, last_error=ERROR) == opened().verdict(
        18.9
    )
    assert opened().is_open


def test_an_answer_between_failures_begins_the_count_anew() -> None:
    """Whatever the vault said."""
    breaker = CircuitBreaker(LIMITS)
    for now in (10.0, 12.0):
        breaker.on_failure(ERROR, now=now, jitter=1.0)
    breaker.on_success()
    breaker.on_failure(ERROR, now=15.0, jitter=1.0)
    assert Allow() == breaker.verdict(15.0)


def test_one_probe_goes_and_the_others_wait_for_it() -> None:
    """At the end of the pause."""
    breaker = opened()
    verdict = breaker.verdict(19.0)
    assert Allow(probe=True) == verdict
    breaker.probe_sent()
    assert AwaitProbe() == breaker.verdict(19.0)


def test_a_probe_that_is_answered_closes_it() -> None:
    """Nobody waits any more."""
    breaker = opened()
    breaker.probe_sent()
    breaker.on_success()
    assert (Allow(), False) == (breaker.verdict(19.0), breaker.is_open)


def test_each_probe_that_fails_doubles_the_pause_up_to_the_longest() -> None:
    """4, 8, 10, 10; since stays."""
    breaker, now = opened(), 19.0
    for pause in (8.0, 10.0, 10.0):
        breaker.probe_sent()
        breaker.on_failure(ERROR, now=now, jitter=1.0, probe=True)
        assert Reject(
            failing_since=10.0, next_probe_at=now + pause, last_error=ERROR
        ) == breaker.verdict(now)
        now += pause


def test_nodes_do_not_probe_in_step() -> None:
    """The dice choose the second half of the pause."""
    breaker = CircuitBreaker(LIMITS)
    for now in (10.0, 12.0, 15.0):
        breaker.on_failure(ERROR, now=now, jitter=0.0)
    assert Allow(probe=True) == breaker.verdict(17.0)


def test_a_probe_that_was_given_up_is_made_by_somebody_else() -> None:
    """A mount that was cancelled must not leave the vault alone for ever."""
    breaker = opened()
    breaker.probe_sent()
    breaker.probe_abandoned()
    assert Allow(probe=True) == breaker.verdict(19.0)


def test_late_failures_do_not_lengthen_the_pause() -> None:
    """They were on the way when the vault was given up."""
    breaker = opened()
    breaker.on_failure(ERROR, now=18.0, jitter=1.0)
    assert Allow(probe=True) == breaker.verdict(19.0)


@given(st.lists(st.sampled_from(["fail", "answer", "go", "cancel"]), max_size=60))
def test_there_is_always_a_way_back(events: list[str]) -> None:
    """Whatever happened, within the longest pause somebody may go, unless a probe is under way."""
    breaker, now, probing = CircuitBreaker(LIMITS), 0.0, False
    for event in events:
        now += 1.0
        verdict = breaker.verdict(now)
        if event == "go" and isinstance(verdict, Allow):
            if verdict.probe:
                breaker.probe_sent()
                probing = True
        elif event == "fail":
            breaker.on_failure(ERROR, now=now, jitter=1.0, probe=probing)
            probing = False
        elif event == "answer":
            breaker.on_success()
            probing = False
        elif event == "cancel" and probing:
            breaker.probe_abandoned()
            probing = False
    later = breaker.verdict(now + LIMITS.max_open_seconds)
    assert isinstance(later, AwaitProbe if probing else Allow)
