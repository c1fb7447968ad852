"""The settings of caching, rate limits and retries, as the flags set them. [pure]"""

from __future__ import annotations

from msgspec import Struct, field

from keyferry.records import replace
from keyferry.resilience.limits.circuit_breaker import CircuitBreakerLimits
from keyferry.resilience.response_cache import CacheLimits
from keyferry.resilience.retry import RetryPolicy

MEBIBYTE = 1 << 20
MAX_CONCURRENT_READS = 64
"""Reads of one mount that are started at the same time; a vault gets no more anyway."""


class ResilienceSettings(Struct, frozen=True):
    """The settings of one process. All times in seconds."""

    cache_ttl: float = 15.0
    """How long a fetched object is reused for first mounts with the same identity."""
    refresh_interval: float | None = None
    """The time between two refresh slots of an identity (see `freshness`).

    0: a refresh always asks the vault. None: no rotation; a refresh follows `cache_ttl`.
    """
    tracks_volumes: bool = False
    """Whether `Fetcher.release` is called when a volume is removed. Otherwise nothing is cached
    for volumes."""
    list_revalidation: bool = True
    """Whether a refresh may revalidate cached content with list calls."""
    negative_cache_ttl: float = 5.0
    """How long a missing or denied object is not requested again."""
    cache_max_bytes: int = 16 * MEBIBYTE
    """The size of all cached content."""
    qps: float = 100.0
    """The maximum number of requests per second to one vault; 0: no limit.

    Key Vault allows 4,000 requests in 10 s to a vault, shared by all clients. This rate and the
    burst add up to 2,500 requests in the first 10 s, and a quarter of the limit afterwards.
    """
    burst: int = 1500
    """The burst size of the rate limit: a full node of pods that share nothing, 110 x 10."""
    max_concurrency: int = 64
    """The maximum number of requests to one vault that are in flight."""
    call_timeout: float = 60.0
    """The deadline of one request, including its time in the queue and its retries. Kubelet gives
    a mount 120 s."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    """The retries of one request."""
    breaker: CircuitBreakerLimits = field(default_factory=CircuitBreakerLimits)
    """The circuit breaker of one vault."""

    def with_limits(self, limits: CallLimits) -> ResilienceSettings:
        """Return the settings with the limits of one vault."""
        tries = limits.tries
        return replace(
            self,
            qps=self.qps if limits.qps is None else limits.qps,
            burst=self.burst if limits.burst is None else limits.burst,
            call_timeout=self.call_timeout if limits.call_timeout is None else limits.call_timeout,
            retry=self.retry if tries is None else replace(self.retry, tries=tries),
        )

    @property
    def cache_limits(self) -> CacheLimits:
        """The limits of the cache: content stays while a mount or the next refresh may use it."""
        retained = self.cache_ttl if self.refresh_interval is None else 2 * self.refresh_interval
        return CacheLimits(self.cache_ttl, max(self.cache_ttl, retained), self.cache_max_bytes)


class CallLimits(Struct, frozen=True):
    """The limits of one vault; None: as for all vaults."""

    qps: float | None = None
    """The maximum number of requests per second."""
    burst: int | None = None
    """The burst size of the rate limit."""
    tries: int | None = None
    """The number of attempts of one request, including the first one."""
    call_timeout: float | None = None
    """The deadline of one request in seconds, including its time in the queue and its retries."""
