"""Prometheus metrics of requests to vaults. Labels never name an identity, only its mode."""

from __future__ import annotations

from collections import Counter as Counts
from typing import TYPE_CHECKING, Literal, Protocol

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client.metrics_core import Metric

RequestOutcome = Literal["answered", "throttled", "failed"]
"""The outcome of one attempt."""
CacheResult = Literal["miss", "coalesced", "hit", "revalidated", "negative_hit", "stale"]
"""How a fetch was served:

miss          by the vault.
coalesced     by a call that was in flight.
hit           from the cache.
revalidated   from the cache, after the vault confirmed that the value is current.
negative_hit  with a cached error.
stale         from the cache with an outdated value, after the call failed. Such a fetch is also
              counted as miss or coalesced.
"""
ListOutcome = Literal["read", "too_long", "refused", "failed"]
"""The outcome of a list that is read to save other requests."""

MAX_VAULT_SERIES = 100
"""Further vaults share the label `other`; SecretProviderClasses can name any number of vaults."""
MAX_VAULT_SERIES_PER_TENANT = 20
"""Of these, the number that requests of one tenant can add."""
_OTHER = "other"


class _CounterFamily:
    """A counter with labels. Caches the series, because the lookup in the library is slow."""

    def __init__(self, family: Counter) -> None:
        self._family = family
        self._series: dict[tuple[str, ...], Counter] = {}

    def increment(self, *labels: str) -> None:
        """Add one to the series with these labels."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = self._family.labels(*labels)
        series.inc()


class ResilienceMetrics:
    """The counters of requests, and gauges for the state of a fetcher.

    Args:
        registry: where the metrics are registered; None: a new one.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._labelled_vaults: set[str] = set()
        self._added_by: Counts[str] = Counts()
        self._requests = _CounterFamily(
            Counter(
                "keyferry_vault_requests",
                "Requests to vaults and token endpoints, counting each attempt",
                ["vault", "identity", "outcome"],
                registry=self.registry,
            )
        )
        self._object_requests = _CounterFamily(
            Counter(
                "keyferry_object_requests",
                "Objects requested by mounts and refreshes, by how they were served",
                ["vault", "identity", "result"],
                registry=self.registry,
            )
        )
        self._list_requests = _CounterFamily(
            Counter(
                "keyferry_vault_list_requests",
                "List requests for change detection",
                ["vault", "identity", "outcome"],
                registry=self.registry,
            )
        )

    def count_request(
        self, vault: str, mode: str, outcome: RequestOutcome, *, tenant: str = ""
    ) -> None:
        """Count one attempt."""
        self._requests.increment(self._label(vault, tenant), mode, outcome)

    def count_object_request(
        self, vault: str, mode: str, result: CacheResult, *, tenant: str = ""
    ) -> None:
        """Count how one fetch was served."""
        self._object_requests.increment(self._label(vault, tenant), mode, result)

    def count_list_request(
        self, vault: str, mode: str, outcome: ListOutcome, *, tenant: str = ""
    ) -> None:
        """Count one list."""
        self._list_requests.increment(self._label(vault, tenant), mode, outcome)

    def watch(self, fetcher: FetcherState) -> None:
        """Export the state of `fetcher` as gauges."""
        self.registry.register(_StateCollector(fetcher))

    def _label(self, vault: str, tenant: str) -> str:
        if vault in self._labelled_vaults:
            return vault
        if len(self._labelled_vaults) == MAX_VAULT_SERIES or (
            tenant and self._added_by[tenant] == MAX_VAULT_SERIES_PER_TENANT
        ):
            return _OTHER
        self._labelled_vaults.add(vault)
        self._added_by[tenant] += 1
        return vault


class LimiterState(Protocol):
    """The state of one host that the gauges show."""

    @property
    def host(self) -> str:
        """The host of the vault or token endpoint."""

    @property
    def queue_depth(self) -> int:
        """The number of requests that wait for a permit."""

    @property
    def queue_wait_seconds(self) -> float:
        """Seconds that the request waits that has waited longest for a permit."""

    @property
    def rate_limit_tokens(self) -> float:
        """The number of requests that the rate limit allows now."""

    @property
    def backoff_seconds(self) -> float:
        """Seconds until the host may be called again after it throttled."""

    @property
    def is_circuit_open(self) -> bool:
        """Whether the circuit breakers of all tenants that use the host are open."""

    @property
    def open_circuits(self) -> int:
        """The number of tenants whose circuit breaker is open."""


class FetcherState(Protocol):
    """The state of a fetcher that the gauges show."""

    def limiters(self) -> Sequence[LimiterState]:
        """Return the limiters of all known vaults and token endpoints."""

    @property
    def cache_bytes(self) -> int:
        """The size of the response cache."""

    @property
    def cache_max_bytes(self) -> int:
        """The limit of the size of the response cache."""

    @property
    def cache_evictions(self) -> int:
        """How many responses were dropped, or not cached, because of that limit."""

    @property
    def oldest_content_age(self) -> float | None:
        """The age in seconds of the oldest entry that a volume uses."""


class _StateCollector(Collector):
    """Reads the state of a fetcher on each scrape."""

    def __init__(self, fetcher: FetcherState) -> None:
        self._fetcher = fetcher

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registration does not read the state."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Return the gauges."""
        limiters = self._fetcher.limiters()[:MAX_VAULT_SERIES]
        yield _by_vault(
            limiters,
            "keyferry_vault_queue_depth",
            "Requests that wait for the rate or concurrency limit",
            [float(limiter.queue_depth) for limiter in limiters],
        )
        yield _by_vault(
            limiters,
            "keyferry_vault_queue_wait_seconds",
            "Time that the request has waited that waits longest for the rate or concurrency limit",
            [limiter.queue_wait_seconds for limiter in limiters],
        )
        yield _by_vault(
            limiters,
            "keyferry_vault_rate_limit_tokens",
            "Requests that may be sent immediately",
            [limiter.rate_limit_tokens for limiter in limiters],
        )
        yield _by_vault(
            limiters,
            "keyferry_vault_backoff_seconds",
            "Seconds until the vault accepts requests again after throttling",
            [limiter.backoff_seconds for limiter in limiters],
        )
        yield _by_vault(
            limiters,
            "keyferry_vault_circuit_breaker_open",
            "1 while the circuit breaker is open for all tenants that use the vault",
            [float(limiter.is_circuit_open) for limiter in limiters],
        )
        yield _by_vault(
            limiters,
            "keyferry_vault_open_circuits",
            "Tenants (namespaces) whose circuit breaker for the vault is open",
            [float(limiter.open_circuits) for limiter in limiters],
        )
        yield GaugeMetricFamily(
            "keyferry_cache_bytes", "Size of cached content", value=self._fetcher.cache_bytes
        )
        yield GaugeMetricFamily(
            "keyferry_cache_max_bytes",
            "Limit of the size of cached content",
            value=self._fetcher.cache_max_bytes,
        )
        yield CounterMetricFamily(
            "keyferry_cache_evictions",
            "Objects that were dropped from the cache, or not cached, because of its limit",
            value=self._fetcher.cache_evictions,
        )
        age = self._fetcher.oldest_content_age
        if age is not None:
            yield GaugeMetricFamily(
                "keyferry_oldest_content_age_seconds",
                "Seconds since a vault returned or revalidated the oldest content in a volume",
                value=age,
            )


def _by_vault(
    limiters: Sequence[LimiterState], name: str, text: str, values: list[float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=["vault"])
    for limiter, value in zip(limiters, values, strict=True):
        family.add_metric([limiter.host], value)
    return family
