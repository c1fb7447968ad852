"""keyferry.economy.settings: the numbers in force are those that docs/fetch-economy.md tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyferry.economy.queue import REFRESH_WAITS
from keyferry.economy.settings import MEBIBYTE, EconomySettings

PAGE = Path(__file__, "../../../../docs/fetch-economy.md").resolve()
TOLD = EconomySettings()
WORDS = {4: "four", 5: "five"}


@pytest.mark.parametrize(
    "sentence",
    [
        f"at most {TOLD.reuse:g} seconds ago (`--fetch-reuse`)",
        f"is remembered for {TOLD.refusals:g} seconds (`--fetch-refusals`)",
        f"{TOLD.rate:g} calls a second from this node",
        f"{TOLD.burst:,} at once after a quiet time",
        f"{TOLD.at_once} under way at the same time",
        f"for {REFRESH_WAITS:g} seconds at the most",
        f"for {TOLD.retry.base:g} s, doubling up to {TOLD.retry.cap:g} s",
        f"is tried again up to {WORDS[TOLD.retry.tries]} times",
        f"{WORDS[TOLD.breaker.failures]} times in a row over {TOLD.breaker.seconds:g} seconds",
        f"or more is left alone for {TOLD.breaker.first_pause:g} seconds",
        f"doubles the pause, up to {TOLD.breaker.longest_pause:g} seconds",
        f"no answer within {TOLD.patience:g} seconds",
        f"{TOLD.held_bytes // MEBIBYTE} MiB at the most (`--fetch-memory`)",
    ],
)
def test_the_page_tells_the_number_in_force(sentence: str) -> None:
    """Whoever tunes must be able to trust it."""
    assert sentence in " ".join(PAGE.read_text().split())
