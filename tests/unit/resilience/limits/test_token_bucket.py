"""keyferry.resilience.limits.token_bucket: rate, burst, and a lower rate after throttling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.resilience.limits.token_bucket import TokenBucket


def take_all(bucket: TokenBucket, now: float) -> int:
    """Take all tokens, and return how many there were."""
    count = 0
    while bucket.delay(now) == 0.0:
        bucket.take(now)
        count += 1
    return count


def test_full_bucket_allows_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(rate=2.0, burst=5, now=0.0)
    assert 5 == take_all(bucket, 0.0)
    assert 0.5 == bucket.delay(0.0)
    assert 2 == take_all(bucket, 1.0)


def test_idle_bucket_fills_up_to_its_burst() -> None:
    bucket = TokenBucket(rate=2.0, burst=5, now=0.0)
    take_all(bucket, 0.0)
    assert 5 == take_all(bucket, 1000.0)


def test_rate_of_zero_is_no_limit() -> None:
    bucket = TokenBucket(rate=0.0, burst=1, now=0.0)
    for _ in range(100):
        bucket.take(0.0)
    bucket.throttle(sent_at=0.0, now=0.0, until=50.0)
    assert (0.0, float("inf")) == (bucket.delay(0.0), bucket.available(0.0))


def test_throttling_leaves_one_token_and_halves_the_rate() -> None:
    bucket = TokenBucket(rate=8.0, burst=100, now=0.0)
    bucket.throttle(sent_at=0.0, now=0.0, until=3.0)
    assert 1 == take_all(bucket, 3.0)
    assert 0.25 == bucket.delay(3.0)


def test_requests_in_flight_together_halve_the_rate_once() -> None:
    bucket = TokenBucket(rate=8.0, burst=100, now=0.0)
    for _ in range(64):
        bucket.throttle(sent_at=-1.0, now=0.0, until=3.0)
    take_all(bucket, 3.0)
    assert 0.25 == bucket.delay(3.0)


def test_shorter_backoff_does_not_replace_a_longer_one() -> None:
    bucket = TokenBucket(rate=8.0, burst=100, now=0.0)
    bucket.throttle(sent_at=0.0, now=0.0, until=30.0)
    bucket.throttle(sent_at=-1.0, now=1.0, until=3.0)
    take_all(bucket, 3.0)
    assert 0 == take_all(bucket, 29.0)
    assert 0 < take_all(bucket, 31.0)


def test_rate_recovers_within_a_minute() -> None:
    bucket = TokenBucket(rate=64.0, burst=64, now=0.0)
    for _ in range(20):
        bucket.throttle(sent_at=0.0, now=0.0, until=0.0)
    take_all(bucket, 0.0)
    assert pytest.approx(1.0) == bucket.delay(0.0)
    assert 64 == take_all(bucket, 61.0)
    assert pytest.approx(1 / 64) == bucket.delay(61.0)


def test_refunded_token_is_available() -> None:
    bucket = TokenBucket(rate=1.0, burst=1, now=0.0)
    bucket.take(0.0)
    bucket.refund()
    assert 0.0 == bucket.delay(0.0)


@given(
    rate=st.floats(0.5, 20),
    burst=st.integers(1, 20),
    steps=st.lists(
        st.tuples(st.floats(0, 5), st.booleans(), st.floats(0, 5)), min_size=1, max_size=20
    ),
)
def test_requests_in_any_window_are_limited_by_burst_and_rate(
    rate: float, burst: int, steps: list[tuple[float, bool, float]]
) -> None:
    """At most burst + rate * window, and one more after each backoff."""
    bucket, now, backoff_until = TokenBucket(rate=rate, burst=burst, now=0.0), 0.0, 0.0
    requests: list[float] = []
    throttles: list[float] = []
    for delay, throttled, backoff in steps:
        now += delay
        if throttled:
            throttles.append(now)
            backoff_until = max(backoff_until, now + backoff)
            bucket.throttle(sent_at=now, now=now, until=backoff_until)
        if now >= backoff_until:
            requests += [now] * take_all(bucket, now)
        else:
            assert bucket.available(now) <= 1.0
    for first, start in enumerate(requests):
        window = sum(start <= sent_at for sent_at in requests[first:])
        after_backoffs = sum(throttled_at <= now for throttled_at in throttles)
        assert window <= burst + rate * (now - start) + after_backoffs + 1e-6
