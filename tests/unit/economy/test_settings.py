"""The defaults are those that docs/concepts/caching-and-rate-limiting.md states."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyferry.economy.queue import REFRESH_WAITS
from keyferry.economy.settings import MEBIBYTE, EconomySettings

PAGE = Path(__file__, "../../../../docs/concepts/caching-and-rate-limiting.md").resolve()
TOLD = EconomySettings()
WORDS = {4: "four", 5: "five"}


@pytest.mark.parametrize(
    "sentence",
    [
        f"at most {TOLD.reuse:g} seconds ago (`--cache-ttl`)",
        f"cached for {TOLD.refusals:g} seconds (`--negative-cache-ttl`)",
        f"| sustained rate | {TOLD.rate:g} requests per second | `--vault-qps` |",
        f"| burst after an idle period | {TOLD.burst:,} requests | `--vault-burst` |",
        f"| concurrent requests | {TOLD.at_once} | `--vault-max-concurrency` |",
        f"for at most {REFRESH_WAITS:g} seconds",
        f"backs off for {TOLD.retry.base:g} s, doubling up to {TOLD.retry.cap:g} s",
        f"is attempted up to {WORDS[TOLD.retry.tries]} times in total",
        f"{WORDS[TOLD.breaker.failures]} consecutive failures",
        f"consecutive failures over {TOLD.breaker.seconds:g} seconds",
        f"fail immediately for {TOLD.breaker.first_pause:g} seconds",
        f"doubles the open period, up to {TOLD.breaker.longest_pause:g} seconds",
        f"no response within {TOLD.patience:g} seconds",
        f"limited to {TOLD.held_bytes // MEBIBYTE} MiB (`--cache-max-bytes`)",
    ],
)
def test_page_states_the_default(sentence: str) -> None:
    """Whoever tunes must be able to trust it."""
    assert sentence in " ".join(PAGE.read_text().split())
