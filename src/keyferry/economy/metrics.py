"""What vault calls were made and spared, by vault and identity mode; never by who it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.metrics_core import Metric

    from keyferry.economy.gate import Gate
    from keyferry.economy.hub import Economy

Outcome = Literal["answered", "throttled", "failed"]
"""How one request ended."""
How = Literal["asked", "coalesced", "reused", "unchanged", "refused", "stale"]
"""How a fetch got its answer: asked the vault, joined who was asking, took what was held, took it
after the vault proved that nothing has changed, was told a refusal that is remembered; and, after
it asked or joined in vain, took what was held although it is older than it may be."""
Listed = Literal["read", "too_long", "refused", "failed"]
"""How a list ended that was to spare calls."""

MOST_VAULTS = 100
"""So many vaults have series of their own; classes can name any number."""
_OTHER = "other"


class _Counts:
    """One family of counters; its series are looked up once, not for each request."""

    def __init__(self, family: Counter) -> None:
        self._family = family
        self._series: dict[tuple[str, ...], Counter] = {}

    def add_one(self, *labels: str) -> None:
        """One more in the series with these labels; few of them are ever used."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = self._family.labels(*labels)
        series.inc()


class EconomyMetrics:
    """The series of one economy.

    Args:
        registry: of the process; None: one of its own.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._known: set[str] = set()
        self._requests = _Counts(
            Counter(
                "keyferry_vault_requests",
                "Requests made to vaults and token endpoints, each try counted",
                ["vault", "identity", "outcome"],
                registry=self.registry,
            )
        )
        self._fetches = _Counts(
            Counter(
                "keyferry_fetches",
                "Objects that mounts asked for, by how each was got",
                ["vault", "identity", "how"],
                registry=self.registry,
            )
        )
        self._lists = _Counts(
            Counter(
                "keyferry_lists",
                "Lists that were asked for to spare refreshes their calls, by how each ended",
                ["vault", "identity", "outcome"],
                registry=self.registry,
            )
        )

    def requested(self, vault: str, mode: str, outcome: Outcome) -> None:
        """One request ended."""
        self._requests.add_one(self._label(vault), mode, outcome)

    def fetched(self, vault: str, mode: str, how: How) -> None:
        """One fetch got its answer."""
        self._fetches.add_one(self._label(vault), mode, how)

    def listed(self, vault: str, mode: str, outcome: Listed) -> None:
        """One list ended."""
        self._lists.add_one(self._label(vault), mode, outcome)

    def watch(self, economy: Economy) -> None:
        """Show from now on how things stand in `economy`."""
        self.registry.register(_Standing(economy))

    def _label(self, vault: str) -> str:
        if len(self._known) < MOST_VAULTS:
            self._known.add(vault)
        return vault if vault in self._known else _OTHER


class _Standing(Collector):
    """Reads how things stand when somebody looks."""

    def __init__(self, economy: Economy) -> None:
        self._economy = economy

    def describe(self) -> Iterable[Metric]:
        """Nothing is read before somebody looks."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Each series as it stands."""
        gates = self._economy.gates()[:MOST_VAULTS]
        yield _by_vault(
            gates,
            "keyferry_vault_waiting",
            "Requests that wait for their turn",
            [float(gate.waiting) for gate in gates],
        )
        yield _by_vault(
            gates,
            "keyferry_vault_budget_left",
            "Requests that may be made at once",
            [gate.budget_left for gate in gates],
        )
        yield _by_vault(
            gates,
            "keyferry_vault_paused_seconds",
            "For how long the vault wants no request, because it throttles",
            [max(0.0, gate.paused_until - gate.clock.monotonic()) for gate in gates],
        )
        yield _by_vault(
            gates,
            "keyferry_vault_left_alone",
            "1 while the vault is not asked because it fails",
            [float(gate.is_left_alone) for gate in gates],
        )
        yield GaugeMetricFamily(
            "keyferry_held_bytes", "Answers held in memory", value=self._economy.held_bytes
        )
        age = self._economy.oldest_content_seconds
        if age is not None:
            yield GaugeMetricFamily(
                "keyferry_oldest_content_age_seconds",
                "Since the vault gave or proved the oldest content of the volumes of this node",
                value=age,
            )


def _by_vault(gates: list[Gate], name: str, text: str, values: list[float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=["vault"])
    for gate, value in zip(gates, values, strict=True):
        family.add_metric([gate.vault], value)
    return family
