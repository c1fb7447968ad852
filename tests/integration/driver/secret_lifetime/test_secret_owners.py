"""A Secret exists as long as an owner of its pods.

Each test watches the Secret `db` and fails if it is deleted when it must not be.
"""

from __future__ import annotations

import pytest

from tests.fakes.clock import ManualClock
from tests.fakes.driver import NAMESPACE
from tests.fakes.kube_api import KubeApiServer
from tests.fakes.kube_node import Node, wait_until
from tests.fakes.secret_lifetime import (
    CLASSES,
    GRACE,
    Start,
    changes,
    create_owner,
    end_pod,
    start_pod,
)


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
    """The garbage collector may delete the Secret long before the pods terminate.

    The watch has reported the deletion, so a read could only be answered with 404.
    """
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
    assert 0 == api.requests.count("get secrets")
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


async def test_secret_deleted_while_its_last_pod_terminates_is_reported(
    node: Node, api: KubeApiServer
) -> None:
    """Kubernetes deletes the pods and the Secret of a StatefulSet in any order."""
    create_owner(api, "db")
    await start_pod(node, "db-0", owner="db")
    node.schedule("db-0", "web", owner="db", phase="Running", terminating=True)
    await wait_until(
        lambda: getattr(node.store.cluster.local_pod(NAMESPACE, "db-0"), "terminating", False),
        "the pod to terminate",
    )
    await node.settle()
    api.remove("replicasets", NAMESPACE, "db")
    await wait_until(lambda: node.secret("db") is None, "the garbage collector")
    await wait_until(
        lambda: node.store.cluster.secret_resource_version(NAMESPACE, "db") is None, "the deletion"
    )
    await node.settle()
    assert 1 == len(await node.events("SecretDeleted"))


async def test_secret_deleted_before_its_last_pod_terminates_is_reported(
    node: Node, api: KubeApiServer
) -> None:
    """The driver may learn of the pod before it learns of the Secret."""
    create_owner(api, "db")
    await start_pod(node, "db-0", owner="db")
    await node.settle()
    node.store.cluster.watch_secrets(frozenset())
    api.remove("replicasets", NAMESPACE, "db")
    await wait_until(lambda: node.secret("db") is None, "the garbage collector")
    await end_pod(node, "db-0", owner="db")
    assert 1 == len(await node.events("SecretDeleted"))
    assert 1 == changes(api, "ADDED")


@pytest.mark.parametrize("owner", ["", "web-1"])
async def test_no_deleted_secret_is_read_while_the_last_pods_end(
    node: Node, api: KubeApiServer, clock: ManualClock, owner: str
) -> None:
    """The watch reports the deletion, by the driver or with the owners of the pods."""
    create_owner(api, "web-1")
    pods = [f"web-1-{number}" for number in range(8)]
    for pod in pods:
        await start_pod(node, pod, owner=owner)
    await wait_until(
        lambda: node.store.cluster.secret_resource_version(NAMESPACE, "db") is not None, "the watch"
    )
    api.not_found.clear()
    for pod in pods:
        await end_pod(node, pod, owner=owner)
    api.remove("replicasets", NAMESPACE, "web-1")
    await clock.advance(2 * GRACE)
    await node.settle()
    assert node.secret("db") is None
    assert [] == api.not_found
