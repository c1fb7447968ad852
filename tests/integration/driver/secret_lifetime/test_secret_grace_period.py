"""A Secret of pods without an owner, and an adopted one, are kept for a grace period."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from keyferry.driver.secrets.controller import MAX_RETRY_SECONDS
from keyferry.driver.secrets.reconciler import PERMISSION_SECONDS
from tests.fakes.clock import ManualClock
from tests.fakes.driver import NAMESPACE
from tests.fakes.kube_api import KubeApiServer
from tests.fakes.kube_node import Node, running_node, scripted_class, secret_object, wait_until
from tests.fakes.secret_lifetime import (
    CLASSES,
    GRACE,
    Start,
    changes,
    create_owner,
    end_pod,
    start_pod,
)


async def test_secret_survives_a_replaced_bare_pod(
    node: Node, api: KubeApiServer, clock: ManualClock
) -> None:
    """It is marked, owned by its SecretProviderClass meanwhile, and taken back by the next pod."""
    await start_pod(node, "web-a")
    await end_pod(node, "web-a")
    assert ["SecretProviderClass web"] == node.owners("db")
    await clock.advance(GRACE - 60)
    await start_pod(node, "web-b")
    assert ["SecretProviderClassPodStatus web-b-shop-web"] == node.owners("db")
    assert "keyferry.dev/unused-since" not in (node.secret("db") or {})["metadata"]["annotations"]
    await clock.advance(2 * GRACE)
    await node.settle()
    assert (1, 0) == (changes(api, "ADDED"), changes(api, "DELETED"))


async def test_secret_of_bare_pods_is_deleted_after_the_grace_period(
    node: Node, api: KubeApiServer, clock: ManualClock
) -> None:
    """Both ends are events on the SecretProviderClass."""
    await start_pod(node, "web-a")
    await end_pod(node, "web-a")
    (announced,) = await node.events("SecretUnused")
    assert announced == (
        "SecretProviderClass web: no pod uses secret db any more; it is deleted after 10m, unless"
        " a pod uses it again"
    )
    await clock.advance(GRACE - 1)
    await node.settle()
    assert node.secret("db") is not None
    await clock.advance(2)
    await wait_until(lambda: node.secret("db") is None, "the Secret to be deleted")
    await node.settle()
    (ended,) = await node.events("SecretDeleted")
    assert ended.endswith("deleted secret db: no pod used it in the grace period")
    assert node.store.cluster.secret_resource_version(NAMESPACE, "db") is None


async def test_grace_period_begins_when_a_slow_pod_has_terminated(
    node: Node, api: KubeApiServer, clock: ManualClock
) -> None:
    """Its terminationGracePeriodSeconds may be longer than the grace period."""
    await start_pod(node, "web-a")
    node.schedule("web-a", "web", phase="Running", terminating=True)
    await wait_until(lambda: "SecretProviderClass web" in node.owners("db"), "the mark")
    await clock.advance(3 * GRACE)
    await node.settle()
    assert node.secret("db") is not None
    await end_pod(node, "web-a")
    await clock.advance(GRACE - 1)
    await node.settle()
    assert node.secret("db") is not None
    await clock.advance(2)
    await wait_until(lambda: node.secret("db") is None, "the Secret to be deleted")


async def test_grace_period_continues_after_a_driver_restart(
    start: Start, api: KubeApiServer, clock: ManualClock
) -> None:
    """The deadline does not begin again."""
    async with start("node-1") as node:
        await start_pod(node, "web-a")
        await end_pod(node, "web-a")
        await clock.advance(GRACE - 60)
    async with start("node-1") as node:
        await wait_until(lambda: node.driver.engine.volumes.restored, "the restart")
        await node.settle()
        await clock.advance(50)
        await node.settle()
        assert node.secret("db") is not None
        await clock.advance(11)
        await wait_until(lambda: node.secret("db") is None, "the Secret to be deleted")


async def test_another_node_deletes_the_secret_of_a_lost_node(
    start: Start, api: KubeApiServer, clock: ManualClock
) -> None:
    """It has pods in the namespace, and counts the grace period itself."""
    api.put(CLASSES, scripted_class("api", secret_object("other", "a")))
    async with AsyncExitStack() as stack:
        lost = await stack.enter_async_context(start("node-1"))
        async with start("node-2") as other:
            other.schedule("api-0", "api")
            await other.publish("api", "api-0")
            await wait_until(
                lambda: other.store.cluster.secret_resource_version(NAMESPACE, "other") is not None,
                "the watch",
            )
            await start_pod(lost, "web-a")
            await end_pod(lost, "web-a")
            await wait_until(
                lambda: bool(other.driver.engine.secret_controller.unused_secrets), "the mark"
            )
            await stack.aclose()
            await clock.advance(GRACE)
            await other.settle()
            assert other.secret("db") is not None
            await clock.advance(GRACE + 60)
            await wait_until(lambda: other.secret("db") is None, "the Secret to be deleted")
            assert other.secret("other") is not None


async def test_secret_is_kept_for_pods_of_other_nodes(
    node: Node, other: Node, api: KubeApiServer, clock: ManualClock
) -> None:
    """For one that runs, and for one that waits to start."""
    await start_pod(node, "web-a")
    other.schedule("web-b", "web")
    await end_pod(node, "web-a")
    await clock.advance(2 * GRACE)
    await node.settle()
    assert node.secret("db") is not None
    await other.publish("web", "web-b")
    await clock.advance(2 * GRACE)
    await node.settle()
    assert node.secret("db") is not None
    assert ["SecretProviderClassPodStatus web-b-shop-web"] == node.owners("db")
    await end_pod(other, "web-b")
    await clock.advance(GRACE + 1)
    await wait_until(lambda: node.secret("db") is None, "the Secret to be deleted")


async def test_secret_of_a_running_pod_of_another_node_is_not_marked(
    node: Node, other: Node, api: KubeApiServer, clock: ManualClock
) -> None:
    """The other node ends it."""
    await start_pod(node, "web-a")
    await start_pod(other, "web-b")
    await node.settle()
    versions = changes(api, "MODIFIED")
    await node.unpublish("web-a")
    await node.settle()
    await clock.advance(2 * GRACE)
    await node.settle()
    assert versions == changes(api, "MODIFIED")
    assert node.secret("db") is not None


async def test_unused_secret_costs_no_list_of_the_namespace(
    node: Node, other: Node, api: KubeApiServer, clock: ManualClock
) -> None:
    """Its owners name the pods of other nodes. Pending pods count when the grace period is over."""
    lists = ("list secretproviderclasspodstatuses", "list pods")
    await start_pod(node, "web-a")
    await start_pod(other, "web-b")
    await end_pod(node, "web-a")
    await node.settle()
    await clock.advance(2 * GRACE)
    await other.settle()
    api.requests.clear()
    await end_pod(other, "web-b")
    await other.settle()
    await clock.advance(GRACE - 1)
    assert [] == [each for each in api.requests if each in lists]
    assert node.secret("db") is not None
    await clock.advance(2)
    await wait_until(lambda: node.secret("db") is None, "the Secret to be deleted")
    assert ["list pods"] == [each for each in api.requests if each in lists]


async def test_grace_period_begins_with_the_mark_of_the_last_node(
    node: Node, other: Node, api: KubeApiServer, clock: ManualClock
) -> None:
    """The first node, which had marked the Secret earlier, does not delete it too early."""
    await start_pod(node, "web-a")
    await end_pod(node, "web-a")
    await clock.advance(GRACE - 60)
    node.store.cluster.watch_secrets(frozenset())  # it misses what the other node does
    await start_pod(other, "web-b")
    await end_pod(other, "web-b")
    for place in (node, other):
        await place.settle()
    await clock.advance(GRACE - 60)
    for place in (node, other):
        await place.settle()
    assert node.secret("db") is not None
    assert 0 == changes(api, "DELETED")
    await clock.advance(61)
    await wait_until(lambda: node.secret("db") is None, "the Secret to be deleted")


async def test_unused_secret_goes_with_its_class(
    node: Node, api: KubeApiServer, clock: ManualClock
) -> None:
    """No pod can use it any more."""
    await start_pod(node, "web-a")
    await end_pod(node, "web-a")
    api.remove(CLASSES, NAMESPACE, "web")
    await wait_until(lambda: node.secret("db") is None, "the garbage collector")


async def test_unused_secret_that_its_class_drops_is_deleted_at_once(
    node: Node, api: KubeApiServer
) -> None:
    """Although no pod of any node uses the SecretProviderClass."""
    await start_pod(node, "web-a")
    await end_pod(node, "web-a")
    api.put(CLASSES, scripted_class("web", secret_object("more", "a")))
    await wait_until(lambda: node.secret("db") is None, "the Secret to be deleted")
    (ended,) = await node.events("SecretDeleted")
    assert ended.endswith("deleted secret db: its SecretProviderClass no longer lists it")


async def test_keys_of_an_adopted_secret_are_removed_after_the_grace_period(
    node: Node, api: KubeApiServer, clock: ManualClock
) -> None:
    """An adopted Secret gets no owner."""
    metadata = {"name": "db", "namespace": NAMESPACE}
    api.put("secrets", {"metadata": metadata, "type": "Opaque", "data": {"more": "YQ=="}})
    adopting = scripted_class("web", secret_object("db", "a"))
    adopting["metadata"]["annotations"] = {"keyferry.dev/adopt-secrets": "db"}
    api.put(CLASSES, adopting)
    create_owner(api, "web-1")
    for pod in ("web-a", "web-b"):
        await start_pod(node, pod, owner="web-1")
        assert {"value": "1", "more": "a"} == node.secret_values("db")
        await end_pod(node, pod, owner="web-1")
        await clock.advance(GRACE - 60)
        await node.settle()
        assert {"value": "1", "more": "a"} == node.secret_values("db")
    await clock.advance(61)
    await wait_until(lambda: node.secret_values("db") == {"more": "a"}, "the key to be removed")
    await node.settle()
    (ended,) = await node.events("SecretDeleted")
    assert ended.endswith(
        "removed the keys of Keyferry from secret db: no pod used it in the grace period"
    )
    assert (1, 0) == (changes(api, "ADDED"), changes(api, "DELETED"))


async def test_secret_of_another_client_is_replaced_once_it_is_deleted(
    node: Node, api: KubeApiServer
) -> None:
    """As the event advises. Keyferry watches it meanwhile, so this takes no retry."""
    metadata = {"name": "db", "namespace": NAMESPACE}
    api.put("secrets", {"metadata": metadata, "type": "Opaque", "data": {"value": "YQ=="}})
    await start_pod(node, "web-a")
    assert {"value": "a"} == node.secret_values("db")
    await wait_until(lambda: 2 == api.requests.count("watch secrets"), "the watch")
    await node.settle()
    api.remove("secrets", NAMESPACE, "db")
    await wait_until(lambda: node.secret_values("db") == {"value": "1"}, "the Secret")
    await node.settle()


async def test_failing_secret_is_retried_within_half_a_minute(
    mount_home: Path, api: KubeApiServer, clock: ManualClock
) -> None:
    """However long it has failed: there is no event for a raised quota."""
    assert 30.0 == MAX_RETRY_SECONDS
    api.over_quota.add("patch secrets")
    async with running_node(mount_home, api, clock=clock, driver_backoff=lambda _: 300.0) as node:
        await start_pod(node, "web-a")
        api.over_quota.clear()
        await clock.advance(MAX_RETRY_SECONDS)
        await wait_until(lambda: node.secret_values("db") == {"value": "1"}, "the Secret")


async def test_granted_permission_is_noticed_by_the_watch(
    mount_home: Path, api: KubeApiServer, clock: ManualClock
) -> None:
    """The Secrets are not retried meanwhile: all nodes of a cluster may lack the permission."""
    refused = {f"{verb} secrets" for verb in ("get", "list", "watch", "patch")}
    api.forbidden |= refused
    async with running_node(mount_home, api, clock=clock) as node:
        await start_pod(node, "web-a")
        requests = api.requests.count("get secrets")
        await clock.advance(PERMISSION_SECONDS - 1)
        await node.settle()
        assert requests == api.requests.count("get secrets")
        api.forbidden -= refused
        await wait_until(lambda: node.secret_values("db") == {"value": "1"}, "the Secret")


async def test_secret_survives_two_bare_pods_that_end_at_once(
    node: Node, other: Node, api: KubeApiServer, clock: ManualClock
) -> None:
    """Each node still sees the pod of the other when it unmounts the volume of its own."""
    places = ((node, "web-a"), (other, "web-b"))
    for place, pod in places:
        await start_pod(place, pod)
    for place, pod in places:
        place.schedule(pod, "web", phase="Running", terminating=True)
    for place, pod in places:
        await place.unpublish(pod)
    for _, pod in places:
        api.remove("pods", NAMESPACE, pod)
    for place, _ in places:
        view = place.store.cluster
        await wait_until(lambda view=view: not view.local_pod_statuses(), "the pod statuses")  # type: ignore[misc]
        await place.settle()
    assert ["SecretProviderClass web"] == node.owners("db")
    assert 0 == changes(api, "DELETED")
    await clock.advance(2 * GRACE + 61)
    await wait_until(lambda: node.secret("db") is None, "the Secret to be deleted")


async def test_secret_of_a_bare_pod_is_marked_before_its_unpublish_returns(
    node: Node, api: KubeApiServer
) -> None:
    """Kubernetes may delete the pod right afterwards, even if the driver missed its termination."""
    await start_pod(node, "web-a")
    await node.unpublish("web-a")
    assert "SecretProviderClass web" in node.owners("db")
    api.remove("pods", NAMESPACE, "web-a")
    await wait_until(lambda: not api.all_of("secretproviderclasspodstatuses"), "the pod status")
    assert node.secret("db") is not None
