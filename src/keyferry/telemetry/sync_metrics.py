"""Metrics of the SecretSync controller."""

from __future__ import annotations

from collections import Counter as CountBy
from typing import TYPE_CHECKING

from msgspec import Struct
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from prometheus_client import CollectorRegistry

    from keyferry.errors import KeyferryError

SyncKey = tuple[object, str, str]
"""API group, namespace and name."""

_FIRST_SYNC_BUCKETS = (0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 30, 60, 120, 300, 600, 1800)
_FAILED = "failed"


class _State(Struct):
    is_ready: bool
    synced_at: float | None
    """When it was last found right, in seconds since 1970; None for never."""
    ages: bool = True
    """Whether it is refreshed in the interval of the controller, so that its age counts."""


class SyncMetrics:
    """Counts syncs, and knows which SecretSyncs are ready.

    Args:
        registry: registry of the series.
        now: returns the time when the metrics are read.
    """

    def __init__(self, registry: CollectorRegistry, now: Callable[[], datetime]) -> None:
        self._time = now
        self._states: dict[SyncKey, _State] = {}
        self._expiries: dict[SyncKey, Callable[[float], Iterable[str]]] = {}
        self._syncs = Counter(
            "keyferry_secretsync",
            "Attempts to sync a SecretSync, by what they did to its Secret",
            ["outcome"],
            registry=registry,
        )
        self._errors = Counter(
            "keyferry_secretsync_errors",
            "Attempts to sync a SecretSync that failed",
            ["error_type"],
            registry=registry,
        )
        self._age = Gauge(
            "keyferry_secretsync_age_seconds",
            "Time since the SecretSync that waits longest was last found right; those that have an"
            " interval of their own do not count",
            registry=registry,
        )
        self._age.set_function(self._oldest)
        self._queue = Gauge(
            "keyferry_secretsync_queue_length",
            "SecretSyncs that wait for an attempt",
            registry=registry,
        )
        self._first = Histogram(
            "keyferry_secretsync_first_sync_seconds",
            "Time from the first sight of a SecretSync to its first success",
            buckets=_FIRST_SYNC_BUCKETS,
            registry=registry,
        )
        self._leader = Gauge(
            "keyferry_secretsync_leader",
            "1 if this replica is the leader, else 0",
            registry=registry,
        )
        registry.register(_NamespaceCollector(self))

    def watch_queue(self, length: Callable[[], float]) -> None:
        """Register a callable that each scrape of the metrics calls."""
        self._queue.set_function(length)

    def leads(self, is_leader: bool) -> None:
        """Note whether this replica is the leader; a follower knows nothing of SecretSyncs."""
        self._leader.set(int(is_leader))
        if not is_leader:
            self._states.clear()
            self._expiries.clear()

    def known(self, key: SyncKey, at: datetime, *, ages: bool) -> None:
        """Note that a SecretSync is ready, as an earlier process left it.

        Args:
            key: the SecretSync.
            at: the time.
            ages: whether it is refreshed in the interval of the controller.
        """
        if key not in self._states:
            self._states[key] = _State(True, at.timestamp(), ages)

    def synced(self, key: SyncKey, outcome: str, at: datetime, *, ages: bool) -> None:
        """Count a success.

        Args:
            key: the SecretSync.
            outcome: what was done to its Secret.
            at: the time.
            ages: whether it is refreshed in the interval of the controller.
        """
        self._syncs.labels(outcome).inc()
        self._states[key] = _State(True, at.timestamp(), ages)

    def failed(self, key: SyncKey, error: KeyferryError, right_until: datetime | None) -> None:
        """Count a failure.

        Args:
            key: the SecretSync.
            error: why.
            right_until: when an earlier process last found it right; None for never.
        """
        self._syncs.labels(_FAILED).inc()
        self._errors.labels(type(error).__name__.removesuffix("Error")).inc()
        synced_at = None if right_until is None else right_until.timestamp()
        state = self._states.setdefault(key, _State(False, synced_at))
        state.is_ready = False

    def watch_expiries(self, key: SyncKey, states: Callable[[float], Iterable[str]]) -> None:
        """Register a callable that each scrape of the metrics calls, instead of an earlier one.

        Args:
            key: the SecretSync.
            states: returns a state for each of its objects that expires soon or has expired, at a
                time in seconds since 1970.
        """
        self._expiries[key] = states

    def first_synced(self, seconds: float) -> None:
        """Record how long a SecretSync waited for its first success."""
        self._first.observe(seconds)

    def forget(self, key: SyncKey) -> None:
        """Forget a SecretSync that is not handled any more."""
        self._states.pop(key, None)
        self._expiries.pop(key, None)

    def ready_counts(self) -> CountBy[tuple[str, bool]]:
        """Return how many SecretSyncs of each namespace are ready, and how many are not."""
        return CountBy((key[1], state.is_ready) for key, state in self._states.items())

    def near_expiry_counts(self) -> CountBy[tuple[str, str]]:
        """Return how many objects of each namespace expire soon or have expired, by state."""
        now = self._time().timestamp()
        return CountBy(
            (key[1], state) for key, states in self._expiries.items() for state in states(now)
        )

    def _oldest(self) -> float:
        now = self._time().timestamp()
        times = [
            state.synced_at
            for state in self._states.values()
            if state.ages and state.synced_at is not None
        ]
        return max(0.0, now - min(times)) if times else 0.0


class _NamespaceCollector(Collector):
    """Counts SecretSyncs, and their objects, by namespace when the metrics are read.

    Args:
        metrics: knows them.
    """

    def __init__(self, metrics: SyncMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield SecretSyncs by readiness, and objects that expire by state."""
        family = GaugeMetricFamily(
            "keyferry_secretsync_ready",
            "SecretSyncs by whether their Secret is right",
            labels=["namespace", "ready"],
        )
        for (namespace, is_ready), count in sorted(self._metrics.ready_counts().items()):
            family.add_metric([namespace, str(is_ready).lower()], count)
        yield family
        expiring = GaugeMetricFamily(
            "keyferry_secretsync_objects_near_expiry",
            "Objects of SecretSyncs that are within their expiry warning period or expired",
            labels=["namespace", "state"],
        )
        for labels, count in sorted(self._metrics.near_expiry_counts().items()):
            expiring.add_metric(labels, count)
        yield expiring
