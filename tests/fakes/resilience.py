"""Fetchers for tests of the code that uses them.

provider = AzureProvider(https, uncached_fetcher(AutojumpClock()))
"""

from __future__ import annotations

from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.settings import ResilienceSettings
from tests.fakes.clock import AutojumpClock


def uncached_fetcher(clock: AutojumpClock | None = None) -> Fetcher:
    """Return a fetcher that caches nothing, so that a change in a vault is visible at once."""
    jumping = clock or AutojumpClock()
    return Fetcher(
        ResilienceSettings(cache_ttl=0, negative_cache_ttl=0), jumping, random=jumping.random
    )
