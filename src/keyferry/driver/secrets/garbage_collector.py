"""Deletes managed Secrets that no pod of the cluster uses any more.

Kubernetes deletes a Secret with its last owner. That is not enough: a ReplicaSet that is scaled to
zero stays, and so does a SecretProviderClass that no longer names the Secret. Pod statuses show
whether pods of other nodes use the Secret. If two nodes check at the same moment, each sees the pod
of the other; the node whose pod status is deleted later checks again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.errors import ClassInvalidError, ClassNotFoundError
from keyferry.kubernetes.names import object_name_problem
from keyferry.telemetry.logs import ObjectName, get_logger

if TYPE_CHECKING:
    from keyferry.kubernetes import ObjectStore, PodStatus
    from keyferry.kubernetes.names import NamespacedName

MAX_PODS_CHECKED = 100
"""The maximum number of pods to check; if there are more, the Secret is kept."""

_log = get_logger("release")


class SecretGarbageCollector:
    """Deletes unused Secrets.

    Args:
        store: reads and deletes Secrets; its cluster view knows pods and pod statuses.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def delete_if_unused(self, key: NamespacedName) -> bool:
        """Delete the Secret `key`, which no volume of this node uses.

        Of an adopted Secret, only what Keyferry wrote is removed. It is kept in these cases:

        1. It does not exist, or Keyferry does not manage it.
        2. Its SecretProviderClass dropped it and another one names it, which takes it over.
        3. A running pod of another node uses a SecretProviderClass that names it.

        Returns:
            False when the Secret changed in between, so that the call must be repeated.

        Raises:
            StoreError: the Kubernetes API is unavailable or rejects a request.
        """
        namespace, name = key
        if object_name_problem(name):
            return True
        present = await self._store.find_secret(namespace, name)
        if present is None or not present.managed or not present.owner_class:
            return True
        class_names = {
            spc.name for spc in self._store.cluster.classes(namespace) if name in spc.secret_names
        }
        dropped = await self._class_dropped_secret(namespace, present.owner_class, name)
        if dropped and class_names:
            return True
        if not dropped and await self._is_used_on_other_nodes(
            namespace, class_names | {present.owner_class}
        ):
            return True
        end = self._store.release_secret if present.adopted else self._store.delete_secret
        ended = await end(namespace, name, present)
        if ended:
            _log.info(
                "adopted Secret released" if present.adopted else "Secret deleted",
                secret=ObjectName(namespace, name),
                spc=ObjectName(namespace, present.owner_class),
                reason="dropped by its SecretProviderClass" if dropped else "unused",
            )
        return ended

    async def _class_dropped_secret(self, namespace: str, owner_class: str, name: str) -> bool:
        """Whether the SecretProviderClass exists and no longer names the Secret."""
        try:
            spc = await self._store.get_class(namespace, owner_class)
        except (ClassNotFoundError, ClassInvalidError):
            return False
        return name not in spc.secret_names

    async def _is_used_on_other_nodes(self, namespace: str, class_names: set[str]) -> bool:
        cluster = self._store.cluster
        own = {
            status.name for status in cluster.local_pod_statuses() if status.namespace == namespace
        }
        others = [
            status
            for status in await cluster.list_pod_statuses(namespace)
            if status.class_name in class_names and status.name not in own
        ]
        if len(others) > MAX_PODS_CHECKED:
            return True
        for status in others:
            if await self._has_live_pod(status):
                return True
        return False

    async def _has_live_pod(self, status: PodStatus) -> bool:
        pod = await self._store.cluster.find_pod(status.namespace, status.pod.name)
        return pod is not None and pod.uid == status.pod.uid and not pod.completed
