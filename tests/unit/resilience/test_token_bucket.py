"""Token bucket: never more than the bucket gives, and less when the vault says so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.resilience.token_bucket import TokenBucket


def drained(budget: TokenBucket, now: float) -> int:
    """How many requests go at once; all of them gone."""
    count = 0
    while budget.delay(now) == 0.0:
        budget.take(now)
        count += 1
    return count


def test_a_full_bucket_gives_its_burst_and_then_its_rate() -> None:
    """Five at once, then one in half a second."""
    budget = TokenBucket(rate=2.0, burst=5, now=0.0)
    assert 5 == drained(budget, 0.0)
    assert 0.5 == budget.delay(0.0)
    assert 2 == drained(budget, 1.0)


def test_a_quiet_time_fills_the_bucket_to_its_burst() -> None:
    """And no further."""
    budget = TokenBucket(rate=2.0, burst=5, now=0.0)
    drained(budget, 0.0)
    assert 5 == drained(budget, 1000.0)


def test_without_a_rate_there_is_no_limit() -> None:
    """Whatever is taken, more is left."""
    budget = TokenBucket(rate=0.0, burst=1, now=0.0)
    for _ in range(100):
        budget.take(0.0)
    budget.throttle(sent_at=0.0, now=0.0, until=50.0)
    assert (0.0, float("inf")) == (budget.delay(0.0), budget.available(0.0))


def test_a_throttle_leaves_one_request_for_the_end_of_the_pause() -> None:
    """The others go by the rate, half of what it was."""
    budget = TokenBucket(rate=8.0, burst=100, now=0.0)
    budget.throttle(sent_at=0.0, now=0.0, until=3.0)
    assert 1 == drained(budget, 3.0)
    assert 0.25 == budget.delay(3.0)


def test_requests_that_were_on_the_way_together_slow_down_once() -> None:
    """Sixty-four refusals of one moment are one sign."""
    budget = TokenBucket(rate=8.0, burst=100, now=0.0)
    for _ in range(64):
        budget.throttle(sent_at=-1.0, now=0.0, until=3.0)
    drained(budget, 3.0)
    assert 0.25 == budget.delay(3.0)


def test_a_shorter_pause_takes_nothing_from_a_longer_one() -> None:
    """Of two refusals the one that asks for more time counts."""
    budget = TokenBucket(rate=8.0, burst=100, now=0.0)
    budget.throttle(sent_at=0.0, now=0.0, until=30.0)
    budget.throttle(sent_at=-1.0, now=1.0, until=3.0)
    drained(budget, 3.0)
    assert 0 == drained(budget, 29.0)
    assert 0 < drained(budget, 31.0)


def test_the_rate_grows_back_in_a_minute() -> None:
    """However often the vault throttled."""
    budget = TokenBucket(rate=64.0, burst=64, now=0.0)
    for _ in range(20):
        budget.throttle(sent_at=0.0, now=0.0, until=0.0)
    drained(budget, 0.0)
    assert pytest.approx(1.0) == budget.delay(0.0)
    assert 64 == drained(budget, 61.0)
    assert pytest.approx(1 / 64) == budget.delay(61.0)


def test_what_did_not_go_is_given_back() -> None:
    """A mount that was cancelled in its turn."""
    budget = TokenBucket(rate=1.0, burst=1, now=0.0)
    budget.take(0.0)
    budget.refund()
    assert 0.0 == budget.delay(0.0)


@given(
    rate=st.floats(0.5, 20),
    burst=st.integers(1, 20),
    steps=st.lists(
        st.tuples(st.floats(0, 5), st.booleans(), st.floats(0, 5)), min_size=1, max_size=20
    ),
)
def test_no_window_sees_more_than_burst_and_rate(
    rate: float, burst: int, steps: list[tuple[float, bool, float]]
) -> None:
    """What goes in any window fits burst + rate * window, and one for the end of each pause."""
    budget, now, paused = TokenBucket(rate=rate, burst=burst, now=0.0), 0.0, 0.0
    went: list[float] = []
    throttles: list[float] = []
    for pause, throttled, until in steps:
        now += pause
        if throttled:
            throttles.append(now)
            paused = max(paused, now + until)
            budget.throttle(sent_at=now, now=now, until=paused)
        if now >= paused:
            went += [now] * drained(budget, now)
        else:
            assert budget.available(now) <= 1.0
    for first, start in enumerate(went):
        window = sum(start <= moment for moment in went[first:])
        after_pauses = sum(moment <= now for moment in throttles)
        assert window <= burst + rate * (now - start) + after_pauses + 1e-6
