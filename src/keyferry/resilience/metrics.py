"""What vault calls were made and spared, by vault and identity mode; never by who it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client.metrics_core import Metric

RequestOutcome = Literal["answered", "throttled", "failed"]
"""How one request ended."""
CacheResult = Literal["miss", "coalesced", "hit", "revalidated", "negative_hit", "stale"]
"""How a fetch got its answer: asked the vault, joined who was asking, took what was held, took it
after the vault proved that nothing has changed, was told a refusal that is remembered; and, after
it asked or joined in vain, took what was held although it is older than it may be."""
ListOutcome = Literal["read", "too_long", "refused", "failed"]
"""How a list ended that was to spare calls."""

MAX_VAULT_SERIES = 100
"""So many vaults have series of their own; classes can name any number."""
_OTHER = "other"


class _CounterFamily:
    """One family of counters; its series are looked up once, not for each request."""

    def __init__(self, family: Counter) -> None:
        self._family = family
        self._series: dict[tuple[str, ...], Counter] = {}

    def increment(self, *labels: str) -> None:
        """One more in the series with these labels; few of them are ever used."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = self._family.labels(*labels)
        series.inc()


class ResilienceMetrics:
    """The series of one economy.

    Args:
        registry: of the process; None: one of its own.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._labelled_vaults: set[str] = set()
        self._requests = _CounterFamily(
            Counter(
                "keyferry_vault_requests",
                "Requests made to vaults and token endpoints, each try counted",
                ["vault", "identity", "outcome"],
                registry=self.registry,
            )
        )
        self._object_requests = _CounterFamily(
            Counter(
                "keyferry_object_requests",
                "Objects that mounts asked for, by how each was got",
                ["vault", "identity", "result"],
                registry=self.registry,
            )
        )
        self._list_requests = _CounterFamily(
            Counter(
                "keyferry_vault_list_requests",
                "Lists that were asked for to spare refreshes their calls, by how each ended",
                ["vault", "identity", "outcome"],
                registry=self.registry,
            )
        )

    def count_request(self, vault: str, mode: str, outcome: RequestOutcome) -> None:
        """One request ended."""
        self._requests.increment(self._label(vault), mode, outcome)

    def count_object_request(self, vault: str, mode: str, result: CacheResult) -> None:
        """One fetch got its answer."""
        self._object_requests.increment(self._label(vault), mode, result)

    def count_list_request(self, vault: str, mode: str, outcome: ListOutcome) -> None:
        """One list ended."""
        self._list_requests.increment(self._label(vault), mode, outcome)

    def watch(self, fetcher: FetcherState) -> None:
        """Show from now on how things stand in `fetcher`."""
        self.registry.register(_StateCollector(fetcher))

    def _label(self, vault: str) -> str:
        if len(self._labelled_vaults) < MAX_VAULT_SERIES:
            self._labelled_vaults.add(vault)
        return vault if vault in self._labelled_vaults else _OTHER


class LimiterState(Protocol):
    """The state of one host that the gauges show."""

    @property
    def host(self) -> str:
        """The host of the vault or token endpoint."""

    @property
    def queue_depth(self) -> int:
        """The number of requests that wait for a permit."""

    @property
    def rate_limit_tokens(self) -> float:
        """The number of requests that the rate limit allows now."""

    @property
    def backoff_seconds(self) -> float:
        """Seconds until the host may be called again after it throttled."""

    @property
    def is_circuit_open(self) -> bool:
        """Whether the circuit breaker is open."""


class FetcherState(Protocol):
    """The state of a fetcher that the gauges show."""

    def limiters(self) -> Sequence[LimiterState]:
        """Return the limiters of all known vaults and token endpoints."""

    @property
    def cache_bytes(self) -> int:
        """The size of the response cache."""

    @property
    def oldest_content_age(self) -> float | None:
        """The age in seconds of the oldest entry that a volume uses."""


class _StateCollector(Collector):
    """Reads how things stand when somebody looks."""

    def __init__(self, fetcher: FetcherState) -> None:
        self._fetcher = fetcher

    def describe(self) -> Iterable[Metric]:
        """Nothing is read before somebody looks."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Each series as it stands."""
        gates = self._fetcher.limiters()[:MAX_VAULT_SERIES]
        yield _by_vault(
            gates,
            "keyferry_vault_queue_depth",
            "Requests that wait for their turn",
            [float(gate.queue_depth) for gate in gates],
        )
        yield _by_vault(
            gates,
            "keyferry_vault_rate_limit_tokens",
            "Requests that may be made at once",
            [gate.rate_limit_tokens for gate in gates],
        )
        yield _by_vault(
            gates,
            "keyferry_vault_backoff_seconds",
            "For how long the vault wants no request, because it throttles",
            [gate.backoff_seconds for gate in gates],
        )
        yield _by_vault(
            gates,
            "keyferry_vault_circuit_breaker_open",
            "1 while the vault is not asked because it fails",
            [float(gate.is_circuit_open) for gate in gates],
        )
        yield GaugeMetricFamily(
            "keyferry_cache_bytes", "Answers held in memory", value=self._fetcher.cache_bytes
        )
        age = self._fetcher.oldest_content_age
        if age is not None:
            yield GaugeMetricFamily(
                "keyferry_oldest_content_age_seconds",
                "Since the vault gave or proved the oldest content of the volumes of this node",
                value=age,
            )


def _by_vault(
    limiters: Sequence[LimiterState], name: str, text: str, values: list[float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=["vault"])
    for gate, value in zip(limiters, values, strict=True):
        family.add_metric([gate.host], value)
    return family
