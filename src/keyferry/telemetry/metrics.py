"""The metrics, under the names and labels of the upstream driver (driver.md, section 6.3)."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from keyferry.errors import InternalError, KeyferryError
from keyferry.telemetry.secret_metrics import SecretMetrics
from keyferry.telemetry.volume_metrics import VolumeMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


@dataclass(slots=True)
class PublishLabels:
    """What a publish learns on its way and its metrics want as labels."""

    provider: str = ""


class Metrics:
    """All series of one process, in a registry of its own."""

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
            "Refreshes that failed; the volume keeps what it had",
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
            "Objects in mounted volumes that have expired or soon will, of classes with a warning",
            [*provider, "state"],
            registry=registry,
        )
        self._tls_verification_disabled = Gauge(
            "keyferry_unverified_vault",
            "1 for each vault whose TLS certificate was not verified, as its class asks",
            ["os_type", "vault"],
            registry=registry,
        )
        self._registered = Gauge(
            "keyferry_registered",
            "1 while kubelet knows this driver",
            ["os_type"],
            registry=registry,
        )

    @contextmanager
    def publish(self) -> Iterator[PublishLabels]:
        """Counts one publish call.

        `error_type` is the reason of the error that leaves the block.
        """
        observed = PublishLabels()
        try:
            yield observed
        except Exception as error:
            self._publish_error.labels(OS_TYPE, observed.provider, reason_of(error)).inc()
            raise
        self._publish.labels(OS_TYPE, observed.provider).inc()

    @contextmanager
    def unpublish(self) -> Iterator[None]:
        """Counts one unpublish call."""
        try:
            yield
        except Exception:
            self._unpublish_error.labels(OS_TYPE).inc()
            raise
        self._unpublish.labels(OS_TYPE).inc()

    def refreshed(self, provider: str, *, rotated: bool, seconds: float) -> None:
        """A mounted volume was refreshed; `rotated` says whether its content changed."""
        self._rotation.labels(OS_TYPE, provider, str(rotated).lower()).inc()
        self._rotation_seconds.labels(OS_TYPE).observe(seconds)

    def refresh_failed(self, provider: str, error: KeyferryError) -> None:
        """A refresh failed and the old content stayed, which kubelet is told is fine."""
        self._publish_error.labels(OS_TYPE, provider, error.reason).inc()
        self._rotation_error.labels(OS_TYPE, provider, error.reason, "true").inc()

    def watch_near_expiry(self, provider: str, state: str, count: Callable[[], float]) -> None:
        """`count` tells, whenever it is asked, how many objects are in `state`."""
        self._near_expiry.labels(OS_TYPE, provider, state).set_function(count)

    def tls_verification_disabled(self, vault: str) -> None:
        """The certificate of this vault, a host, is not verified."""
        self._tls_verification_disabled.labels(OS_TYPE, vault).set(1)

    def registered(self, is_registered: bool) -> None:
        """Kubelet took this driver, or did not."""
        self._registered.labels(OS_TYPE).set(is_registered)

    def exposition(self) -> bytes:
        """Everything in the Prometheus text format."""
        return generate_latest(self.registry)


def reason_of(error: BaseException) -> str:
    """The `error_type` label for `error`."""
    return error.reason if isinstance(error, KeyferryError) else InternalError.reason
