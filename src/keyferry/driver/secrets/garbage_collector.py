"""The end of a Secret that no volume of this node uses any more.

Kubernetes deletes a Secret with the last of its owners, but a ReplicaSet that is scaled to nothing
stays, and so does a class that names the Secret no more. Whether pods of other nodes use it is told
by their pod statuses. Of two nodes that look at the same moment each sees the pod of the other one;
so whoever's pod status is collected looks again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.errors import ClassInvalidError, ClassNotFoundError
from keyferry.kubernetes.names import object_name_problem
from keyferry.telemetry.logs import ObjectName, get_logger

if TYPE_CHECKING:
    from keyferry.driver.secrets.usage import NamespacedName
    from keyferry.kubernetes import ObjectStore, PodStatus

MAX_PODS_CHECKED = 100
"""Of how many pods it is asked whether they have finished; beyond, the Secret stays."""

_log = get_logger("release")


class SecretGarbageCollector:
    """Deletes Secrets of ours that nobody uses.

    Args:
        store: where they are.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def delete_if_unused(self, key: NamespacedName) -> bool:
        """Delete the Secret unless somebody else may need it; False when it is to be tried again.

        Raises:
            StoreError: the store does not tell, or refuses.
        """
        namespace, name = key
        if object_name_problem(name):
            return True
        present = await self._store.find_secret(namespace, name)
        if present is None or not present.managed or not present.owner_class:
            return True
        naming = {
            cls.name for cls in self._store.cluster.classes(namespace) if name in cls.secret_names
        }
        dropped = await self._class_dropped_secret(namespace, present.owner_class, name)
        if dropped and naming:
            return True  # whoever names it takes it over
        if not dropped and await self._is_used_on_other_nodes(
            namespace, naming | {present.owner_class}
        ):
            return True
        deleted = await self._store.delete_secret(namespace, name, present)
        if deleted:
            _log.info(
                "Secret deleted",
                secret=ObjectName(namespace, name),
                spc=ObjectName(namespace, present.owner_class),
                reason="its class names it no more" if dropped else "no pod uses it any more",
            )
        return deleted

    async def _class_dropped_secret(self, namespace: str, owner_class: str, name: str) -> bool:
        """The class is there and names the Secret no more."""
        try:
            cls = await self._store.get_class(namespace, owner_class)
        except (ClassNotFoundError, ClassInvalidError):
            return False
        return name not in cls.secret_names

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
