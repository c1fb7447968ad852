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


async def test_secret_exists_when_the_publish_returns(node: Node) -> None:
    """A container may read it as an environment variable at once."""
    node.schedule("web-0", "web", owner="web-5d8")
    await node.publish("web")
    assert {"value": "1"} == node.secret_values("db")
    assert ["ReplicaSet web-5d8"] == node.owners("db")


async def test_secret_of_a_bare_pod_is_owned_by_its_pod_status(node: Node) -> None:
    """Kubernetes deletes the pod status with the pod, and the Secret with the pod status."""
    node.schedule("web-0", "web")
    await node.publish("web")
    assert ["SecretProviderClassPodStatus web-0-shop-web"] == node.owners("db")


async def test_secret_is_created_by_one_write(node: Node, api: KubeApiServer) -> None:
    """No client sees it without its owners."""
    node.schedule("web-0", "web", owner="web-5d8")
    await node.publish("web")
    assert 1 == api.requests.count("patch secrets")


async def test_adopted_secret_is_released_with_the_last_pod(node: Node, api: KubeApiServer) -> None:
    """Keys, labels and annotations of others are never changed, and the Secret is not deleted."""
    metadata = {"name": "db", "namespace": NAMESPACE, "labels": {"team": "blue"}}
    theirs = {"metadata": metadata, "type": "Opaque", "data": {"value": "aGFuZA==", "more": "YQ=="}}
    api.put("secrets", theirs)
    adopting = scripted_class("web", secret_object("db", "a"))
    adopting["metadata"]["annotations"] = {"keyferry.dev/adopt-secrets": "db"}
    api.put(CLASSES, adopting)
    node.schedule("web-0", "web", owner="web-5d8")
    await node.publish("web")
    assert {"value": "1", "more": "a"} == node.secret_values("db")
    assert [] == node.owners("db")
    (adopted,) = await node.events("SecretAdopted")
    assert adopted.endswith("the previous values of these keys were replaced: value")
    uid = (node.secret("db") or {})["metadata"]["uid"]
    await node.delete_pod("web-0", "web")
    await wait_until(lambda: node.secret_values("db") == {"more": "a"}, "the key to be removed")
    left = (node.secret("db") or {})["metadata"]
    assert (uid, {"team": "blue"}) == (left["uid"], left["labels"])
    assert "annotations" not in left


async def test_secret_of_two_deployments_has_two_owners(node: Node, other: Node) -> None:
    """Upstream's test: two pods each, on two nodes."""
    for place, pod, owner in (
        (node, "one-a", "one"),
        (other, "one-b", "one"),
        (node, "two-a", "two"),
        (other, "two-b", "two"),
    ):
        place.schedule(pod, "web", owner=owner)
        await place.publish("web", pod)
    assert ["ReplicaSet one", "ReplicaSet two"] == node.owners("db")


async def test_pod_status_is_replaced_as_owner_once_the_pod_is_known(
    node: Node, api: KubeApiServer
) -> None:
    """It is removed from the owners."""
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
async def test_manual_edit_is_reverted_at_once(
    node: Node, api: KubeApiServer, edit: dict[str, Any]
) -> None:
    """With an event and a metric; a label of another tool is kept."""
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
    (reported,) = await node.events("SecretReverted")
    assert reported.startswith("Pod web-0: reverted a manual edit of secret db")


async def test_manually_deleted_secret_is_recreated(node: Node, api: KubeApiServer) -> None:
    """While a pod uses it."""
    node.schedule("web-0", "web")
    await node.publish("web")
    await wait_until(
        lambda: node.store.cluster.secret_resource_version(NAMESPACE, "db") is not None, "the watch"
    )
    api.remove("secrets", NAMESPACE, "db")
    await wait_until(
        lambda: node.secret_values("db") == {"value": "1"}, "the Secret to be made again"
    )


async def test_watch_covers_metadata_in_namespaces_with_secrets_only(
    node: Node, api: KubeApiServer
) -> None:
    """This bounds memory and permissions."""
    assert "watch secrets" not in api.requests
    node.schedule("web-0", "web")
    await node.publish("web")
    await wait_until(lambda: "watch secrets" in api.requests, "the watch")
    await node.delete_pod("web-0", "web")
    await wait_until(lambda: node.secret("db") is None, "the Secret to go")
    assert node.store.cluster.secret_resource_version(NAMESPACE, "db") is None


async def test_content_of_the_latest_fetch_wins_between_nodes(node: Node, other: Node) -> None:
    """In whatever order the nodes reconcile."""
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
        "the first node to see it",
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


async def test_changed_secret_provider_class_updates_its_secrets(
    node: Node, api: KubeApiServer
) -> None:
    """Keys, labels, type and entries; the Secret of a dropped entry is deleted."""
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
    await node.settle()
    (reported,) = await node.events("SecretRecreated")
    assert "changed from Opaque to example.com/own" in reported


async def test_dropped_secret_is_taken_over_by_another_secret_provider_class(
    node: Node, other: Node, api: KubeApiServer
) -> None:
    """Whatever the node of its pods."""
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
    await wait_until(lambda: not node.store.cluster.classes(NAMESPACE), "the class to be deleted")
    node.driver.engine.secret_controller.enqueue_all()
    await wait_until(
        lambda: not len(node.driver.engine.secret_controller), "the Secret to be looked at"
    )
    assert {"value": "1"} == node.secret_values("db")
    await node.delete_pod("web-0", "web")
    await wait_until(lambda: node.secret("db") is None, "the Secret to go")


async def test_secret_belongs_to_the_first_of_two_secret_provider_classes(
    node: Node, api: KubeApiServer
) -> None:
    """Both get an event. If the first drops the Secret, the second gets it."""
    api.put(CLASSES, scripted_class("late", secret_object("db", "b")))
    node.provider.serves({"a": "1", "b": "2"})
    node.schedule("web-0", "web")
    node.schedule("late-0", "late")
    await node.publish("web")
    await node.publish("late", "late-0")
    assert {"value": "1"} == node.secret_values("db")
    reported = await node.events("SecretConflict")
    assert reported[0].startswith(
        "SecretProviderClass late: Secret db already belongs to SecretProviderClass w"
    )
    assert reported[1].startswith(
        "SecretProviderClass web: Secret db is also named by SecretProviderClass l"
    )
    (refused,) = await node.events("FailedToCreateSecret")
    assert refused.startswith("Pod late-0: ")
    api.put(CLASSES, scripted_class("web", secret_object("own", "a")))
    await wait_until(
        lambda: node.secret_values("db") == {"value": "2"}, "the second class to have it"
    )


async def test_secret_is_deleted_with_the_last_pod(node: Node, other: Node) -> None:
    """A Deployment scaled to zero keeps its ReplicaSet. Scaled up, the Secret is recreated."""
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


async def test_secret_is_deleted_when_two_last_pods_leave_at_once(node: Node, other: Node) -> None:
    """Each node sees the pod status of the other; the later one checks again."""
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


async def test_completed_pod_of_another_node_does_not_keep_the_secret(
    node: Node, other: Node
) -> None:
    """Pods of Jobs and their pod statuses stay for a long time."""
    other.schedule("job-1", "web", owner="job")
    await other.publish("web", "job-1")
    other.schedule("job-1", "web", owner="job", phase="Succeeded")
    node.schedule("web-0", "web", owner="web-5d8")
    await node.publish("web", "web-0")
    await node.delete_pod("web-0", "web")
    await wait_until(lambda: node.secret("db") is None, "the Secret to go")


async def test_completed_pod_causes_no_requests(mount_home: Path, api: KubeApiServer) -> None:
    """No vault, pod status or Secret request, whatever kubelet and the rotator do."""
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


async def test_mount_succeeds_while_the_api_is_unavailable(node: Node, api: KubeApiServer) -> None:
    """The SecretProviderClass is cached; pod status, Secret and events are written later."""
    node.schedule("web-0", "web", owner="web-5d8")
    await wait_until(lambda: len(node.store.cluster.classes(NAMESPACE)) > 0, "the namespace")
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


async def test_volumes_are_restored_after_a_restart(mount_home: Path, api: KubeApiServer) -> None:
    """Edits are reverted, and the last pod removes the Secret, without a publish."""
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


async def test_pod_status_that_names_the_volume_of_another_pod_is_ignored(
    mount_home: Path, api: KubeApiServer
) -> None:
    """Else write access to pod statuses would give access to secrets of other namespaces."""
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


async def test_missing_permission_is_reported_and_not_retried_without_pods(
    node: Node, api: KubeApiServer
) -> None:
    """The mount succeeds; retries stop when no pod names the Secret."""
    api.forbidden |= {"get secrets", "patch secrets"}
    node.schedule("web-0", "web")
    target = await node.publish("web")
    assert "1" == (target / "a").read_text()
    (reported,) = await node.events("FailedToCreateSecret")
    assert "refuses to get secrets" in reported
    assert "syncSecret.namespaces" in reported
    await node.delete_pod("web-0", "web")
    await wait_until(
        lambda: not len(node.driver.engine.secret_controller), "the Secret to be released"
    )
    assert "failed to delete unused Secret" in node.driver.log.getvalue()


async def test_pending_pod_statuses_are_bounded(mount_home: Path) -> None:
    """The newest of each volume is kept, the oldest are dropped."""
    async with running_api(mount_home) as api, running_node(mount_home, api) as node:
        await api.crds_read.wait()  # the last request of the start
        await node.settle()
        await api.stop()
        statuses = node.driver.engine.status_writer
        for number in range(MAX_PENDING + 5):
            pod = PodRef(NAMESPACE, f"web-{number}", f"uid-{number}")
            statuses.enqueue(pod_status(pod, "web", f"/t/{number}", "n", ()))
        assert MAX_PENDING == len(statuses)
        await statuses.discard(f"/t/{MAX_PENDING}")
        assert MAX_PENDING - 1 == len(statuses)
        assert 5 == node.driver.log.getvalue().count("pod status dropped: too many are pending")
