"""Economies for tests of what is behind them.

provider = AzureProvider(https, forgetful(StillClock()))
"""

from __future__ import annotations

from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.retrying_caller import RetryingCaller
from keyferry.resilience.settings import ResilienceSettings
from tests.fakes.clock import AutojumpClock


def uncached_fetcher(clock: AutojumpClock | None = None) -> Fetcher:
    """Holds no answer, so that what a test changes in a vault counts at once."""
    still = clock or AutojumpClock()
    return Fetcher(
        ResilienceSettings(cache_ttl=0, negative_cache_ttl=0), still, random=still.random
    )


def retrying_caller() -> RetryingCaller:
    """For one request to any vault."""
    return uncached_fetcher().caller_for("vault.test")
