"""Metrics: names and labels that the dashboards of upstream know.

Source: docs/reference/upstream-driver.md#metrics
"""

from __future__ import annotations

import pytest

from keyferry.errors import ClassNotFoundError, VaultError
from keyferry.telemetry.metrics import Metrics, reason_of


def lines(metrics: Metrics) -> list[str]:
    """The exposition without comments and without what the process itself shows."""
    text = metrics.exposition().decode().splitlines()
    return [line for line in text if not line.startswith(("#", "process_"))]


def test_series_appears_with_its_first_value() -> None:
    """As upstream's; until then a metric is only described."""
    assert [] == lines(Metrics())


def test_publish_is_counted_by_provider() -> None:
    """The provider is known once the class was read."""
    metrics = Metrics()
    with metrics.publish() as observed:
        observed.provider = "azure"
    assert ['node_publish_total{os_type="linux",provider="azure"} 1.0'] == lines(metrics)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ClassNotFoundError("x"), "SecretProviderClassNotFound"),
        (VaultError("x"), "GRPCProviderError"),
        (ZeroDivisionError(), "FailedToMount"),
    ],
)
def test_failed_publish_is_counted_by_reason(error: Exception, reason: str) -> None:
    """Also an internal error; the error is raised again."""
    metrics = Metrics()
    with pytest.raises(type(error)), metrics.publish():
        raise error
    labels = f'{{error_type="{reason}",os_type="linux",provider=""}}'
    names = ("node_publish_error_total", "keyferry_mount_errors_total")
    assert [f"{name}{labels} 1.0" for name in names] == lines(metrics)
    assert reason == reason_of(error)


def test_failed_refresh_is_no_failed_mount() -> None:
    """Upstream counts it as both; the alert about mounts needs a counter of its own."""
    metrics = Metrics()
    metrics.refresh_failed("azure", VaultError("x"))
    names = {line.partition("{")[0] for line in lines(metrics)}
    assert {"node_publish_error_total", "rotation_reconcile_error_total"} == names


def test_unpublish_is_counted_without_provider() -> None:
    """Failures have their own counter."""
    metrics = Metrics()
    with metrics.unpublish():
        pass
    with pytest.raises(VaultError), metrics.unpublish():
        raise VaultError("x")
    assert [
        'node_unpublish_total{os_type="linux"} 1.0',
        'node_unpublish_error_total{os_type="linux"} 1.0',
    ] == lines(metrics)


def test_refreshes_are_counted_and_timed() -> None:
    """Whether the content changed is a label; the buckets are upstream's."""
    metrics = Metrics()
    metrics.refreshed("azure", rotated=True, seconds=0.2)
    metrics.refreshed("azure", rotated=False, seconds=0.2)
    shown = lines(metrics)
    for rotated in ("true", "false"):
        labels = f'os_type="linux",provider="azure",rotated="{rotated}"'
        assert f"rotation_reconcile_total{{{labels}}} 1.0" in shown
    bounds = [
        line.split('le="')[1].split('"')[0]
        for line in shown
        if line.startswith("rotation_reconcile_duration_sec_bucket")
    ]
    upstream = "0.1 0.1349 0.1821 0.2456 0.3314 0.4472 0.6034 0.8142 1.0986 1.4823 2.0 +Inf"
    assert upstream.split() == bounds
    assert 'rotation_reconcile_duration_sec_count{os_type="linux"} 2.0' in shown


def test_failed_refresh_counts_as_publish_and_rotation_error() -> None:
    """As upstream: the publish call failed, though kubelet gets a success."""
    metrics = Metrics()
    metrics.refresh_failed("azure", VaultError("x"))
    labels = 'error_type="GRPCProviderError",os_type="linux",provider="azure"'
    assert [
        f"node_publish_error_total{{{labels}}} 1.0",
        f'rotation_reconcile_error_total{{{labels},rotated="true"}} 1.0',
    ] == lines(metrics)


def test_synced_secrets_are_counted() -> None:
    """Upstream declares this metric and never counts it."""
    metrics = Metrics()
    with metrics.secrets.timed_sync("azure"):
        pass
    shown = metrics.exposition().decode()
    assert 'sync_k8s_secret_total{os_type="linux",provider="azure"} 1.0' in shown
    assert 'k8s_secret_duration_sec_count{os_type="linux"} 1.0' in shown


def test_failed_secret_sync_counts_only_as_an_error() -> None:
    """By the type of the error."""
    metrics = Metrics()
    with pytest.raises(VaultError), metrics.secrets.timed_sync("azure"):
        raise VaultError("x")
    metrics.secrets.sync_failed(VaultError("x"))
    shown = metrics.exposition().decode()
    assert "sync_k8s_secret_total{" not in shown
    assert 'keyferry_secret_errors_total{error_type="Vault",os_type="linux"} 1.0' in shown


def test_two_drivers_in_one_process_have_separate_metrics() -> None:
    """Each has its own registry."""
    first, second = Metrics(), Metrics()
    first.refresh_failed("azure", VaultError("x"))
    assert [] == lines(second)
