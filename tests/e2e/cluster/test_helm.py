"""Helm on a cluster with Keyferry: its test, and what it refuses before it changes anything."""

from __future__ import annotations

import pytest

from tests.e2e.cluster.installation import NAMESPACE, Installation
from tests.unit.chart.values import CHART

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(400)]


async def upgrade(installed: Installation, *settings: str) -> str:
    """Ask for an upgrade, which the API server checks and Helm does not carry out."""
    return await installed.helm(
        "upgrade", "keyferry", str(CHART), "--reuse-values", "--dry-run=server",
        *(f"--set={each}" for each in settings),
    )  # fmt: skip


async def test_helm_test_reports_the_driver_of_each_node(installed: Installation) -> None:
    """It runs without privileges, in the image of the driver."""
    node = (await installed.driver_pod())["spec"]["nodeName"]
    said = await installed.helm("test", "keyferry", "--logs", "--timeout=2m")
    assert "Phase:          Succeeded" in said
    assert f"{node}: ready" in said.splitlines()
    await installed.kubectl("delete", "pod", "keyferry-ready", f"--namespace={NAMESPACE}")


async def test_a_missing_namespace_is_reported_before_anything_changes(
    installed: Installation,
) -> None:
    """With the command that creates it; existing ones are accepted."""
    settings = ("syncSecret.clusterWide=false", "syncSecret.namespaces={default,nowhere}")
    with pytest.raises(AssertionError, match="kubectl create namespace nowhere") as refused:
        await upgrade(installed, *settings)
    assert "namespace default " not in str(refused.value)
    await upgrade(installed, settings[0], "syncSecret.namespaces={default}")
    made = '{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "nowhere"}}'
    path = installed.cluster.kubelet_root.parent / "more.yaml"
    path.write_text(f"extraObjects:\n  - {made}\n")
    await installed.helm(
        "upgrade", "keyferry", str(CHART), "--reuse-values", "--dry-run=server",
        *(f"--set={each}" for each in settings), f"--values={path}",
    )  # fmt: skip


async def test_a_missing_operator_is_reported_before_anything_changes(
    installed: Installation,
) -> None:
    """Helm's own message would name a kind, but no value."""
    with pytest.raises(AssertionError, match="install the Prometheus Operator first") as refused:
        await upgrade(installed, "podMonitor.enabled=true", "prometheusRule.enabled=true")
    assert "2 problems" in str(refused.value)
    assert "podMonitor.enabled: the cluster has no PodMonitor" in str(refused.value)


async def test_a_namespace_that_refuses_privileged_pods_is_reported(
    installed: Installation,
) -> None:
    """Otherwise there would be no Pod, and only the events of the DaemonSet would say why."""
    await installed.kubectl("create", "namespace", "strict")
    label = ("label", "--overwrite", "namespace", "strict")
    enforce = "pod-security.kubernetes.io/enforce"
    install = ("install", "other", str(CHART), "--namespace=strict", "--dry-run=server")
    await installed.kubectl(*label, f"{enforce}=baseline")
    with pytest.raises(AssertionError, match=f"namespace strict {enforce}=privileged"):
        await installed.helm(*install)
    await installed.kubectl(*label, f"{enforce}=privileged")
    with pytest.raises(AssertionError, match="cannot be imported into the current release"):
        await installed.helm(*install)  # the other installation has the objects of the cluster
    await installed.kubectl("delete", "namespace", "strict", "--wait=false")


async def test_objects_of_all_values_are_valid(installed: Installation) -> None:
    """For the API server."""
    await upgrade(
        installed,
        "linux.hostNetwork=false",
        "linux.dnsConfig.searches={example.com}",
        "linux.podSecurityContext.seLinuxOptions.type=spc_t",
        "linux.revisionHistoryLimit=2",
        "serviceAccount.annotations.a=b",
        "serviceAccount.labels.a=b",
        "networkPolicy.enabled=true",
        "networkPolicy.metricsFrom[0].podSelector.matchLabels.app=prometheus",
        "networkPolicy.egress[0].ports[0].port=443",
        "grafanaDashboard.enabled=true",
    )


async def test_notes_name_values_without_effect(installed: Installation) -> None:
    """As an installation prints them."""
    said = await upgrade(installed, "linux.registrar.logVerbosity=5", "windows.enabled=true")
    notes = said.partition("NOTES:")[2]
    assert "These values have no effect with Keyferry:\n* linux.registrar: Keyferry" in notes
    assert "* windows: Keyferry runs on Linux nodes only." in notes
