"""Metrics of the SecretSync controller."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from keyferry.errors import AccessDeniedError
from keyferry.telemetry.sync_metrics import SyncMetrics
from tests.fakes.clock import START, ManualClock

A = ("group", "shop", "a")
B = ("group", "shop", "b")
C = ("group", "bank", "c")
DENIED = AccessDeniedError("no", "")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry, clock: ManualClock) -> SyncMetrics:
    return SyncMetrics(registry, clock.wall)


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"keyferry_secretsync_{name}", labels)


def age(registry: CollectorRegistry) -> float | None:
    return value(registry, "age_seconds")


def test_attempts_are_counted_by_outcome(registry: CollectorRegistry, metrics: SyncMetrics) -> None:
    """And failures by their kind."""
    metrics.synced(A, "created", START, ages=True)
    metrics.synced(A, "unchanged", START, ages=True)
    metrics.synced(A, "unchanged", START, ages=True)
    metrics.failed(A, DENIED, None)
    assert 1 == value(registry, "total", outcome="created")
    assert 2 == value(registry, "total", outcome="unchanged")
    assert 1 == value(registry, "total", outcome="failed")
    assert 1 == value(registry, "errors_total", error_type="AccessDenied")


def test_ready_secret_syncs_are_counted_by_namespace(
    registry: CollectorRegistry, metrics: SyncMetrics
) -> None:
    """So that an alert can be sent to the team of the namespace."""
    metrics.synced(A, "created", START, ages=True)
    metrics.known(B, START, ages=True)
    metrics.failed(B, DENIED, START)
    metrics.synced(C, "created", START, ages=True)
    assert 1 == value(registry, "ready", namespace="shop", ready="true")
    assert 1 == value(registry, "ready", namespace="shop", ready="false")
    assert 1 == value(registry, "ready", namespace="bank", ready="true")
    metrics.synced(B, "updated", START, ages=True)
    assert 2 == value(registry, "ready", namespace="shop", ready="true")
    assert value(registry, "ready", namespace="shop", ready="false") is None
    for key in (A, B):
        metrics.forget(key)
    assert value(registry, "ready", namespace="shop", ready="true") is None


def test_age_is_that_of_the_secret_sync_that_waits_longest(
    registry: CollectorRegistry, metrics: SyncMetrics, clock: ManualClock
) -> None:
    """A failure does not make it younger."""
    assert 0 == age(registry)
    metrics.synced(A, "created", clock.wall(), ages=True)
    clock.now = 100
    metrics.synced(B, "created", clock.wall(), ages=True)
    assert 100 == age(registry)
    clock.now = 150
    metrics.synced(A, "unchanged", clock.wall(), ages=True)
    assert 50 == age(registry)
    metrics.failed(B, DENIED, None)
    clock.now = 200
    assert 100 == age(registry)
    metrics.forget(B)
    assert 50 == age(registry)


def test_age_without_own_intervals(
    registry: CollectorRegistry, metrics: SyncMetrics, clock: ManualClock
) -> None:
    """A SecretSync that is never refreshed is not late."""
    metrics.synced(A, "created", clock.wall(), ages=False)
    metrics.known(B, clock.wall(), ages=False)
    clock.now = 100
    assert 0 == age(registry)


def test_age_continues_after_a_restart(
    registry: CollectorRegistry, metrics: SyncMetrics, clock: ManualClock
) -> None:
    """Else the alert would be resolved by each new leader, although the vault is unavailable."""
    clock.now = 5000
    metrics.failed(A, DENIED, START)
    assert 5000 == age(registry)
    clock.now = 6000
    metrics.failed(A, DENIED, clock.wall())
    assert 6000 == age(registry)
    metrics.failed(B, DENIED, None)
    assert 6000 == age(registry)


def test_known_secret_sync_is_as_old_as_this_process(
    registry: CollectorRegistry, metrics: SyncMetrics, clock: ManualClock
) -> None:
    """Its status is not written while nothing changes, so an older time is unknown."""
    clock.now = 100
    metrics.known(A, clock.wall(), ages=True)
    clock.now = 150
    metrics.known(A, clock.wall(), ages=True)
    assert 50 == age(registry)


def test_clock_that_goes_back_is_no_negative_age(
    registry: CollectorRegistry, metrics: SyncMetrics, clock: ManualClock
) -> None:
    """As after a step of NTP."""
    clock.now = 100
    metrics.synced(A, "created", clock.wall(), ages=True)
    clock.now = 0
    assert 0 == age(registry)


def test_follower_knows_no_secret_syncs(
    registry: CollectorRegistry, metrics: SyncMetrics, clock: ManualClock
) -> None:
    """Two replicas must not count them twice."""
    metrics.leads(True)
    metrics.synced(A, "created", clock.wall(), ages=True)
    assert 1 == value(registry, "leader")
    metrics.leads(False)
    clock.now = 100
    assert (0, 0) == (value(registry, "leader"), age(registry))
    assert value(registry, "ready", namespace="shop", ready="true") is None


def test_queue_and_first_syncs_are_measured(
    registry: CollectorRegistry, metrics: SyncMetrics
) -> None:
    """The targets of the bench."""
    metrics.watch_queue(lambda: 7)
    metrics.first_synced(1.5)
    assert 7 == value(registry, "queue_length")
    assert 0 == value(registry, "first_sync_seconds_bucket", le="1.0")
    assert 1 == value(registry, "first_sync_seconds_bucket", le="2.0")
    assert 1.5 == value(registry, "first_sync_seconds_sum")


def test_objects_that_expire_are_counted_by_namespace(
    registry: CollectorRegistry, metrics: SyncMetrics
) -> None:
    """At the time of the scrape; those of a SecretSync that is forgotten do not count."""
    name = "objects_near_expiry"
    now = START.timestamp()
    metrics.watch_expiries(A, lambda at: ["soon", "expired"] if at == now else [])
    metrics.watch_expiries(B, lambda _: ["soon"])
    assert 2 == value(registry, name, namespace="shop", state="soon")
    assert 1 == value(registry, name, namespace="shop", state="expired")
    metrics.watch_expiries(A, lambda _: [])
    assert value(registry, name, namespace="shop", state="expired") is None
    metrics.forget(B)
    assert value(registry, name, namespace="shop", state="soon") is None
    metrics.watch_expiries(C, lambda _: ["soon"])
    metrics.leads(False)
    assert value(registry, name, namespace="bank", state="soon") is None
