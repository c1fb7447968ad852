"""keyferry.resilience.retry: the decision to retry, and its delay. keyferry.net.retryable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.net.retryable import retry_after_seconds
from keyferry.resilience.retry import GiveUp, RetryPolicy, Wait, decide_retry

POLICY = RetryPolicy(tries=4, base=0.8, cap=10.0)
NOW = 1_700_000_000.0


@pytest.mark.parametrize(("failures", "max_delay"), [(1, 0.8), (2, 1.6), (3, 3.2)])
def test_maximum_delay_doubles_with_each_failure(failures: int, max_delay: float) -> None:
    decision = decide_retry(POLICY, failures=failures, time_left=60.0, jitter=1.0)
    assert decision == Wait(max_delay)


def test_delay_has_full_jitter() -> None:
    decision = decide_retry(POLICY, failures=3, time_left=60.0, jitter=0.0)
    assert decision == Wait(0.0)


def test_delay_is_limited_by_the_cap() -> None:
    policy = RetryPolicy(tries=20, base=0.8, cap=10.0)
    decision = decide_retry(policy, failures=15, time_left=60.0, jitter=1.0)
    assert decision == Wait(10.0)


def test_last_attempt_is_not_retried() -> None:
    decision = decide_retry(POLICY, failures=4, time_left=60.0, jitter=0.5)
    assert decision == GiveUp()


def test_delay_beyond_the_deadline_is_not_started() -> None:
    decision = decide_retry(POLICY, failures=1, time_left=0.7, jitter=1.0)
    assert decision == GiveUp()


@given(failures=st.integers(1, 10_000), left=st.floats(-10, 100), jitter=st.floats(0, 1))
def test_delay_always_ends_before_the_deadline(failures: int, left: float, jitter: float) -> None:
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
def test_retry_after_is_parsed_in_all_its_forms(
    headers: dict[str, str], expected: float | None
) -> None:
    """Milliseconds precede seconds, dates count from now, invalid values are ignored."""
    assert retry_after_seconds(headers, now=NOW) == expected


@given(st.text())
def test_any_retry_after_header_is_parsed_or_ignored(text: str) -> None:
    seconds = retry_after_seconds({"Retry-After": text}, now=NOW)
    assert seconds is None or seconds >= 0
