"""`rotationPollInterval` and `keyferry.dev/refresh`: an API by HTTP, and a clock that is moved."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from keyferry.errors import AccessDeniedError
from keyferry.records import replace
from tests.fakes.driver import NAMESPACE
from tests.fakes.kube_api import KubeApiServer, running_api
from tests.fakes.kube_node import Node, running_node, scripted_class, secret_object, wait_until
from tests.fakes.provider import mount_result

CLASSES = "secretproviderclasses"
STATUSES = "secretproviderclasspodstatuses"
INTERVAL = 120.0


@pytest.fixture
async def api(mount_home: Path) -> AsyncIterator[KubeApiServer]:
    async with running_api(mount_home) as running:
        yield running


@asynccontextmanager
async def node_with(
    mount_home: Path,
    api: KubeApiServer,
    *,
    rotation_interval: float | None = INTERVAL,
    parameters: dict[str, str] | None = None,
    pod_attributes: dict[str, str] | None = None,
) -> AsyncIterator[Node]:
    """Run a node with a published volume."""
    api.put(CLASSES, scripted_class("web", secret_object("db", "a"), parameters=parameters))
    async with running_node(mount_home, api, rotation_interval=rotation_interval) as node:
        node.schedule("web-0", "web")
        if pod_attributes:
            pod = api.get("pods", NAMESPACE, "web-0")
            assert pod is not None
            pod["spec"]["volumes"][0]["csi"]["volumeAttributes"] |= pod_attributes
            api.put("pods", pod)
        await wait_until(
            lambda: node.store.cluster.local_pod(NAMESPACE, "web-0") is not None, "the pod"
        )
        await node.publish("web")
        yield node


async def pass_time(node: Node, seconds: float) -> None:
    """Let time pass, second by second; what the driver does in each is done."""
    for _ in range(int(seconds)):
        await node.driver.clock.advance(1)
        await asyncio.sleep(0.002)
        while not node.driver.engine.publisher.is_idle:  # noqa: ASYNC110 - files send no notification
            await asyncio.sleep(0.001)


def annotate(api: KubeApiServer, plural: str, name: str, mark: str) -> None:
    """Change the annotation, as `kubectl annotate` does."""
    manifest = api.get(plural, NAMESPACE, name)
    assert manifest is not None
    metadata: dict[str, Any] = manifest["metadata"]
    metadata["annotations"] = {**metadata.get("annotations", {}), "keyferry.dev/refresh": mark}
    api.put(plural, manifest)


async def seen(node: Node, mark: str) -> None:
    """Wait until the driver knows the annotation."""
    cluster = node.store.cluster
    await wait_until(
        lambda: (
            any(spc.refresh_mark == mark for spc in cluster.classes(NAMESPACE))
            or any(pod.refresh_mark == mark for pod in cluster.local_pods())
        ),
        "the annotation",
    )


def answered(api: KubeApiServer) -> dict[str, str]:
    """The annotations of the only pod status."""
    (status,) = api.all_of(STATUSES)
    annotations: dict[str, str] = status["metadata"].get("annotations", {})
    return annotations


# --- rotationPollInterval -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "pod_attributes", "calls"),
    [
        ({}, {}, 5),
        ({"rotationPollInterval": "60s"}, {}, 9),
        ({"rotationPollInterval": "8m"}, {}, 2),
        ({"rotationPollInterval": "0"}, {}, 1),
        ({"rotationPollInterval": "60s"}, {"rotationPollInterval": "0"}, 1),
        ({"rotationPollInterval": "0"}, {"rotationPollInterval": "60s"}, 9),
    ],
)
async def test_a_class_and_a_pod_have_their_interval(
    mount_home: Path,
    api: KubeApiServer,
    parameters: dict[str, str],
    pod_attributes: dict[str, str],
    calls: int,
) -> None:
    """In eight minutes, with two minutes as the interval of the driver; `0` is never."""
    async with node_with(
        mount_home, api, parameters={"x": "y"} | parameters, pod_attributes=pod_attributes
    ) as node:
        await pass_time(node, 8 * 60)
        assert calls == len(node.provider.calls)


async def test_an_interval_does_not_switch_rotation_on(
    mount_home: Path, api: KubeApiServer
) -> None:
    """The administrator decides whether volumes are refreshed at all."""
    parameters = {"rotationPollInterval": "10s"}
    async with node_with(mount_home, api, rotation_interval=None, parameters=parameters) as node:
        await pass_time(node, 60)
        assert 1 == len(node.provider.calls)


async def test_calls_of_kubelet_follow_the_interval(mount_home: Path, api: KubeApiServer) -> None:
    """Also `0`: such a volume stays as it was mounted."""
    async with node_with(mount_home, api, parameters={"rotationPollInterval": "0"}) as node:
        for _ in range(5):
            await pass_time(node, INTERVAL)
            await node.publish("web")
        assert 1 == len(node.provider.calls)


async def test_an_edit_of_the_interval_fetches_nothing(
    mount_home: Path, api: KubeApiServer
) -> None:
    """It takes effect at once, without a refresh."""
    async with node_with(mount_home, api, parameters={"rotationPollInterval": "8m"}) as node:
        api.put(
            CLASSES,
            scripted_class(
                "web", secret_object("db", "a"), parameters={"rotationPollInterval": "30s"}
            ),
        )
        await wait_until(
            lambda: any(
                spc.parameters == {"rotationPollInterval": "30s"}
                for spc in node.store.cluster.classes(NAMESPACE)
            ),
            "the edit",
        )
        await pass_time(node, 2)
        assert len(node.provider.calls) <= 2
        await pass_time(node, 240)
        assert 8 <= len(node.provider.calls) <= 10


# --- keyferry.dev/refresh -------------------------------------------------------------------------


@pytest.mark.parametrize("interval", [INTERVAL, None])
@pytest.mark.parametrize(
    ("plural", "name", "answer"),
    [
        (CLASSES, "web", "keyferry.dev/refreshed-for-class"),
        ("pods", "web-0", "keyferry.dev/refreshed-for-pod"),
    ],
)
async def test_an_annotation_refreshes(
    mount_home: Path,
    api: KubeApiServer,
    plural: str,
    name: str,
    answer: str,
    interval: float | None,
) -> None:
    """Within seconds, once, also with rotation off and for a volume that is never refreshed."""
    async with node_with(
        mount_home, api, rotation_interval=interval, parameters={"rotationPollInterval": "0"}
    ) as node:
        node.provider.serves({"a": "2"}, "v2")
        before = node.driver.clock.now
        annotate(api, plural, name, "now")
        await seen(node, "now")
        await pass_time(node, 5)
        assert 2 == len(node.provider.calls)
        call = node.provider.calls[-1]
        assert call.not_before is not None
        assert call.not_before >= before
        assert "2" == (node.target("web-0") / "a").read_text()
        await wait_until(lambda: answered(api) == {answer: "now"}, "the answer")
        (event,) = await node.events("RefreshRequested")
        assert ": refreshing volumes, because" in event
        await pass_time(node, 300)
        assert 2 == len(node.provider.calls)


async def test_a_failed_request_is_repeated(mount_home: Path, api: KubeApiServer) -> None:
    """After a minute; the answer comes with the success."""
    async with node_with(mount_home, api, rotation_interval=None) as node:
        node.provider.fails(AccessDeniedError("denied"))
        annotate(api, CLASSES, "web", "1")
        await seen(node, "1")
        await pass_time(node, 5)
        assert 2 == len(node.provider.calls)
        assert {} == answered(api)
        node.provider.serves({"a": "2"}, "v2")
        await pass_time(node, 70)
        assert 3 == len(node.provider.calls)
        await wait_until(lambda: list(answered(api).values()) == ["1"], "the answer")


async def test_a_restart_neither_forgets_nor_repeats(mount_home: Path, api: KubeApiServer) -> None:
    """The pod status remembers what was answered."""
    async with node_with(mount_home, api, rotation_interval=None) as node:
        annotate(api, CLASSES, "web", "1")
        await seen(node, "1")
        await pass_time(node, 5)
        assert 2 == len(node.provider.calls)
        await wait_until(lambda: list(answered(api).values()) == ["1"], "the answer")
    async with running_node(mount_home, api, rotation_interval=None) as node:
        await seen(node, "1")
        await pass_time(node, 20)
        assert [] == node.provider.calls
    annotate(api, CLASSES, "web", "2")
    async with running_node(mount_home, api, rotation_interval=None) as node:
        await seen(node, "2")
        await pass_time(node, 20)
        assert 1 == len(node.provider.calls)


async def test_a_pod_that_was_created_with_the_annotation_is_not_refreshed(
    mount_home: Path, api: KubeApiServer
) -> None:
    """Its content is as new as the annotation."""
    async with node_with(mount_home, api, rotation_interval=None) as node:
        node.schedule("web-1", "web")
        annotate(api, "pods", "web-1", "born")
        await node.publish("web", "web-1")
        await seen(node, "born")
        calls = len(node.provider.calls)
        await pass_time(node, 20)
        assert calls == len(node.provider.calls)


async def test_a_mount_after_the_annotation_asks_for_newer_content(
    mount_home: Path, api: KubeApiServer
) -> None:
    """Its pod status answers the annotation, so shared content of before is too old."""
    async with node_with(mount_home, api, rotation_interval=None) as node:
        before = node.driver.clock.now
        annotate(api, CLASSES, "web", "1")
        await seen(node, "1")
        node.schedule("web-1", "web")
        await node.publish("web", "web-1")
        assert node.provider.calls[-1].not_before is not None
        assert node.provider.calls[-1].not_before >= before


async def test_older_content_does_not_answer(mount_home: Path, api: KubeApiServer) -> None:
    """Such as stale content, because the vault was unavailable."""
    async with node_with(mount_home, api, rotation_interval=None) as node:
        annotate(api, CLASSES, "web", "1")
        await seen(node, "1")
        node.schedule("web-1", "web")
        node.provider.returns(replace(mount_result({"a": "1"}), oldest_content_age=30.0))
        await node.publish("web", "web-1")
        node.provider.serves({"a": "2"}, "v2")
        await pass_time(node, 5)
        assert "2" == (node.target("web-1") / "a").read_text()


async def test_one_pod_does_not_wait_for_others(mount_home: Path, api: KubeApiServer) -> None:
    """Only a SecretProviderClass concerns many pods."""
    async with node_with(mount_home, api, rotation_interval=None) as node:
        for number in range(2000):
            api.put(STATUSES, _other_status(number))
        annotate(api, "pods", "web-0", "1")
        await seen(node, "1")
        await pass_time(node, 3)
        assert 2 == len(node.provider.calls)


def _other_status(number: int) -> dict[str, Any]:
    """The pod status of a pod of another node."""
    name = f"other-{number}"
    return {
        "metadata": {"name": name, "namespace": NAMESPACE},
        "status": {"podName": name, "secretProviderClassName": "web", "objects": []},
    }
