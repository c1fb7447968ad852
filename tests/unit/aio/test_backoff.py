"""Exponential backoff: its growth, its limit and its jitter."""

from __future__ import annotations

from keyferry.aio.backoff import MAX_BACKOFF_SECONDS, exponential_backoff


def test_the_delay_doubles_up_to_the_limit() -> None:
    for failures in range(1, 30):
        base = min(MAX_BACKOFF_SECONDS, 0.5 * 2**failures)
        assert base / 2 <= exponential_backoff(failures) <= base


def test_a_caller_can_lower_the_limit() -> None:
    assert 15.0 <= exponential_backoff(100, max_seconds=30.0) <= 30.0
