"""The metrics of what volumes hold: which versions, and how old."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client import CollectorRegistry

    from keyferry.errors import KeyferryError

MAX_SERIES = 1000
"""So many versions of objects have a series of their own."""


class VolumeMetrics:
    """What is told of the volumes of a node.

    Args:
        registry: where the series go.
        os_type: the label of upstream.
    """

    def __init__(self, registry: CollectorRegistry, *, os_type: str) -> None:
        self._registry = registry
        self._os_type = os_type
        self._rotated = Counter(
            "keyferry_object_rotations",
            "Objects whose version changed in a mounted volume",
            ["os_type", "provider"],
            registry=registry,
        )
        self._pod_status_errors = Counter(
            "keyferry_pod_status_errors",
            "Times that a pod status was refused by the Kubernetes API",
            ["os_type", "error_type"],
            registry=registry,
        )
        self._oldest = Gauge(
            "keyferry_oldest_refresh_age_seconds",
            "Age of the content that was fetched longest ago",
            ["os_type"],
            registry=registry,
        )

    def pod_status_failed(self, error: KeyferryError) -> None:
        """A pod status was not taken."""
        self._pod_status_errors.labels(
            self._os_type, type(error).__name__.removesuffix("Error")
        ).inc()

    def objects_rotated(self, provider: str, count: int) -> None:
        """So many objects of a mounted volume have another version."""
        if count:
            self._rotated.labels(self._os_type, provider).inc(count)

    def watch(
        self,
        *,
        oldest_content_age: Callable[[], float],
        versions: Callable[[], Mapping[tuple[str, str, str, str], int]],
    ) -> None:
        """Both are asked whenever the metrics are read.

        Args:
            oldest_content_age: age in seconds of the content that was fetched longest ago.
            versions: volumes by namespace, class, object and version.
        """
        self._oldest.labels(self._os_type).set_function(oldest_content_age)
        self._registry.register(_ObjectVersionVolumes(self._os_type, versions))


class _ObjectVersionVolumes(Collector):
    """Which versions the volumes of this node hold, read off when the metrics are."""

    def __init__(
        self, os_type: str, versions: Callable[[], Mapping[tuple[str, str, str, str], int]]
    ) -> None:
        self._os_type = os_type
        self._versions = versions

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing is counted before somebody asks."""
        yield self._family()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One series for each version, up to a limit."""
        family = self._family()
        counts = sorted(self._versions().items())
        for labels, count in counts[:MAX_SERIES]:
            family.add_metric([self._os_type, *labels], count)
        if rest := counts[MAX_SERIES:]:
            others = [self._os_type, "", "", "other", ""]
            family.add_metric(others, sum(count for _, count in rest))
        yield family

    @staticmethod
    def _family() -> GaugeMetricFamily:
        return GaugeMetricFamily(
            "keyferry_object_volumes",
            "Volumes of this node that hold a version of an object",
            labels=["os_type", "namespace", "spc", "object", "version"],
        )
