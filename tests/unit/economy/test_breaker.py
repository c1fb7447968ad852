"""keyferry.economy.breaker: a vault that fails is left alone, and found again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from keyferry.economy.breaker import Breaker, BreakerLimits, Go, Hold, Refuse
from keyferry.errors import VaultError

LIMITS = BreakerLimits(failures=3, seconds=5.0, first_pause=4.0, longest_pause=10.0)
ERROR = VaultError("failed to connect")


def opened() -> Breaker:
    """It failed from 10 to 15 and is left alone until 19."""
    breaker = Breaker(LIMITS)
    for now in (10.0, 12.0, 15.0):
        breaker.failed(ERROR, now=now, jitter=1.0)
    return breaker


def test_a_few_failures_are_no_end() -> None:
    """Fewer than three, however long."""
    breaker = Breaker(LIMITS)
    breaker.failed(ERROR, now=0.0, jitter=1.0)
    breaker.failed(ERROR, now=100.0, jitter=1.0)
    assert Go() == breaker.verdict(100.0)


def test_a_moment_of_many_failures_is_no_end() -> None:
    """A hundred connections that break at once are tried again."""
    breaker = Breaker(LIMITS)
    for _ in range(100):
        breaker.failed(ERROR, now=0.0, jitter=1.0)
    assert Go() == breaker.verdict(4.9)


def test_many_failures_over_a_short_while_are_no_end() -> None:
    """A restart of the vault takes as long."""
    breaker = Breaker(LIMITS)
    for second in range(5):
        breaker.failed(ERROR, now=float(second), jitter=1.0)
    assert not breaker.is_open


def test_failures_over_a_while_open_it_and_say_since_when() -> None:
    """And until when, and what happened last."""
    assert Refuse(since=10.0, probe=19.0, last=ERROR) == opened().verdict(18.9)
    assert opened().is_open


def test_an_answer_between_failures_begins_the_count_anew() -> None:
    """Whatever the vault said."""
    breaker = Breaker(LIMITS)
    for now in (10.0, 12.0):
        breaker.failed(ERROR, now=now, jitter=1.0)
    breaker.answered()
    breaker.failed(ERROR, now=15.0, jitter=1.0)
    assert Go() == breaker.verdict(15.0)


def test_one_probe_goes_and_the_others_wait_for_it() -> None:
    """At the end of the pause."""
    breaker = opened()
    verdict = breaker.verdict(19.0)
    assert Go(probe=True) == verdict
    breaker.go(Go(probe=True))
    assert Hold() == breaker.verdict(19.0)


def test_a_probe_that_is_answered_closes_it() -> None:
    """Nobody waits any more."""
    breaker = opened()
    breaker.go(Go(probe=True))
    breaker.answered()
    assert (Go(), False) == (breaker.verdict(19.0), breaker.is_open)


def test_each_probe_that_fails_doubles_the_pause_up_to_the_longest() -> None:
    """4, 8, 10, 10; since stays."""
    breaker, now = opened(), 19.0
    for pause in (8.0, 10.0, 10.0):
        breaker.go(Go(probe=True))
        breaker.failed(ERROR, now=now, jitter=1.0, probe=True)
        assert Refuse(since=10.0, probe=now + pause, last=ERROR) == breaker.verdict(now)
        now += pause


def test_nodes_do_not_probe_in_step() -> None:
    """The dice choose the second half of the pause."""
    breaker = Breaker(LIMITS)
    for now in (10.0, 12.0, 15.0):
        breaker.failed(ERROR, now=now, jitter=0.0)
    assert Go(probe=True) == breaker.verdict(17.0)


def test_a_probe_that_was_given_up_is_made_by_somebody_else() -> None:
    """A mount that was cancelled must not leave the vault alone for ever."""
    breaker = opened()
    breaker.go(Go(probe=True))
    breaker.given_up()
    assert Go(probe=True) == breaker.verdict(19.0)


def test_late_failures_do_not_lengthen_the_pause() -> None:
    """They were on the way when the vault was given up."""
    breaker = opened()
    breaker.failed(ERROR, now=18.0, jitter=1.0)
    assert Go(probe=True) == breaker.verdict(19.0)


@given(st.lists(st.sampled_from(["fail", "answer", "go", "cancel"]), max_size=60))
def test_there_is_always_a_way_back(events: list[str]) -> None:
    """Whatever happened, within the longest pause somebody may go, unless a probe is under way."""
    breaker, now, probing = Breaker(LIMITS), 0.0, False
    for event in events:
        now += 1.0
        verdict = breaker.verdict(now)
        if event == "go" and isinstance(verdict, Go):
            breaker.go(verdict)
            probing = probing or verdict.probe
        elif event == "fail":
            breaker.failed(ERROR, now=now, jitter=1.0, probe=probing)
            probing = False
        elif event == "answer":
            breaker.answered()
            probing = False
        elif event == "cancel" and probing:
            breaker.given_up()
            probing = False
    later = breaker.verdict(now + LIMITS.longest_pause)
    assert isinstance(later, Hold if probing else Go)
