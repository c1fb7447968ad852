"""Refreshes without kubelet: a driver over an API that plays by HTTP, by a clock that is moved."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keyferry.errors import AccessDeniedError, IdentityError
from keyferry.resilience.freshness import phase_of
from tests.fakes.clock import START
from tests.fakes.driver import NAMESPACE
from tests.fakes.kube_api import KubeApiServer, running_api
from tests.fakes.kube_node import Node, running_node, scripted_class, secret_object, wait_until
from tests.fakes.provider import ScriptedProvider

CLASSES = "secretproviderclasses"
INTERVAL = 120.0
TOKENS = "csi.storage.k8s.io/serviceAccount.tokens"


@pytest.fixture
async def api(mount_home: Path) -> AsyncIterator[KubeApiServer]:
    async with running_api(mount_home) as running:
        running.put(CLASSES, scripted_class("web", secret_object("db", "a")))
        yield running


@pytest.fixture
async def node(mount_home: Path, api: KubeApiServer) -> AsyncIterator[Node]:
    """A node with rotation on, and a pod that is ready to be published."""
    async with running_node(mount_home, api, rotation_interval=INTERVAL) as running:
        running.schedule("web-0", "web")
        await wait_until(
            lambda: running.store.cluster.local_pod(NAMESPACE, "web-0") is not None, "the pod"
        )
        yield running


async def refreshed(node: Node, calls: int) -> None:
    """Let time pass, second by second, until the vault was asked so often."""
    for _ in range(int(4 * INTERVAL)):
        if len(node.provider.calls) >= calls:
            break
        await node.driver.clock.advance(1)
        while not node.driver.engine.publisher.is_idle:  # noqa: ASYNC110 - files send no notification
            await asyncio.sleep(0.001)
    await node.provider.wait_for_calls(calls)
    await node.provider.wait_idle()


def due_time(node: Node) -> float:
    """Return when the volume is first due; its provider reports no identity."""
    return INTERVAL * phase_of("node-1", str(node.target("web-0")))


async def messages_of(node: Node, reason: str) -> list[str]:
    """Waits until there are events with this reason: they come last."""
    async with asyncio.timeout(100):
        while not (events := await node.events(reason)):  # noqa: ASYNC110 - a server sends no notification
            await asyncio.sleep(0.01)
    return events


async def test_volume_is_refreshed_without_kubelet(node: Node) -> None:
    """Once per interval."""
    await node.publish("web")
    node.provider.serves({"a": "2"}, "v2")
    await refreshed(node, 2)
    assert due_time(node) <= node.driver.clock.now <= due_time(node) + 1
    await wait_until(lambda: node.secret_values("db") == {"value": "2"}, "the Secret to follow")
    assert "2" == (node.target("web-0") / "a").read_text()
    (reported,) = await messages_of(node, "MountRotationComplete")
    assert reported.endswith(
        "refreshed the objects of spc shop/web: secret/a from version v1 to v2, changed a"
    )
    assert {"provider=scripted": 1.0} == node.driver.metric_values(
        "keyferry_object_rotations_total"
    )
    held = {"namespace=shop object=secret/a spc=web version=v2": 1.0}
    assert held == node.driver.metric_values("keyferry_object_version_volumes")
    before = node.driver.clock.now
    await refreshed(node, 3)
    assert INTERVAL - 1 <= node.driver.clock.now - before <= INTERVAL + 1


async def test_tiny_interval_refreshes_at_most_once_per_second(
    mount_home: Path, api: KubeApiServer
) -> None:
    """Whatever the flag says."""
    async with running_node(mount_home, api, rotation_interval=0.001) as node:
        await node.publish("web")
        await refreshed(node, 2)
        calls, start = len(node.provider.calls), node.driver.clock.now
        await refreshed(node, calls + 3)
        assert node.driver.clock.now - start >= 2


async def test_volume_refreshed_by_kubelet_is_not_refreshed_again(node: Node) -> None:
    """Both follow one schedule."""
    await node.publish("web")
    node.driver.clock.now = due_time(node) + 0.01  # floats may round the due time to either side
    await node.publish("web")
    assert 2 == len(node.provider.calls)
    await node.driver.clock.advance(INTERVAL - 2)
    assert 2 == len(node.provider.calls)


async def test_changed_parameters_are_refreshed_at_once(node: Node, api: KubeApiServer) -> None:
    """An added object does not wait for the interval."""
    await node.publish("web")
    node.provider.serves({"a": "1", "b": "2"})
    api.put(CLASSES, scripted_class("web", secret_object("db", "b"), parameters={"x": "other"}))
    await wait_until(
        lambda: any(
            cls.parameters == {"x": "other"} for cls in node.store.cluster.classes(NAMESPACE)
        ),
        "the class",
    )
    await node.driver.clock.advance(2)
    await node.provider.wait_for_calls(2)
    await wait_until(lambda: node.secret_values("db") == {"value": "2"}, "the Secret to follow")


async def test_change_during_a_refresh_causes_another_refresh(
    node: Node, api: KubeApiServer
) -> None:
    """The refresh in flight uses the earlier parameters."""
    await node.publish("web")
    node.provider.gate.clear()
    await node.driver.clock.advance(due_time(node) + 1)
    await node.provider.wait_for_calls(2)
    node.driver.clock.now += 0.1  # the class changes after the refresh began
    api.put(CLASSES, scripted_class("web", secret_object("db", "a"), parameters={"x": "other"}))
    await wait_until(
        lambda: any(
            cls.parameters == {"x": "other"} for cls in node.store.cluster.classes(NAMESPACE)
        ),
        "the class",
    )
    await node.driver.clock.run_ready_tasks()
    node.provider.gate.set()
    await node.provider.wait_idle()
    await node.driver.clock.advance(2)
    await node.provider.wait_for_calls(3)
    assert "other" == node.provider.calls[2].attributes.get("x")


def condition(node: Node) -> dict[str, str]:
    """The condition of the pod status, {} without one."""
    status = node.api.get("secretproviderclasspodstatuses", NAMESPACE, "web-0-shop-web")
    conditions = (status or {"status": {}})["status"].get("conditions", [{}])
    found: dict[str, str] = conditions[0]
    return found


async def test_refreshed_condition_shows_the_result_of_the_last_refresh(node: Node) -> None:
    """Stage and reason of a failure, and the time of the last fetch."""
    await node.publish("web")
    node.provider.fails(AccessDeniedError("the vault does not let it read"))
    await refreshed(node, 2)
    await wait_until(lambda: condition(node).get("status") == "False", "the failure to be written")
    assert "AccessDenied" == condition(node)["reason"]
    assert "stage vault: the vault does not let it read" == condition(node)["message"]
    node.provider.serves({"a": "1"})
    await refreshed(node, 3)
    await wait_until(lambda: condition(node).get("status") == "True", "the success to be written")
    assert ("Refreshed", "") == (condition(node)["reason"], condition(node)["message"])


async def test_unchanged_refreshes_write_nothing(node: Node) -> None:
    """Not the first one either: the mount wrote the condition with the pod status."""
    await node.publish("web")
    await wait_until(lambda: condition(node).get("status") == "True", "the pod status")
    node.api.requests.clear()
    for number in range(2, 12):
        await refreshed(node, number)
    writes = [request for request in node.api.requests if request.startswith(("patch", "create"))]
    assert [] == writes


async def test_refresh_with_expired_tokens_waits_for_kubelet(node: Node) -> None:
    """This is logged once; new tokens of kubelet end it."""

    async def publish(end: str) -> None:
        message = node.driver.publish_request("web", "web-0")
        message.target_path = str(node.target("web-0"))
        tokens = {"aud": {"token": "canary", "expirationTimestamp": end}}
        message.volume_context[TOKENS] = json.dumps(tokens)
        await node.driver.send_publish(message)

    await publish(START.strftime("%Y-%m-%dT%H:%M:%SZ"))
    await node.driver.clock.advance(5 * INTERVAL)
    assert 1 == len(node.provider.calls)
    assert 1 == node.driver.log.getvalue().count("refresh postponed until kubelet sends new tokens")
    assert "canary" not in node.driver.log.getvalue()
    await publish("2040-01-01T00:00:00Z")
    assert 2 == len(node.provider.calls)
    await refreshed(node, 3)


async def test_node_publish_secret_is_read_for_each_refresh(node: Node, api: KubeApiServer) -> None:
    """Without permission, the data of kubelet's last call is used."""
    node.schedule("web-0", "web", secret_ref="creds")
    await wait_until(
        lambda: (
            (pod := node.store.cluster.local_pod(NAMESPACE, "web-0")) is not None
            and bool(pod.volumes[0].secret_ref)
        ),
        "the pod",
    )
    credentials = {
        "metadata": {"name": "creds", "namespace": NAMESPACE},
        "type": "Opaque",
        "data": {"clientid": "bmV3"},
    }
    api.put("secrets", credentials)
    message = node.driver.publish_request("web", "web-0")
    message.target_path = str(node.target("web-0"))
    message.secrets["clientid"] = "old"
    await node.driver.send_publish(message)
    api.forbidden.add("get secrets")
    await refreshed(node, 2)
    assert {"clientid": "old"} == node.provider.calls[1].secrets
    api.forbidden.clear()
    await refreshed(node, 3)
    assert {"clientid": "new"} == node.provider.calls[2].secrets


async def test_request_is_rebuilt_after_a_restart(mount_home: Path, api: KubeApiServer) -> None:
    """From the pod and its status. Missing tokens raise no alarm: only kubelet has them."""
    async with running_node(mount_home, api, rotation_interval=INTERVAL) as node:
        node.schedule("web-0", "web")
        await node.publish("web")
    fresh = ScriptedProvider()
    fresh.serves({"a": "2"}, "v2")
    async with running_node(mount_home, api, provider=fresh, rotation_interval=INTERVAL) as node:
        await wait_until(lambda: len(node.driver.engine.volumes) == 1, "the volume to be restored")
        await refreshed(node, 1)
        assert node.driver.clock.now <= INTERVAL + 1
        asked = fresh.calls[0].attributes
        assert ("web", "web-0") == (
            asked["csi.storage.k8s.io/serviceAccount.name"],
            asked["csi.storage.k8s.io/pod.name"],
        )
        await wait_until(lambda: node.secret_values("db") == {"value": "2"}, "the Secret to follow")
        (reported,) = await messages_of(node, "MountRotationComplete")
        assert "secret/a from version v1 to v2" in reported
    lost = ScriptedProvider()
    lost.fails(IdentityError("no tokens"))
    async with running_node(mount_home, api, provider=lost, rotation_interval=INTERVAL) as node:
        await wait_until(lambda: len(node.driver.engine.volumes) == 1, "the volume to be restored")
        await refreshed(node, 1)
        await node.driver.clock.run_ready_tasks()
        assert [] == await node.events("MountRotationFailed")
