"""How long a Secret exists: real drivers, an emulated API and its garbage collector.

Each test watches the Secret `db` and fails if it is deleted when it must not be.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import pytest

from keyferry.driver.secrets.controller import MAX_RETRY_SECONDS
from tests.fakes.clock import ManualClock
from tests.fakes.driver import NAMESPACE
from tests.fakes.kube_api import KubeApiServer, running_api
from tests.fakes.kube_gc import collecting_garbage
from tests.fakes.kube_node import Node, running_node, scripted_class, secret_object, wait_until

CLASSES = "secretproviderclasses"
GRACE = 600.0

Advance = Callable[[float], Awaitable[None]]


@pytest.fixture
async def api(mount_home: Path) -> AsyncIterator[KubeApiServer]:
    async with running_api(mount_home) as running, collecting_garbage(running):
        running.put(CLASSES, scripted_class("web", secret_object("db", "a")))
        yield running


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def start(
    mount_home: Path, api: KubeApiServer, clock: ManualClock
) -> Callable[[str], AbstractAsyncContextManager[Node]]:
    """Start a node, or its driver again."""

    def run(name: str) -> AbstractAsyncContextManager[Node]:
        home = mount_home / name
        home.mkdir(exist_ok=True)
        return running_node(home, api, name, secret_grace_period=GRACE, clock=clock)

    return run


Start = Callable[[str], AbstractAsyncContextManager[Node]]


@pytest.fixture
async def node(start: Start) -> AsyncIterator[Node]:
    async with start("node-1") as running:
        yield running


@pytest.fixture
async def other(start: Start, node: Node) -> AsyncIterator[Node]:
    async with start("node-2") as running:
        yield running


def create_owner(api: KubeApiServer, name: str) -> None:
    """Create a ReplicaSet."""
    metadata = {"name": name, "namespace": NAMESPACE, "uid": f"uid-of-{name}"}
    api.put("replicasets", {"metadata": metadata})


def changes(api: KubeApiServer, kind: str, name: str = "db") -> int:
    """Return the number of watch events of a Secret, such as DELETED."""
    return sum(
        1
        for _, event, key, _, _ in api.objects.history
        if event == kind and key == ("secrets", NAMESPACE, name)
    )


async def start_pod(node: Node, pod: str, *, owner: str = "") -> None:
    node.schedule(pod, "web", owner=owner)
    await node.publish("web", pod)


async def end_pod(node: Node, pod: str, *, owner: str = "") -> None:
    """End a pod as kubelet does: its volume is unmounted before it is deleted."""
    node.schedule(pod, "web", owner=owner, phase="Running", terminating=True)
    await wait_until(
        lambda: getattr(node.store.cluster.local_pod(NAMESPACE, pod), "terminating", False),
        "the pod to terminate",
    )
    await node.unpublish(pod)
    node.api.remove("pods", NAMESPACE, pod)
    await wait_until(
        lambda: not [s for s in node.store.cluster.local_pod_statuses() if s.pod.name == pod],
        "the pod status to be collected",
    )
    await node.settle()


async def test_secret_survives_a_replaced_pod_of_a_stateful_set(
    node: Node, api: KubeApiServer
) -> None:
    """The only pod ends before the next one starts."""
    create_owner(api, "db")
    await start_pod(node, "db-0", owner="db")
    await end_pod(node, "db-0", owner="db")
    await start_pod(node, "db-0", owner="db")
    assert (1, 0) == (changes(api, "ADDED"), changes(api, "DELETED"))


async def test_secret_survives_a_recreate_rollout(node: Node, api: KubeApiServer) -> None:
    """The new ReplicaSet becomes an owner; the old one may be deleted then."""
    create_owner(api, "web-1")
    await start_pod(node, "web-a", owner="web-1")
    await end_pod(node, "web-a", owner="web-1")
    create_owner(api, "web-2")
    await start_pod(node, "web-b", owner="web-2")
    api.remove("replicasets", NAMESPACE, "web-1")
    await wait_until(lambda: node.owners("db") == ["ReplicaSet web-2"], "the old owner to go")
    assert (1, 0) == (changes(api, "ADDED"), changes(api, "DELETED"))


async def test_secret_survives_scale_to_zero_as_long_as_its_owner(
    node: Node, api: KubeApiServer, clock: ManualClock
) -> None:
    """Like upstream. Kubernetes deletes it with the ReplicaSet, even if a pod still runs."""
    create_owner(api, "web-1")
    await start_pod(node, "web-a", owner="web-1")
    await end_pod(node, "web-a", owner="web-1")
    await clock.advance(10 * GRACE)
    await node.settle()
    assert 0 == changes(api, "DELETED")
    await start_pod(node, "web-b", owner="web-1")
    assert (1, 0) == (changes(api, "ADDED"), changes(api, "DELETED"))
    await end_pod(node, "web-b", owner="web-1")
    api.remove("replicasets", NAMESPACE, "web-1")
    await wait_until(lambda: node.secret("db") is None, "the garbage collector")


async def test_secret_survives_a_node_drain(node: Node, other: Node, api: KubeApiServer) -> None:
    """The pod ends on one node before it starts on the other."""
    create_owner(api, "web-1")
    await start_pod(node, "web-a", owner="web-1")
    await end_pod(node, "web-a", owner="web-1")
    await start_pod(other, "web-b", owner="web-1")
    await node.settle()
    assert (1, 0) == (changes(api, "ADDED"), changes(api, "DELETED"))


async def test_secret_survives_a_driver_restart_without_pods(
    start: Start, api: KubeApiServer
) -> None:
    """The owner exists all the time."""
    create_owner(api, "web-1")
    async with start("node-1") as node:
        await start_pod(node, "web-a", owner="web-1")
        await end_pod(node, "web-a", owner="web-1")
    async with start("node-1") as node:
        await wait_until(lambda: node.driver.engine.volumes.restored, "the restart")
        await start_pod(node, "web-b", owner="web-1")
    assert (1, 0) == (changes(api, "ADDED"), changes(api, "DELETED"))


async def test_secret_of_a_deleted_deployment_is_not_recreated(
    node: Node, api: KubeApiServer, clock: ManualClock
) -> None:
    """The garbage collector may delete the Secret long before the pods terminate."""
    create_owner(api, "web-1")
    pods = ("web-a", "web-b", "web-c")
    for pod in pods:
        await start_pod(node, pod, owner="web-1")
    await wait_until(
        lambda: node.store.cluster.secret_resource_version(NAMESPACE, "db") is not None, "the watch"
    )
    api.requests.clear()
    api.remove("replicasets", NAMESPACE, "web-1")
    await wait_until(
        lambda: node.store.cluster.secret_resource_version(NAMESPACE, "db") is None, "the deletion"
    )
    for pod in pods:
        await clock.advance(0.4)
        await end_pod(node, pod, owner="web-1")
    await clock.advance(GRACE)
    await node.settle()
    assert (1, 1) == (changes(api, "ADDED"), changes(api, "DELETED"))
    assert 1 == api.requests.count("get secrets")
    assert [
        "SecretProviderClass web: secret db was deleted by Kubernetes with the owners of its pods"
    ] == await node.events("SecretDeleted")


async def test_secret_deleted_with_its_owners_is_one_event(
    node: Node, other: Node, api: KubeApiServer
) -> None:
    """However many nodes had pods that used it."""
    create_owner(api, "web-1")
    places = ((node, "web-a"), (other, "web-b"))
    for place, pod in places:
        await start_pod(place, pod, owner="web-1")
    api.remove("replicasets", NAMESPACE, "web-1")
    for place, pod in places:
        await wait_until(
            lambda place=place: (  # type: ignore[misc]
                place.store.cluster.secret_resource_version(NAMESPACE, "db") is None
            ),
            "the deletion",
        )
        await end_pod(place, pod, owner="web-1")
    await other.store.drain()
    assert 1 == len(await node.events("SecretDeleted"))


async def test_deleted_secret_of_a_live_deployment_is_recreated(
    node: Node, api: KubeApiServer, clock: ManualClock
) -> None:
    """One second after somebody deleted it; for a new pod, at once."""
    create_owner(api, "web-1")
    await start_pod(node, "web-a", owner="web-1")
    await wait_until(
        lambda: node.store.cluster.secret_resource_version(NAMESPACE, "db") is not None, "the watch"
    )
    api.remove("secrets", NAMESPACE, "db")
    await wait_until(
        lambda: node.store.cluster.secret_resource_version(NAMESPACE, "db") is None, "the deletion"
    )
    await node.settle()
    assert node.secret("db") is None
    await clock.advance(1.1)
    await wait_until(lambda: node.secret("db") is not None, "the Secret")
    await wait_until(
        lambda: node.store.cluster.secret_resource_version(NAMESPACE, "db") is not None, "the watch"
    )
    api.remove("secrets", NAMESPACE, "db")
    await wait_until(
        lambda: node.store.cluster.secret_resource_version(NAMESPACE, "db") is None, "the deletion"
    )
    await start_pod(node, "web-b", owner="web-1")
    assert node.secret("db") is not None


async def test_secret_goes_with_its_deployment_after_its_class(
    node: Node, api: KubeApiServer
) -> None:
    """A deleted SecretProviderClass changes nothing for running pods."""
    create_owner(api, "web-1")
    await start_pod(node, "web-a", owner="web-1")
    api.remove(CLASSES, NAMESPACE, "web")
    await wait_until(lambda: not node.store.cluster.classes(NAMESPACE), "the class to be deleted")
    await end_pod(node, "web-a", owner="web-1")
    assert 0 == changes(api, "DELETED")
    api.remove("replicasets", NAMESPACE, "web-1")
    await wait_until(lambda: node.secret("db") is None, "the garbage collector")


# --- pods without an owner: Kubernetes would delete the Secret with the pod -----------------------


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
    await wait_until(
        lambda: any(spc.adopted_secrets for spc in node.store.cluster.classes(NAMESPACE)),
        "the annotation",
    )
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
    api.forbidden.add("patch secrets")
    async with running_node(mount_home, api, clock=clock, driver_backoff=lambda _: 300.0) as node:
        await start_pod(node, "web-a")
        api.forbidden.clear()
        await clock.advance(MAX_RETRY_SECONDS)
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
