"""The pod status of a volume comes beside its publish, and a crash before it does no harm.

A driver on a CSI socket over a Kubernetes API that plays by HTTP.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from keyferry.driver.volumes.mounter import TmpfsMounter
from keyferry.errors import VaultUnavailableError
from keyferry.kubernetes.cluster import Reconnected
from tests.fakes.driver import NAMESPACE
from tests.fakes.kube_api import KubeApiServer, running_api
from tests.fakes.kube_node import Node, running_node, scripted_class, secret_object, wait_until
from tests.fakes.provider import ScriptedProvider

STATUSES = "secretproviderclasspodstatuses"
WRITE = f"create {STATUSES}"


@pytest.fixture
async def api(mount_home: Path) -> AsyncIterator[KubeApiServer]:
    """With a class without Secrets, and one with."""
    async with running_api(mount_home) as running:
        running.put("secretproviderclasses", scripted_class("plain"))
        running.put("secretproviderclasses", scripted_class("web", secret_object("db", "a")))
        yield running


@pytest.fixture
async def node(mount_home: Path, api: KubeApiServer) -> AsyncIterator[Node]:
    async with running_node(mount_home, api) as running:
        yield running


def status(
    api: KubeApiServer, class_name: str = "plain", pod: str = "web-0"
) -> dict[str, Any] | None:
    """The status of the volume of a pod."""
    return api.get(STATUSES, NAMESPACE, f"{pod}-{NAMESPACE}-{class_name}")


async def known(node: Node) -> None:
    """Wait until the node has cached web-0."""
    await wait_until(
        lambda: node.store.cluster.local_pod(NAMESPACE, "web-0") is not None, "the pod"
    )


async def test_publish_returns_before_the_pod_status_is_written(
    node: Node, api: KubeApiServer
) -> None:
    """The pod only needs the files; the Kubernetes API may be slow."""
    api.writes_allowed.clear()
    target = await node.publish("plain")
    assert "1" == (target / "a").read_text()
    assert status(api) is None
    api.writes_allowed.set()
    await wait_until(lambda: status(api) is not None, "the status")
    assert [{"id": "secret/a", "version": "v1"}] == (status(api) or {})["status"]["objects"]


async def test_secret_owned_by_the_pods_owner_needs_no_pod_status(
    node: Node, api: KubeApiServer
) -> None:
    """Its ReplicaSet is known without the pod status."""
    api.forbidden.add(WRITE)
    node.schedule("web-0", "web", owner="web-5d8")
    await known(node)
    await node.publish("web")
    assert {"value": "1"} == node.secret_values("db")
    assert ["ReplicaSet web-5d8"] == node.owners("db")


async def test_secret_of_a_bare_pod_is_written_after_its_pod_status(
    node: Node, api: KubeApiServer
) -> None:
    """The pod status owns the Secret, so the publish waits for it."""
    node.schedule("web-0", "web")
    await known(node)
    await node.publish("web")
    assert [f"SecretProviderClassPodStatus web-0-{NAMESPACE}-web"] == node.owners("db")
    assert api.requests.index(WRITE) < api.requests.index("patch secrets")


async def test_rejected_pod_status_is_reported_and_written_once_allowed(
    node: Node, api: KubeApiServer
) -> None:
    """The mount succeeds, and an event is recorded on the pod."""
    api.forbidden.add(WRITE)
    target = await node.publish("plain")
    assert "1" == (target / "a").read_text()
    await wait_until(lambda: WRITE in api.requests, "the refusal")
    refused = node.driver.metric_values
    await wait_until(lambda: refused("keyferry_pod_status_errors_total") != {}, "the metric")
    (reported,) = await node.events("FailedToWritePodStatus")
    assert reported.startswith("Pod web-0: ")
    assert "create on secretproviderclasspodstatuses" in reported
    assert "pod status rejected" in node.driver.log.getvalue()
    api.forbidden.clear()
    node.driver.engine.status_writer.on_cluster_event(Reconnected())
    await wait_until(lambda: status(api) is not None, "the status")
    assert 0 == len(node.driver.engine.status_writer)


async def test_no_pod_status_is_written_for_a_removed_volume(
    node: Node, api: KubeApiServer
) -> None:
    """A pending write is discarded with the volume."""
    api.forbidden.add(WRITE)
    await node.publish("plain")
    await node.unpublish()
    api.forbidden.clear()
    asked = api.requests.count(WRITE)
    node.driver.engine.status_writer.on_cluster_event(Reconnected())
    await node.publish("plain", "web-1")
    await wait_until(lambda: api.requests.count(WRITE) > asked, "the status of the next pod")
    assert status(api) is None


@pytest.mark.parametrize("interval", [None, 120.0])
async def test_missing_pod_status_after_a_kill_is_written_by_the_next_publish(
    mount_home: Path, api: KubeApiServer, interval: float | None
) -> None:
    """With or without rotation, with one fetch."""
    async with running_node(mount_home, api, rotation_interval=interval) as node:
        await killed_before_the_status(node, api, "plain")
    provider = ScriptedProvider()
    async with running_node(mount_home, api, provider=provider, rotation_interval=interval) as node:
        await node.publish("plain")
        await wait_until(lambda: status(api) is not None, "the status")
        await node.publish("plain")
        assert 1 == len(provider.calls)


@pytest.mark.parametrize("interval", [None, 120.0])
async def test_unavailable_vault_after_a_kill_does_not_affect_a_running_pod(
    mount_home: Path, api: KubeApiServer, interval: float | None
) -> None:
    """Content is retained and its Secret made; the pod status follows when the vault recovers."""
    async with running_node(mount_home, api, rotation_interval=interval) as node:
        node.schedule("web-0", "web", owner="web-5d8")
        await known(node)
        await killed_before_the_status(node, api, "web")
        api.remove("secrets", NAMESPACE, "db")
    provider = ScriptedProvider()
    provider.fails(VaultUnavailableError("the vault is unavailable"))
    async with running_node(mount_home, api, provider=provider, rotation_interval=interval) as node:
        target = await node.publish("web")
        assert "1" == (target / "a").read_text()
        assert {"value": "1"} == node.secret_values("db")
        assert status(api, "web") is None
        provider.serves({"a": "2"})
        await node.publish("web")
        assert "2" == (target / "a").read_text()
        await wait_until(lambda: status(api, "web") is not None, "the status")
        assert {"value": "2"} == node.secret_values("db")


async def killed_before_the_status(
    node: Node, api: KubeApiServer, class_name: str, pod: str = "web-0"
) -> None:
    """Leave what a process leaves that is killed between its answer and the status."""
    await node.publish(class_name, pod)
    await wait_until(lambda: status(api, class_name, pod) is not None, "the status")
    api.remove(STATUSES, NAMESPACE, f"{pod}-{NAMESPACE}-{class_name}")


@pytest.mark.mounts
@pytest.mark.parametrize("interval", [None, 120.0])
async def test_missing_pod_status_after_a_kill_is_written_without_kubelet(
    mount_home: Path, api: KubeApiServer, interval: float | None
) -> None:
    """Without rotation kubelet does not call again; the mount table and the API show the volume."""
    pod = f"left-{interval or 0:.0f}"  # tests that run beside this one see its mounts, too
    async with running_node(
        mount_home, api, rotation_interval=interval, mounter=TmpfsMounter()
    ) as node:
        node.schedule(pod, "plain")
        await killed_before_the_status(node, api, "plain", pod)
    provider = ScriptedProvider()
    async with running_node(
        mount_home, api, provider=provider, rotation_interval=interval, mounter=TmpfsMounter()
    ) as node:
        await wait_until(lambda: status(api, pod=pod) is not None, "the status")
        assert [str(node.target(pod))] == [v.target_path for v in node.driver.engine.volumes]
        await node.publish("plain", pod)
        assert 1 == len(provider.calls)
        await node.unpublish(pod)
        assert not node.target(pod).exists()


@pytest.mark.mounts
async def test_mount_that_no_pod_defines_is_not_restored(
    mount_home: Path, api: KubeApiServer
) -> None:
    """It may belong to another driver with another API."""
    async with running_node(mount_home, api, mounter=TmpfsMounter()) as node:
        await killed_before_the_status(node, api, "plain", "alien-0")
    provider = ScriptedProvider()
    async with running_node(mount_home, api, provider=provider, mounter=TmpfsMounter()) as node:
        await wait_until(lambda: node.driver.engine.volumes.restored, "the volumes to be restored")
        assert [] == list(node.driver.engine.volumes)
        assert [] == provider.calls
        await node.unpublish("alien-0")


async def test_content_at_a_path_of_another_pod_is_fetched_again(
    mount_home: Path, api: KubeApiServer
) -> None:
    """Else a pod could get the content of another pod."""
    async with running_node(mount_home, api) as node:
        await killed_before_the_status(node, api, "plain")
    provider = ScriptedProvider()
    provider.fails(VaultUnavailableError("the vault is unavailable"))
    async with running_node(mount_home, api, provider=provider) as node:
        message = node.driver.publish_request("plain", "thief")
        message.target_path = str(node.target("web-0"))
        with pytest.raises(Exception, match="the vault is unavailable"):
            await node.driver.send_publish(message)
