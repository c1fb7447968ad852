"""Pods that start and end, and what watchers of the Secret `db` have seen."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from tests.fakes.driver import NAMESPACE
from tests.fakes.kube_api import KubeApiServer
from tests.fakes.kube_node import Node, wait_until

CLASSES = "secretproviderclasses"
GRACE = 600.0

Start = Callable[[str], AbstractAsyncContextManager[Node]]
"""Starts a node, or its driver again."""


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
