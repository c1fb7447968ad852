"""Which volumes of this node use a Secret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.errors import ClassInvalidError, ClassNotFoundError

if TYPE_CHECKING:
    from keyferry.driver.volumes.volume_table import Volume, VolumeTable
    from keyferry.kubernetes import ObjectStore
    from keyferry.kubernetes.cluster import ClusterView, Pod
    from keyferry.kubernetes.objects import SecretObject, SecretProviderClass

NamespacedName = tuple[str, str]
"""Namespace and name of a Secret."""


@dataclass(frozen=True, slots=True)
class Consumer:
    """A volume whose class names the Secret, and whose pod is alive.

    Attributes:
        volume: it.
        pod: its pod; None while it is not known.
        spc: its class.
        entry: the entry that names the Secret; the last one, if several do.
    """

    volume: Volume
    pod: Pod | None
    spc: SecretProviderClass
    entry: SecretObject


@dataclass(frozen=True, slots=True)
class Usage:
    """What this node does with a Secret.

    Attributes:
        consumers: the volumes from which it is made, in the order of their publishes.
        pending: a pod that is about to go, or one whose class cannot be read, may still need it.
    """

    consumers: tuple[Consumer, ...] = ()
    pending: bool = False

    @property
    def classes(self) -> list[SecretProviderClass]:
        """The classes of the users, each once."""
        return list({user.spc.name: user.spc for user in self.consumers}.values())


async def usage_of(key: NamespacedName, volumes: VolumeTable, store: ObjectStore) -> Usage:
    """Looks at every volume in the namespace of the Secret.

    Raises:
        StoreError: a class is not known, and the store does not tell.
    """
    namespace, name = key
    classes: dict[str, SecretProviderClass | None] = {}
    users, held = [], False
    for volume in volumes.in_namespace(namespace):
        pod = pod_of(volume, store.cluster)
        if pod is not None and pod.completed:
            continue
        if volume.class_name not in classes:
            classes[volume.class_name] = await _class_or_none(store, namespace, volume.class_name)
        cls = classes[volume.class_name]
        if cls is None:
            held = held or name in volume.secret_names
            continue
        volumes.set_secret_names(volume.target_path, cls.secret_names)
        entry = next((e for e in reversed(cls.secret_objects) if e.name == name), None)
        if entry is None:
            continue
        if pod is not None and pod.terminating:
            held = True
        else:
            users.append(Consumer(volume, pod, cls, entry))
    return Usage(tuple(users), held)


def pod_of(volume: Volume, cluster: ClusterView) -> Pod | None:
    """The pod of a volume; None while it is not known, or another one has its name."""
    pod = cluster.local_pod(volume.pod.namespace, volume.pod.name)
    return pod if pod is not None and pod.uid == volume.pod.uid else None


async def _class_or_none(
    store: ObjectStore, namespace: str, name: str
) -> SecretProviderClass | None:
    try:
        return await store.get_class(namespace, name)
    except (ClassNotFoundError, ClassInvalidError):
        return None
