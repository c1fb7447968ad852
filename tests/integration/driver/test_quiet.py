"""What a healthy driver logs: no warning, no error, and nothing that repeats."""

from __future__ import annotations

from collections.abc import AsyncIterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from keyferry.driver.secrets.controller import RESYNC_SECONDS
from keyferry.errors import VaultError
from keyferry.telemetry.logs import configure_logs
from tests.fakes.driver import NAMESPACE
from tests.fakes.kube_api import KubeApiServer, running_api
from tests.fakes.kube_node import Node, running_node, scripted_class, secret_object, wait_until

ROTATION_SECONDS = 60.0
WATCHES = 4
"""SecretProviderClasses, pods, pod statuses, and the Secrets of one namespace."""


@pytest.fixture
async def api(mount_home: Path) -> AsyncIterator[KubeApiServer]:
    """An API with a class `web` that makes Secret `db` of file `a`."""
    async with running_api(mount_home) as running:
        running.put("secretproviderclasses", scripted_class("web", secret_object("db", "a")))
        yield running


@pytest.fixture
async def node(mount_home: Path, api: KubeApiServer) -> AsyncIterator[Node]:
    async with running_node(mount_home, api, rotation_interval=ROTATION_SECONDS) as running:
        yield running


def problems(node: Node) -> list[str]:
    """Return the warnings and errors of the log."""
    return [line for line in node.driver.log.getvalue().splitlines() if line[:1] in "WE"]


async def test_healthy_driver_logs_no_warning_and_no_error(node: Node, api: KubeApiServer) -> None:
    """First Secret of a namespace, a refresh, an edit that is reverted, and the last unpublish."""
    node.schedule("web-0", "web")
    await node.publish("web")
    await wait_until(lambda: "watch secrets" in api.requests, "the watch of Secrets")
    node.provider.serves({"a": "2"}, version="v2")
    node.driver.clock.now += 120
    await node.publish("web")
    edit: dict[str, Any] = {"data": {"value": "aGFuZA=="}}
    api.objects.merge(("secrets", NAMESPACE, "db"), edit, "kubectl-edit")
    await wait_until(lambda: node.secret_values("db") == {"value": "2"}, "the edit to be reverted")
    await node.delete_pod("web-0", "web")
    await wait_until(lambda: node.secret("db") is None, "the Secret to be deleted")
    assert [] == problems(node)


async def test_idle_driver_logs_nothing(node: Node, api: KubeApiServer) -> None:
    """Twenty rotations without a change; every watch ends, resumes, and expires."""
    for pod in ("web-0", "web-1", "web-2"):
        node.schedule(pod, "web")
        await node.publish("web", pod)
    await wait_until(lambda: "watch secrets" in api.requests, "the watch of Secrets")
    log = StringIO()
    configure_logs(as_json=False, verbosity=0, stream=log)
    for round_number in range(20):
        calls = len(node.provider.calls)
        await node.driver.clock.advance(ROTATION_SECONDS)
        await node.provider.wait_for_calls(calls + 3)
        await node.provider.wait_idle()
        await node.publish("web")
        if round_number % 5 == 0:
            api.requests.clear()
            api.objects.compact()
            api.end_streams()
            await wait_until(
                lambda: sum(each.startswith("watch ") for each in api.requests) >= WATCHES,
                "the watches",
            )
    assert "" == log.getvalue()


async def test_refresh_of_the_timer_is_logged_with_its_pod(node: Node) -> None:
    """A failure, without a call of kubelet."""
    node.schedule("web-0", "web")
    await node.publish("web")
    node.provider.fails(VaultError("no answer"))
    await node.driver.clock.advance(2 * ROTATION_SECONDS)
    await wait_until(lambda: "refresh failed" in node.driver.log.getvalue(), "the refresh")
    about = f'pod="shop/web-0" spc="shop/web" targetPath="{node.target("web-0")}"'
    assert all(about in line for line in problems(node))
    assert problems(node)


async def test_watch_that_a_publish_starts_is_logged_without_its_pod(
    node: Node, api: KubeApiServer
) -> None:
    """It outlives the pod."""
    node.schedule("web-0", "web")
    await node.publish("web")
    await wait_until(lambda: "Secrets of shop" in node.driver.log.getvalue(), "the watch")
    lines = node.driver.log.getvalue().splitlines()
    (line,) = [line for line in lines if "Secrets of shop" in line]
    assert "pod=" not in line
    assert "volumeId=" not in line


async def test_empty_list_of_secrets_is_followed_by_a_watch(node: Node, api: KubeApiServer) -> None:
    """The Kubernetes API answers `"items": null` for an empty list of metadata.

    There are two lists: of the managed Secrets, which is empty, and of the Secret of somebody else
    that is in the way.
    """
    foreign = {"metadata": {"name": "db", "namespace": NAMESPACE}, "type": "Opaque", "data": {}}
    api.put("secrets", foreign)
    api.streams_lists = False
    node.schedule("web-0", "web")
    await node.publish("web")
    await wait_until(lambda: api.requests.count("list secrets") == 2, "the lists of Secrets")
    await wait_until(lambda: api.requests.count("watch secrets") >= 2, "the watches of Secrets")
    assert 2 == api.requests.count("list secrets")
    assert not any("reflector]" in line for line in problems(node))


async def test_resync_does_not_read_secrets_that_the_watch_shows_unchanged(
    node: Node, api: KubeApiServer
) -> None:
    """A node may have hundreds, and a cluster thousands of nodes."""
    node.schedule("web-0", "web")
    await node.publish("web")
    cluster = node.store.cluster
    await wait_until(
        lambda: cluster.secret_resource_version(NAMESPACE, "db") is not None, "the watch"
    )
    await node.settle()
    api.requests.clear()
    await node.driver.clock.advance(RESYNC_SECONDS + 1)
    await node.settle()
    assert [] == [request for request in api.requests if request.endswith(" secrets")]
