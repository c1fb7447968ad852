"""keyferry.resilience.retry: another try or not, and the pause before it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.resilience.retry import GiveUp, RetryPolicy, Wait, decide_retry, retry_after_seconds

POLICY = RetryPolicy(tries=4, base=0.8, cap=10.0)
NOW = 1_700_000_000.0


@pytest.mark.parametrize(("failures", "longest"), [(1, 0.8), (2, 1.6), (3, 3.2)])
def test_pauses_double_with_each_failure(failures: int, longest: float) -> None:
    """The longest pause is base * 2^(failures-1)."""
    actual = decide_retry(POLICY, failures=failures, time_left=60.0, jitter=1.0)
    assert actual == Wait(longest)


def test_a_pause_is_drawn_from_its_whole_length() -> None:
    """Full jitter: the dice choose anything from nothing to the longest pause."""
    actual = decide_retry(POLICY, failures=3, time_left=60.0, jitter=0.0)
    assert actual == Wait(0.0)


def test_no_pause_of_our_own_is_longer_than_the_cap() -> None:
    """The cap ends the doubling."""
    policy = RetryPolicy(tries=20, base=0.8, cap=10.0)
    actual = decide_retry(policy, failures=15, time_left=60.0, jitter=1.0)
    assert actual == Wait(10.0)


def test_the_last_try_is_followed_by_none() -> None:
    """Four tries are four tries."""
    actual = decide_retry(POLICY, failures=4, time_left=60.0, jitter=0.5)
    assert actual == GiveUp()


def test_a_pause_that_does_not_fit_the_time_left_is_not_begun() -> None:
    """Waiting in vain helps nobody."""
    actual = decide_retry(POLICY, failures=1, time_left=0.7, jitter=1.0)
    assert actual == GiveUp()


@given(
    failures=st.integers(1, 10_000),
    left=st.floats(-10, 100),
    jitter=st.floats(0, 1),
)
def test_a_wait_always_ends_before_the_time_limit(
    failures: int, left: float, jitter: float
) -> None:
    """Whatever comes in, a pause is never negative and never outlasts the request."""
    match decide_retry(POLICY, failures=failures, time_left=left, jitter=jitter):
        case Wait(seconds):
            assert 0 <= seconds < left
        case GiveUp():
            pass


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": " 1.5 "}, 1.5),
        ({"Retry-After": "Tue, 14 Nov 2023 22:13:30 GMT"}, 10.0),
        ({"Retry-After": "Tue, 14 Nov 2003 22:13:30 GMT"}, 0.0),
        ({"retry-after-ms": "250", "Retry-After": "7"}, 0.25),
        ({"x-ms-retry-after-ms": "1250"}, 1.25),
        ({"retry-after-ms": "soon", "Retry-After": "7"}, 7.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "1_0"}, None),
        ({"Retry-After": "9" * 400}, None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(
    headers: dict[str, str], expected: float | None
) -> None:
    """Milliseconds win over seconds, dates count from now, nonsense counts as absent."""
    assert retry_after_seconds(headers, now=NOW) == expected


@given(st.text())
def test_no_header_breaks_the_reader(text: str) -> None:
    """A server can send anything."""
    seconds = retry_after_seconds({"Retry-After": text}, now=NOW)
    assert seconds is None or seconds >= 0
