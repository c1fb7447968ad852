"""Which volumes of this node use a Secret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.errors import ClassInvalidError, ClassNotFoundError

if TYPE_CHECKING:
    from keyferry.driver.volumes import Volume, Volumes
    from keyferry.store import ObjectStore
    from keyferry.store.cluster import Cluster, PodFacts
    from keyferry.store.interface import ClassObject, SecretObject

Key = tuple[str, str]
"""Namespace and name of a Secret."""


@dataclass(frozen=True, slots=True)
class User:
    """A volume whose class names the Secret, and whose pod is alive.

    Attributes:
        volume: it.
        pod: its pod; None while it is not known.
        cls: its class.
        entry: the entry that names the Secret; the last one, if several do.
    """

    volume: Volume
    pod: PodFacts | None
    cls: ClassObject
    entry: SecretObject


@dataclass(frozen=True, slots=True)
class Usage:
    """What this node does with a Secret.

    Attributes:
        users: the volumes from which it is made, in the order of their publishes.
        held: a pod that is about to go, or one whose class cannot be read, may still need it.
    """

    users: tuple[User, ...] = ()
    held: bool = False

    @property
    def classes(self) -> list[ClassObject]:
        """The classes of the users, each once."""
        return list({user.cls.name: user.cls for user in self.users}.values())


async def usage_of(key: Key, volumes: Volumes, store: ObjectStore) -> Usage:
    """Looks at every volume in the namespace of the Secret.

    Raises:
        StoreError: a class is not known, and the store does not tell.
    """
    namespace, name = key
    classes: dict[str, ClassObject | None] = {}
    users, held = [], False
    for volume in volumes.within(namespace):
        pod = pod_of(volume, store.cluster)
        if pod is not None and pod.finished:
            continue
        if volume.class_name not in classes:
            classes[volume.class_name] = await _class_or_none(store, namespace, volume.class_name)
        cls = classes[volume.class_name]
        if cls is None:
            held = held or name in volume.secret_names
            continue
        volumes.named(volume.target_path, cls.secret_names)
        entry = next((e for e in reversed(cls.secret_objects) if e.name == name), None)
        if entry is None:
            continue
        if pod is not None and pod.leaving:
            held = True
        else:
            users.append(User(volume, pod, cls, entry))
    return Usage(tuple(users), held)


def pod_of(volume: Volume, cluster: Cluster) -> PodFacts | None:
    """The pod of a volume; None while it is not known, or another one has its name."""
    pod = cluster.pod(volume.pod.namespace, volume.pod.name)
    return pod if pod is not None and pod.uid == volume.pod.uid else None


async def _class_or_none(store: ObjectStore, namespace: str, name: str) -> ClassObject | None:
    try:
        return await store.get_class(namespace, name)
    except (ClassNotFoundError, ClassInvalidError):
        return None
