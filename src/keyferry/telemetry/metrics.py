"""Metrics of the driver; upstream's series keep their names and labels.

Source: docs/reference/upstream-driver.md#metrics
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec import Struct
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from keyferry.errors import InternalError, KeyferryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


class SecretMetrics:
    """Metrics of Secret sync.

    Args:
        registry: registry of the series.
        os_type: value of upstream's `os_type` label.
        buckets: histogram buckets in seconds.
    """

    def __init__(
        self, registry: CollectorRegistry, *, os_type: str, buckets: Sequence[float]
    ) -> None:
        self._os_type = os_type
        self._synced = Counter(
            "sync_k8s_secret",
            "Kubernetes Secrets synced",
            ["os_type", "provider"],
            registry=registry,
        )
        self._seconds = Histogram(
            "k8s_secret_duration_sec",
            "Duration of a Kubernetes Secret sync in seconds",
            ["os_type"],
            buckets=buckets,
            registry=registry,
        )
        self._errors = Counter(
            "keyferry_secret_errors",
            "Kubernetes Secret syncs that failed",
            ["os_type", "error_type"],
            registry=registry,
        )
        self._drift = Counter(
            "keyferry_secret_drift_reverted",
            "Manual edits of managed Kubernetes Secrets that were reverted",
            ["os_type"],
            registry=registry,
        )
        self._queue = Gauge(
            "keyferry_secret_queue_length",
            "Kubernetes Secrets queued for reconciliation",
            ["os_type"],
            registry=registry,
        )
        self._managed = Gauge(
            "keyferry_managed_secrets",
            "Kubernetes Secrets managed by this node",
            ["os_type"],
            registry=registry,
        )
        self._pending = Gauge(
            "keyferry_pending_writes",
            "Pod statuses and events waiting to be written to the Kubernetes API",
            ["os_type", "kind"],
            registry=registry,
        )

    @contextmanager
    def timed_sync(self, provider: str) -> Iterator[None]:
        """Count and time the sync of one Secret, unless the block raises."""
        start = time.perf_counter()
        yield
        self._seconds.labels(self._os_type).observe(time.perf_counter() - start)
        self._synced.labels(self._os_type, provider).inc()

    def sync_failed(self, error: KeyferryError) -> None:
        """Count a failed Secret sync."""
        self._errors.labels(self._os_type, type(error).__name__.removesuffix("Error")).inc()

    def drift_reverted(self) -> None:
        """Count a reverted manual edit."""
        self._drift.labels(self._os_type).inc()

    def watch(self, *, queue_length: Callable[[], float], managed: Callable[[], float]) -> None:
        """Register callables that each scrape of the metrics calls."""
        self._queue.labels(self._os_type).set_function(queue_length)
        self._managed.labels(self._os_type).set_function(managed)

    def watch_pending(self, kind: str, count: Callable[[], float]) -> None:
        """Register `count`, which returns the number of pending writes of `kind`."""
        self._pending.labels(self._os_type, kind).set_function(count)


MAX_SERIES = 1000
"""Maximum number of object versions with their own series."""


class VolumeMetrics:
    """Metrics of the volumes of a node.

    Args:
        registry: registry of the series.
        os_type: value of upstream's `os_type` label.
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
        self._mount_errors = Counter(
            "keyferry_mount_errors",
            "Publish calls that failed for kubelet; failed refreshes do not count",
            ["os_type", "provider", "error_type"],
            registry=registry,
        )
        self._pod_status_errors = Counter(
            "keyferry_pod_status_errors",
            "Pod status writes that the Kubernetes API rejected",
            ["os_type", "error_type"],
            registry=registry,
        )
        self._oldest = Gauge(
            "keyferry_oldest_refresh_age_seconds",
            "Age in seconds of the oldest content of a mounted volume, since its last refresh",
            ["os_type"],
            registry=registry,
        )
        self._overdue = Gauge(
            "keyferry_overdue_volumes",
            "Volumes whose content is older than two of their refresh intervals and a minute",
            ["os_type"],
            registry=registry,
        )

    def mount_failed(self, provider: str, reason: str) -> None:
        """Count a publish call that failed for kubelet."""
        self._mount_errors.labels(self._os_type, provider, reason).inc()

    def pod_status_failed(self, error: KeyferryError) -> None:
        """Count a rejected pod status write."""
        self._pod_status_errors.labels(
            self._os_type, type(error).__name__.removesuffix("Error")
        ).inc()

    def objects_rotated(self, provider: str, count: int) -> None:
        """Count `count` objects of a volume that changed their version."""
        if count:
            self._rotated.labels(self._os_type, provider).inc(count)

    def watch(
        self,
        *,
        oldest_content_age: Callable[[], float],
        overdue: Callable[[], float],
        versions: Callable[[], Mapping[tuple[str, str, str, str], int]],
    ) -> None:
        """Register callables that each scrape of the metrics calls.

        Args:
            oldest_content_age: returns the age in seconds of the least recently refreshed content.
            overdue: returns the number of volumes whose refreshes fail or are late.
            versions: returns the number of volumes by (namespace, SecretProviderClass, object,
                version).
        """
        self._oldest.labels(self._os_type).set_function(oldest_content_age)
        self._overdue.labels(self._os_type).set_function(overdue)
        self._registry.register(_ObjectVersionVolumes(self._os_type, versions))


class _ObjectVersionVolumes(Collector):
    """Collects the number of volumes per object version at each scrape."""

    def __init__(
        self, os_type: str, versions: Callable[[], Mapping[tuple[str, str, str, str], int]]
    ) -> None:
        self._os_type = os_type
        self._versions = versions

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Return the family without samples, so that registration collects nothing."""
        yield self._family()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return one series per version; those beyond `MAX_SERIES` are summed up as `other`."""
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
            "keyferry_object_version_volumes",
            "Volumes of this node that contain this version of an object",
            labels=["os_type", "namespace", "spc", "object", "version"],
        )


OS_TYPE = "linux"
_DURATION_BUCKETS = (
    0.1,
    0.1349,
    0.1821,
    0.2456,
    0.3314,
    0.4472,
    0.6034,
    0.8142,
    1.0986,
    1.4823,
    2.0,
)


class PublishLabels(Struct):
    """Metric labels that become known during a publish."""

    provider: str = ""


class ProviderMetrics:
    """The series of the built-in providers, wherever they run.

    Args:
        registry: where they are registered; None for a registry of their own.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry or CollectorRegistry()
        self._tls_verification_disabled = Gauge(
            "keyferry_vault_tls_verification_disabled",
            "1 for each vault whose TLS certificate is not verified (SecretProviderClass or flag)",
            ["os_type", "vault"],
            registry=self.registry,
        )

    def tls_verification_disabled(self, vault: str) -> None:
        """Record that the certificate of the host `vault` is not verified."""
        self._tls_verification_disabled.labels(OS_TYPE, vault).set(1)

    def exposition(self) -> bytes:
        """Return all series in the Prometheus text format."""
        return generate_latest(self.registry)


class Metrics:
    """The series of one process, in their own registry, without those of the providers."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        provider = ["os_type", "provider"]
        failed = ["os_type", "provider", "error_type"]
        self._publish = Counter(
            "node_publish", "Volumes published, repeats included", provider, registry=registry
        )
        self._publish_error = Counter(
            "node_publish_error", "Publish calls that failed", failed, registry=registry
        )
        self._unpublish = Counter(
            "node_unpublish", "Volumes unpublished", ["os_type"], registry=registry
        )
        self._unpublish_error = Counter(
            "node_unpublish_error", "Unpublish calls that failed", ["os_type"], registry=registry
        )
        self._rotation = Counter(
            "rotation_reconcile",
            "Refreshes of mounted volumes",
            [*provider, "rotated"],
            registry=registry,
        )
        self._rotation_error = Counter(
            "rotation_reconcile_error",
            "Refreshes that failed; previous content retained",
            [*failed, "rotated"],
            registry=registry,
        )
        self._rotation_seconds = Histogram(
            "rotation_reconcile_duration_sec",
            "Duration of a refresh in seconds",
            ["os_type"],
            buckets=_DURATION_BUCKETS,
            registry=registry,
        )
        self.volumes = VolumeMetrics(registry, os_type=OS_TYPE)
        self.secrets = SecretMetrics(registry, os_type=OS_TYPE, buckets=_DURATION_BUCKETS)
        self._near_expiry = Gauge(
            "keyferry_objects_near_expiry",
            "Objects in mounted volumes that are within their expiry warning period or expired",
            [*provider, "state"],
            registry=registry,
        )
        self._child_restarts = Counter(
            "keyferry_child_restarts",
            "Child processes of the driver that ended unexpectedly or were replaced",
            ["os_type", "process"],
            registry=registry,
        )
        self._audit_write_errors = Counter(
            "keyferry_audit_write_errors",
            "Records that could not be written to the file of --audit-log",
            ["os_type"],
            registry=registry,
        )
        self._registered = Gauge(
            "keyferry_registered",
            "1 while the driver is registered with kubelet",
            ["os_type"],
            registry=registry,
        )

    @contextmanager
    def publish(self) -> Iterator[PublishLabels]:
        """Count a publish call; an error of the block sets the label `error_type`."""
        labels = PublishLabels()
        try:
            yield labels
        except Exception as error:
            self._publish_error.labels(OS_TYPE, labels.provider, reason_of(error)).inc()
            self.volumes.mount_failed(labels.provider, reason_of(error))
            raise
        self._publish.labels(OS_TYPE, labels.provider).inc()

    @contextmanager
    def unpublish(self) -> Iterator[None]:
        """Count an unpublish call."""
        try:
            yield
        except Exception:
            self._unpublish_error.labels(OS_TYPE).inc()
            raise
        self._unpublish.labels(OS_TYPE).inc()

    def refreshed(self, provider: str, *, rotated: bool, seconds: float) -> None:
        """Count a refresh of a volume; `rotated` if its content changed."""
        self._rotation.labels(OS_TYPE, provider, str(rotated).lower()).inc()
        self._rotation_seconds.labels(OS_TYPE).observe(seconds)

    def refresh_failed(self, provider: str, error: KeyferryError) -> None:
        """Count a failed refresh that retained the previous content and succeeded for kubelet."""
        self._publish_error.labels(OS_TYPE, provider, error.reason).inc()
        self._rotation_error.labels(OS_TYPE, provider, error.reason, "true").inc()

    def watch_near_expiry(self, provider: str, state: str, count: Callable[[], float]) -> None:
        """Register `count`, which returns the number of objects in `state`."""
        self._near_expiry.labels(OS_TYPE, provider, state).set_function(count)

    def child_restarted(self, process: str) -> None:
        """Count a child process that ended unexpectedly or was replaced."""
        self._child_restarts.labels(OS_TYPE, process).inc()

    def audit_records_lost(self, count: int) -> None:
        """Count records that could not be written to the audit log."""
        self._audit_write_errors.labels(OS_TYPE).inc(count)

    def registered(self, is_registered: bool) -> None:
        """Record whether kubelet registered this driver."""
        self._registered.labels(OS_TYPE).set(is_registered)

    def exposition(self) -> bytes:
        """Return all series in the Prometheus text format."""
        return generate_latest(self.registry)

    async def read(self) -> bytes:
        """Return all series, for a page that may also wait for those of another process."""
        return self.exposition()


def reason_of(error: BaseException) -> str:
    """Return the `error_type` label of `error`."""
    return error.reason if isinstance(error, KeyferryError) else InternalError.reason
