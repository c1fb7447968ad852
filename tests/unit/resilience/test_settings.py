"""keyferry.resilience.settings: the numbers in force are those that docs/fetch-economy.md tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyferry.resilience.priority_queue import REFRESH_HEAD_START_SECONDS
from keyferry.resilience.settings import MEBIBYTE, ResilienceSettings

PAGE = Path(__file__, "../../../../docs/fetch-economy.md").resolve()
TOLD = ResilienceSettings()
WORDS = {4: "four", 5: "five"}


@pytest.mark.parametrize(
    "sentence",
    [
        f"at most {TOLD.cache_ttl:g} seconds ago (`--fetch-reuse`)",
        f"is remembered for {TOLD.negative_cache_ttl:g} seconds (`--fetch-refusals`)",
        f"{TOLD.qps:g} calls a second from this node",
        f"{TOLD.burst:,} at once after a quiet time",
        f"{TOLD.max_concurrency} under way at the same time",
        f"for {REFRESH_HEAD_START_SECONDS:g} seconds at the most",
        f"for {TOLD.retry.base:g} s, doubling up to {TOLD.retry.cap:g} s",
        f"is tried again up to {WORDS[TOLD.retry.tries]} times",
        (
            f"{WORDS[TOLD.breaker.min_failures]} times in a row"
            f" over {TOLD.breaker.min_failing_seconds:g} seconds"
        ),
        f"or more is left alone for {TOLD.breaker.min_open_seconds:g} seconds",
        f"doubles the pause, up to {TOLD.breaker.max_open_seconds:g} seconds",
        f"no answer within {TOLD.call_timeout:g} seconds",
        f"{TOLD.cache_max_bytes // MEBIBYTE} MiB at the most (`--fetch-memory`)",
    ],
)
def test_the_page_tells_the_number_in_force(sentence: str) -> None:
    """Whoever tunes must be able to trust it."""
    assert sentence in " ".join(PAGE.read_text().split())
