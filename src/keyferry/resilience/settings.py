"""What the economy of vault calls can be told by flags. [pure]"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from keyferry.resilience.circuit_breaker import CircuitBreakerLimits
from keyferry.resilience.response_cache import CacheLimits
from keyferry.resilience.retry import RetryPolicy

if TYPE_CHECKING:
    from keyferry.resilience.call_limits import CallLimits

MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class ResilienceSettings:
    """The economy of one process. All times in seconds."""

    cache_ttl: float = 15.0
    """A first mount takes an answer that another pod of the same identity got so long ago."""
    refresh_interval: float | None = None
    """Each identity has a tick once in it, and a refresh takes what was got since (`ticks`).

    0: a refresh always asks; None without rotation: a refresh takes what a first mount takes.
    """
    tracks_volumes: bool = False
    """Whether it is told when a volume is gone, so that what it used need not be held."""
    list_revalidation: bool = True
    """Whether a refresh may ask for a proof that nothing has changed, where that is cheaper."""
    negative_cache_ttl: float = 5.0
    """So long it is remembered that an object is not there, or not for this identity."""
    cache_max_bytes: int = 16 * MEBIBYTE
    """All answers that are held together."""
    qps: float = 100.0
    """Requests a second to one vault; 0: no limit.

    Key Vault allows 4,000 in 10 s to a vault, to all its callers together (its page "service
    limits"). This rate and the burst are 2,500 in the first 10 s and a quarter of the limit after.
    """
    burst: int = 1500
    """So many at once after a quiet time: a full node of pods that share nothing, 110 x 10."""
    max_concurrency: int = 64
    """So many requests to one vault are under way at the same time."""
    call_timeout: float = 60.0
    """For one request with its turns and tries; kubelet gives a mount 120."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    """How often and how patiently one request is tried."""
    breaker: CircuitBreakerLimits = field(default_factory=CircuitBreakerLimits)
    """When a vault that fails is left alone."""

    def with_limits(self, limits: CallLimits) -> ResilienceSettings:
        """The same with other limits to the calls."""
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
        """How long answers are held: as long as a first mount or the next refresh may take them."""
        used = self.cache_ttl if self.refresh_interval is None else 2 * self.refresh_interval
        return CacheLimits(self.cache_ttl, max(self.cache_ttl, used), self.cache_max_bytes)
