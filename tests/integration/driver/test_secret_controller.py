"""Secrets that are kept: drivers on a CSI socket over a Kubernetes API that plays by HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from keyferry.driver.status.pod_status_writer import MAX_PENDING
from keyferry.kubernetes.objects import PodRef
from keyferry.kubernetes.pod_status import pod_status
from tests.fakes.driver import NAMESPACE
from tests.fakes.kube_api import KubeApiServer, running_api
from tests.fakes.kube_node import Node, running_node, scripted_class, secret_object, wait_until

CLASSES = "secretproviderclasses"


@pytest.fixture
async def api(mount_home: Path) -> AsyncIterator[KubeApiServer]:
    async with running_api(mount_home) as running:
        yield running


@pytest.fixture
async def node(mount_home: Path, api: KubeApiServer) -> AsyncIterator[Node]:
    """A node with a class `web` that makes Secret `db` of file `a`."""
    api.put(
        CLASSES, scripted_class("web", secret_object("db", "a", labels={"environment": "test"}))
    )
    home = mount_home / "1"
    home.mkdir()
    async with running_node(home, api) as running:
        yield running


@pytest.fixture
async def other(mount_home: Path, api: KubeApiServer, node: Node) -> AsyncIterator[Node]:
    """A second node of the same cluster, whose provider serves the same."""
    home = mount_home / "2"
    home.mkdir()
    async with running_node(home, api, "node-2") as running:
        yield running


def patch(api: KubeApiServer, edit: dict[str, Any], name: str = "db") -> None:
    """Edit a Secret by hand."""
    api.objects.merge(("secrets", NAMESPACE, name), edit, "kubectl-edit")


async def test_the_secret_is_there_when_the_publish_returns(node: Node) -> None:
    """So a container that reads it through its environment starts at once."""
    node.schedule("web-0", "web", owner="web-5d8")
    await node.publish("web")
    assert {"value": "1"} == node.secret_values("db")
    assert ["ReplicaSet web-5d8"] == node.owners("db")


async def test_a_bare_pod_owns_by_its_status(node: Node) -> None:
    """Kubernetes takes the status with the pod, and the Secret with the status."""
    node.schedule("web-0", "web")
    await node.publish("web")
    assert ["SecretProviderClassPodStatus web-0-shop-web"] == node.owners("db")


async def test_two_deployments_are_two_owners_however_many_pods(node: Node, other: Node) -> None:
    """Upstream's own test: 2 x 2 pods on two nodes."""
    for place, pod, owner in (
        (node, "one-a", "one"),
        (other, "one-b", "one"),
        (node, "two-a", "two"),
        (other, "two-b", "two"),
    ):
        place.schedule(pod, "web", owner=owner)
        await place.publish("web", pod)
    assert ["ReplicaSet one", "ReplicaSet two"] == node.owners("db")


async def test_a_pod_that_was_not_known_at_first_is_owned_by_its_own_later(
    node: Node, api: KubeApiServer
) -> None:
    """The pod status stands in, and is taken out again."""
    api.forbidden.add("get pods")
    await node.publish("web")
    assert ["SecretProviderClassPodStatus web-0-shop-web"] == node.owners("db")
    node.schedule("web-0", "web", owner="web-5d8")
    await wait_until(
        lambda: node.owners("db") == ["ReplicaSet web-5d8"], "the ReplicaSet to own it"
    )


@pytest.mark.parametrize(
    "edit",
    [
        {"data": {"value": "aGFuZA=="}},
        {"data": {"more": "aGFuZA=="}},
        {"metadata": {"labels": {"environment": "prod"}}},
        {"metadata": {"labels": {"secrets-store.csi.k8s.io/managed": None}}},
    ],
    ids=str,
)
async def test_an_edit_by_hand_is_reverted_at_once(
    node: Node, api: KubeApiServer, edit: dict[str, Any]
) -> None:
    """The event and a metric tell of it; a label of somebody else stays."""
    node.schedule("web-0", "web")
    await node.publish("web")
    before = node.secret("db")
    assert before is not None
    await wait_until(
        lambda: node.store.cluster.secret_resource_version(NAMESPACE, "db") is not None, "the watch"
    )
    patch(api, edit)
    reverted = "keyferry_secret_drift_reverted_total"
    await wait_until(
        lambda: node.driver.metric_values(reverted) == {"": 1.0}, "the edit to be reverted"
    )
    after = node.secret("db")
    assert after is not None
    assert before["data"] == after["data"]
    assert before["metadata"]["labels"] == after["metadata"]["labels"]
    (told,) = await node.events("SecretReverted")
    assert told.startswith("Pod web-0: reverted a manual edit of secret db")


async def test_a_secret_that_is_deleted_by_hand_is_made_again(
    node: Node, api: KubeApiServer
) -> None:
    """A pod uses it."""
    node.schedule("web-0", "web")
    await node.publish("web")
    await wait_until(
        lambda: node.store.cluster.secret_resource_version(NAMESPACE, "db") is not None, "the watch"
    )
    api.remove("secrets", NAMESPACE, "db")
    await wait_until(
        lambda: node.secret_values("db") == {"value": "1"}, "the Secret to be made again"
    )


async def test_the_watch_asks_for_metadata_where_secrets_are_and_nowhere_else(
    node: Node, api: KubeApiServer
) -> None:
    """Memory and rights depend on what is kept."""
    assert "watch secrets" not in api.requests
    node.schedule("web-0", "web")
    await node.publish("web")
    await wait_until(lambda: "watch secrets" in api.requests, "the watch")
    await node.delete_pod("web-0", "web")
    await wait_until(lambda: node.secret("db") is None, "the Secret to go")
    assert node.store.cluster.secret_resource_version(NAMESPACE, "db") is None


async def test_nodes_that_fetched_at_different_times_do_not_fight(node: Node, other: Node) -> None:
    """The content of the later fetch stands, whoever looks."""
    node.schedule("web-0", "web")
    await node.publish("web")
    other.provider.serves({"a": "2"}, "v2")
    other.driver.clock.now = 60
    other.schedule("web-1", "web")
    await other.publish("web", "web-1")
    assert {"value": "2"} == node.secret_values("db")
    await wait_until(
        lambda: (
            node.store.cluster.secret_resource_version(NAMESPACE, "db")
            == (node.secret("db") or {})["metadata"]["resourceVersion"]
        ),
        "the first node to hear of it",
    )
    node.driver.engine.secret_controller.enqueue_all()
    await wait_until(
        lambda: not len(node.driver.engine.secret_controller), "the first node to have looked"
    )
    version = (node.secret("db") or {})["metadata"]["resourceVersion"]
    await node.driver.engine.secret_controller.reconcile_now(
        await node.store.get_class(NAMESPACE, "web"), changed=True
    )
    assert {"value": "2"} == node.secret_values("db")
    assert version == (node.secret("db") or {})["metadata"]["resourceVersion"]
    assert {} == node.driver.metric_values("keyferry_secret_drift_reverted_total")


async def test_a_class_that_changes_changes_its_secrets(node: Node, api: KubeApiServer) -> None:
    """Keys, labels, type, entries; a dropped entry takes its Secret along."""
    node.provider.serves({"a": "1", "b": "2"})
    node.schedule("web-0", "web", owner="web-5d8")
    await node.publish("web")
    api.put(CLASSES, scripted_class("web", secret_object("db", "b"), secret_object("more", "a")))
    await wait_until(lambda: node.secret_values("db") == {"value": "2"}, "the other file")
    await wait_until(lambda: node.secret_values("more") == {"value": "1"}, "the other Secret")
    api.put(CLASSES, scripted_class("web", secret_object("db", "b", "example.com/own")))
    await wait_until(lambda: (node.secret("db") or {}).get("type") == "example.com/own", "the type")
    await wait_until(lambda: node.secret("more") is None, "the dropped one to go")
    await wait_until(lambda: node.owners("db") == ["ReplicaSet web-5d8"], "the owners to be back")
    (told,) = await node.events("SecretRecreated")
    assert "changed from Opaque to example.com/own" in told


async def test_a_dropped_entry_that_another_class_has_too_leaves_the_secret(
    node: Node, other: Node, api: KubeApiServer
) -> None:
    """Whoever names it takes it over, wherever its pods are."""
    api.put(CLASSES, scripted_class("heir", secret_object("db", "a")))
    node.schedule("web-0", "web")
    await node.publish("web")
    await wait_until(lambda: len(node.store.cluster.classes(NAMESPACE)) == 2, "both classes")
    uid = (node.secret("db") or {})["metadata"]["uid"]
    api.put(CLASSES, scripted_class("web", secret_object("own", "a")))
    await wait_until(lambda: node.secret("own") is not None, "the class to have changed")
    await wait_until(
        lambda: not len(node.driver.engine.secret_controller), "the Secret to be looked at"
    )
    assert uid == (node.secret("db") or {})["metadata"]["uid"]
    other.schedule("heir-0", "heir")
    await other.publish("heir", "heir-0")
    assert "heir" == (node.secret("db") or {})["metadata"]["annotations"]["keyferry.dev/class"]


async def test_a_class_that_is_deleted_changes_nothing(node: Node, api: KubeApiServer) -> None:
    """Pods run on with their Secret; the last of them takes it along."""
    node.schedule("web-0", "web")
    await node.publish("web")
    api.remove(CLASSES, NAMESPACE, "web")
    await wait_until(lambda: not node.store.cluster.classes(NAMESPACE), "the class to be gone")
    node.driver.engine.secret_controller.enqueue_all()
    await wait_until(
        lambda: not len(node.driver.engine.secret_controller), "the Secret to be looked at"
    )
    assert {"value": "1"} == node.secret_values("db")
    await node.delete_pod("web-0", "web")
    await wait_until(lambda: node.secret("db") is None, "the Secret to go")


async def test_of_two_classes_the_first_keeps_the_secret(node: Node, api: KubeApiServer) -> None:
    """Both classes hear of the other; when the first lets go, the second has its turn."""
    api.put(CLASSES, scripted_class("late", secret_object("db", "b")))
    node.provider.serves({"a": "1", "b": "2"})
    node.schedule("web-0", "web")
    node.schedule("late-0", "late")
    await node.publish("web")
    await node.publish("late", "late-0")
    assert {"value": "1"} == node.secret_values("db")
    told = await node.events("SecretConflict")
    assert told[0].startswith(
        "SecretProviderClass late: Secret db already belongs to SecretProviderClass w"
    )
    assert told[1].startswith(
        "SecretProviderClass web: Secret db is also named by SecretProviderClass l"
    )
    (refused,) = await node.events("FailedToCreateSecret")
    assert refused.startswith("Pod late-0: ")
    api.put(CLASSES, scripted_class("web", secret_object("own", "a")))
    await wait_until(
        lambda: node.secret_values("db") == {"value": "2"}, "the second class to have it"
    )


async def test_the_last_pod_takes_the_secret_along(node: Node, other: Node) -> None:
    """A Deployment that is scaled to nothing keeps its ReplicaSet; back again, it is made anew."""
    node.schedule("web-0", "web", owner="web-5d8")
    other.schedule("web-1", "web", owner="web-5d8")
    await node.publish("web", "web-0")
    await other.publish("web", "web-1")
    await node.delete_pod("web-0", "web")
    await wait_until(
        lambda: not len(node.driver.engine.secret_controller), "the first node to have looked"
    )
    assert {"value": "1"} == node.secret_values("db")
    await other.delete_pod("web-1", "web")
    await wait_until(lambda: node.secret("db") is None, "the Secret to go")
    node.schedule("web-2", "web", owner="web-5d8")
    await node.publish("web", "web-2")
    assert {"value": "1"} == node.secret_values("db")


async def test_two_last_pods_that_leave_at_once_leave_nothing(node: Node, other: Node) -> None:
    """Each sees the status of the other; whoever's is collected looks again."""
    node.schedule("web-0", "web", owner="web-5d8")
    other.schedule("web-1", "web", owner="web-5d8")
    await node.publish("web", "web-0")
    await other.publish("web", "web-1")
    await node.unpublish("web-0")
    await other.unpublish("web-1")
    for place in (node, other):
        queue = place.driver.engine.secret_controller
        await wait_until(lambda q=queue: not len(q), "both to have looked")  # type: ignore[misc]
    assert {"value": "1"} == node.secret_values("db")
    for place, pod in ((node, "web-0"), (other, "web-1")):
        node.api.remove("pods", NAMESPACE, pod)
        place.collect_status(pod, "web")
    await wait_until(lambda: node.secret("db") is None, "the Secret to go")


async def test_a_pod_that_has_finished_elsewhere_holds_nothing(node: Node, other: Node) -> None:
    """Pods of Jobs stay for long after their end, and their statuses with them."""
    other.schedule("job-1", "web", owner="job")
    await other.publish("web", "job-1")
    other.schedule("job-1", "web", owner="job", phase="Succeeded")
    node.schedule("web-0", "web", owner="web-5d8")
    await node.publish("web", "web-0")
    await node.delete_pod("web-0", "web")
    await wait_until(lambda: node.secret("db") is None, "the Secret to go")


async def test_a_finished_pod_costs_nothing(mount_home: Path, api: KubeApiServer) -> None:
    """No vault, no status, no Secret, however often kubelet or the timer come by."""
    api.put(CLASSES, scripted_class("web", secret_object("db", "a")))
    async with running_node(mount_home, api, rotation_interval=60.0) as node:
        node.schedule("job-0", "web")
        await node.publish("web", "job-0")
        node.schedule("job-0", "web", phase="Succeeded")
        await wait_until(
            lambda: getattr(node.store.cluster.local_pod(NAMESPACE, "job-0"), "completed", False),
            "the end",
        )
        api.requests.clear()
        await node.driver.clock.advance(600)
        await node.publish("web", "job-0")
        node.driver.engine.secret_controller.enqueue_all()
        await wait_until(
            lambda: not len(node.driver.engine.secret_controller), "the Secret to be looked at"
        )
        assert 1 == len(node.provider.calls)
        assert not [request for request in api.requests if request.startswith("patch")]


async def test_a_mount_goes_on_while_the_api_is_away(node: Node, api: KubeApiServer) -> None:
    """The class is known; the status, the Secret and the events are written when it is back."""
    node.schedule("web-0", "web", owner="web-5d8")
    await wait_until(
        lambda: node.store.cluster.local_pod(NAMESPACE, "web-0") is not None, "the pod"
    )
    await api.stop()
    target = await node.publish("web")
    assert "1" == (target / "a").read_text()
    pending = node.driver.metric_values("keyferry_pending_writes")
    assert 1.0 == pending["kind=podstatus"]
    await api.start()
    await wait_until(lambda: node.secret_values("db") == {"value": "1"}, "the Secret")
    await wait_until(lambda: node.owners("db") == ["ReplicaSet web-5d8"], "its owners")
    assert api.get("secretproviderclasspodstatuses", NAMESPACE, "web-0-shop-web")
    assert 0.0 == node.driver.metric_values("keyferry_pending_writes")["kind=podstatus"]


async def test_after_a_restart_the_volumes_are_known(mount_home: Path, api: KubeApiServer) -> None:
    """Edits by hand are reverted, the last pod takes the Secret along, without a publish."""
    api.put(CLASSES, scripted_class("web", secret_object("db", "a")))
    async with running_node(mount_home, api) as node:
        node.schedule("web-0", "web", owner="web-5d8")
        await node.publish("web")
    patch(api, {"data": {"value": "aGFuZA=="}})
    async with running_node(mount_home, api) as node:
        await wait_until(
            lambda: node.secret_values("db") == {"value": "1"}, "the edit to be reverted"
        )
        await node.delete_pod("web-0", "web")
        await wait_until(lambda: node.secret("db") is None, "the Secret to go")


async def test_a_status_that_names_the_volume_of_another_pod_is_not_believed(
    mount_home: Path, api: KubeApiServer
) -> None:
    """Else whoever may write a status could read the secrets of another namespace."""
    api.put(CLASSES, scripted_class("web", secret_object("db", "a")))
    async with running_node(mount_home, api) as node:
        node.schedule("web-0", "web")
        await node.publish("web")
    status = api.get("secretproviderclasspodstatuses", NAMESPACE, "web-0-shop-web")
    assert status is not None
    node.schedule("thief", "web")
    stolen = {**status, "status": {**status["status"], "podName": "thief"}}
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "thief", "uid": "uid-of-thief"}
    stolen["metadata"] = {**status["metadata"], "name": "stolen", "ownerReferences": [owner]}
    api.put("secretproviderclasspodstatuses", stolen)
    api.remove("secretproviderclasspodstatuses", NAMESPACE, "web-0-shop-web")
    async with running_node(mount_home, api) as node:
        await wait_until(lambda: node.driver.engine.volumes.restored, "the volumes to be restored")
        assert [] == list(node.driver.engine.volumes)


async def test_a_right_that_is_missing_is_told_on_the_pod_and_asked_for_no_more_without_it(
    node: Node, api: KubeApiServer
) -> None:
    """The mount goes on; once no pod names the Secret, nobody asks for it for ever."""
    api.forbidden |= {"get secrets", "patch secrets"}
    node.schedule("web-0", "web")
    target = await node.publish("web")
    assert "1" == (target / "a").read_text()
    (told,) = await node.events("FailedToCreateSecret")
    assert "refuses to get secrets" in told
    assert "syncSecret.namespaces" in told
    await node.delete_pod("web-0", "web")
    await wait_until(
        lambda: not len(node.driver.engine.secret_controller), "the Secret to be let go"
    )
    assert "failed to delete unused Secret" in node.driver.log.getvalue()


async def test_the_statuses_that_wait_for_the_api_are_bounded(mount_home: Path) -> None:
    """The newest of each volume is kept; those that were asked for longest ago are lost."""
    async with running_api(mount_home) as api, running_node(mount_home, api) as node:
        await api.stop()
        statuses = node.driver.engine.status_writer
        for number in range(MAX_PENDING + 5):
            pod = PodRef(NAMESPACE, f"web-{number}", f"uid-{number}")
            statuses.enqueue(pod_status(pod, "web", f"/t/{number}", "n", ()))
        assert MAX_PENDING == len(statuses)
        await statuses.discard(f"/t/{MAX_PENDING}")
        assert MAX_PENDING - 1 == len(statuses)
        assert 5 == node.driver.log.getvalue().count("pod status dropped: too many are pending")
