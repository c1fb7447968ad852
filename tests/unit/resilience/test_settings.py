"""The defaults are those that docs/concepts/caching-and-rate-limiting.md states."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyferry.resilience.limits.fair_queue import REFRESH_DELAY_SECONDS
from keyferry.resilience.settings import MEBIBYTE, ResilienceSettings

PAGE = Path(__file__, "../../../../docs/concepts/caching-and-rate-limiting.md").resolve()
DEFAULTS = ResilienceSettings()
WORDS = {4: "four", 5: "five"}


@pytest.mark.parametrize(
    "sentence",
    [
        f"at most {DEFAULTS.cache_ttl:g} seconds ago (`--cache-ttl`)",
        f"cached for {DEFAULTS.negative_cache_ttl:g} seconds (`--negative-cache-ttl`)",
        f"| sustained rate | {DEFAULTS.qps:g} requests per second | `--vault-qps` |",
        f"| burst after an idle period | {DEFAULTS.burst:,} requests | `--vault-burst` |",
        f"| concurrent requests | {DEFAULTS.max_concurrency} | `--vault-max-concurrency` |",
        f"for at most {REFRESH_DELAY_SECONDS:g} seconds",
        f"backs off for {DEFAULTS.retry.base:g} s, doubling up to {DEFAULTS.retry.cap:g} s",
        f"is attempted up to {WORDS[DEFAULTS.retry.tries]} times in total",
        f"{WORDS[DEFAULTS.breaker.min_failures]} consecutive failures",
        f"consecutive failures over {DEFAULTS.breaker.min_failing_seconds:g} seconds",
        f"fail immediately for {DEFAULTS.breaker.min_open_seconds:g} seconds",
        f"doubles the open period, up to {DEFAULTS.breaker.max_open_seconds:g} seconds",
        f"no response within {DEFAULTS.call_timeout:g} seconds",
        f"limited to {DEFAULTS.cache_max_bytes // MEBIBYTE} MiB (`--cache-max-bytes`)",
    ],
)
def test_page_states_the_default(sentence: str) -> None:
    """Readers tune their settings by this page."""
    assert sentence in " ".join(PAGE.read_text().split())
