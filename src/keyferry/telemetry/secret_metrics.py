"""The metrics of Kubernetes Secrets: upstream's two, which it never counts, and ours."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prometheus_client import CollectorRegistry

    from keyferry.errors import KeyferryError


class SecretMetrics:
    """What is counted of the Secrets of a node.

    Args:
        registry: where the series go.
        os_type: the label of upstream.
        buckets: of durations in seconds.
    """

    def __init__(
        self, registry: CollectorRegistry, *, os_type: str, buckets: Sequence[float]
    ) -> None:
        self._os_type = os_type
        self._synced = Counter(
            "sync_k8s_secret",
            "Kubernetes Secrets brought in step",
            ["os_type", "provider"],
            registry=registry,
        )
        self._seconds = Histogram(
            "k8s_secret_duration_sec",
            "Duration of bringing a Kubernetes Secret in step in seconds",
            ["os_type"],
            buckets=buckets,
            registry=registry,
        )
        self._errors = Counter(
            "keyferry_secret_errors",
            "Times that a Kubernetes Secret could not be brought in step",
            ["os_type", "error_type"],
            registry=registry,
        )
        self._drift = Counter(
            "keyferry_secret_drift_reverted",
            "Edits of Kubernetes Secrets by hand that were reverted",
            ["os_type"],
            registry=registry,
        )
        self._queue = Gauge(
            "keyferry_secret_queue_length",
            "Kubernetes Secrets that wait for their turn",
            ["os_type"],
            registry=registry,
        )
        self._managed = Gauge(
            "keyferry_secrets_kept",
            "Kubernetes Secrets that this node looks after",
            ["os_type"],
            registry=registry,
        )
        self._pending = Gauge(
            "keyferry_pending_writes",
            "Pod statuses and events that wait for the Kubernetes API",
            ["os_type", "kind"],
            registry=registry,
        )

    @contextmanager
    def timed_sync(self, provider: str) -> Iterator[None]:
        """Counts and times bringing one Secret in step; an error that leaves the block does not."""
        start = time.perf_counter()
        yield
        self._seconds.labels(self._os_type).observe(time.perf_counter() - start)
        self._synced.labels(self._os_type, provider).inc()

    def sync_failed(self, error: KeyferryError) -> None:
        """A Secret could not be brought in step."""
        self._errors.labels(self._os_type, type(error).__name__.removesuffix("Error")).inc()

    def drift_reverted(self) -> None:
        """An edit by hand was reverted."""
        self._drift.labels(self._os_type).inc()

    def watch(self, *, queue_length: Callable[[], float], managed: Callable[[], float]) -> None:
        """Both are asked whenever the metrics are read."""
        self._queue.labels(self._os_type).set_function(queue_length)
        self._managed.labels(self._os_type).set_function(managed)

    def watch_pending(self, kind: str, count: Callable[[], float]) -> None:
        """`count` tells how many objects of that kind wait for the API."""
        self._pending.labels(self._os_type, kind).set_function(count)
