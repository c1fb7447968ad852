"""What a healthy driver logs: no warning, no error, and nothing that repeats."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.driver import NAMESPACE
from tests.fakes.kube_api import KubeApiServer, running_api
from tests.fakes.kube_node import Node, running_node, scripted_class, secret_object, wait_until


@pytest.fixture
async def api(mount_home: Path) -> AsyncIterator[KubeApiServer]:
    """An API with a class `web` that makes Secret `db` of file `a`."""
    async with running_api(mount_home) as running:
        running.put("secretproviderclasses", scripted_class("web", secret_object("db", "a")))
        yield running


@pytest.fixture
async def node(mount_home: Path, api: KubeApiServer) -> AsyncIterator[Node]:
    async with running_node(mount_home, api, rotation_interval=60.0) as running:
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


async def test_empty_list_of_secrets_is_followed_by_one_watch(
    node: Node, api: KubeApiServer
) -> None:
    """The Kubernetes API answers `"items": null` for an empty list of metadata."""
    foreign = {"metadata": {"name": "db", "namespace": NAMESPACE}, "type": "Opaque", "data": {}}
    api.put("secrets", foreign)
    node.schedule("web-0", "web")
    await node.publish("web")
    await wait_until(lambda: "watch secrets" in api.requests, "the watch of Secrets")
    assert 1 == api.requests.count("list secrets")
    assert not any("reflector]" in line for line in problems(node))


async def test_list_is_fetched_in_pages_and_again_when_a_page_expires(
    node: Node, api: KubeApiServer
) -> None:
    """As client-go, the second time without pages."""
    api.max_page = 2
    for number in range(5):
        api.put("secretproviderclasses", scripted_class(f"more-{number}"))
    api.requests.clear()
    api.objects.compact()
    api.break_streams()
    names = {f"more-{number}" for number in range(5)} | {"web"}
    cluster = node.store.cluster
    await wait_until(lambda: {spc.name for spc in cluster.classes(NAMESPACE)} == names, "all pages")
    assert 3 == api.requests.count("list secretproviderclasses")
    api.requests.clear()
    api.pages_expire = True
    api.put("secretproviderclasses", scripted_class("last"))
    api.objects.compact()
    api.break_streams()
    names.add("last")
    await wait_until(
        lambda: {spc.name for spc in cluster.classes(NAMESPACE)} == names, "the full list"
    )
    assert 3 == api.requests.count("list secretproviderclasses")
