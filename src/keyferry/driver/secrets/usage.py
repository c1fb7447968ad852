"""Finds the volumes of this node that use a Secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.driver.volumes.volume_table import pod_of
from keyferry.errors import ClassInvalidError, ClassNotFoundError

if TYPE_CHECKING:
    from keyferry.driver.volumes.volume_table import Volume, VolumeTable
    from keyferry.kubernetes import ObjectStore
    from keyferry.kubernetes.names import NamespacedName
    from keyferry.kubernetes.objects import Pod, SecretObject, SecretProviderClass


class Consumer(Struct, frozen=True):
    """A volume whose SecretProviderClass names the Secret, and whose pod is running.

    Attributes:
        volume: the volume.
        pod: its pod; None while it is unknown.
        spc: its SecretProviderClass.
        entry: the entry of `secretObjects` that names the Secret; the last of several.
    """

    volume: Volume
    pod: Pod | None
    spc: SecretProviderClass
    entry: SecretObject


class Usage(Struct, frozen=True):
    """The use of a Secret on this node.

    Attributes:
        consumers: the volumes that it is made from, in the order of their publishes.
        terminating: a terminating pod still uses the Secret.
        unknown: a pod whose SecretProviderClass cannot be read may need it.
    """

    consumers: tuple[Consumer, ...] = ()
    terminating: bool = False
    unknown: bool = False

    @property
    def classes(self) -> list[SecretProviderClass]:
        """The SecretProviderClasses of the consumers, each once."""
        return list({consumer.spc.name: consumer.spc for consumer in self.consumers}.values())


async def usage_of(key: NamespacedName, volumes: VolumeTable, store: ObjectStore) -> Usage:
    """Find the volumes that use the Secret `key`.

    1. Pods that completed use no Secret.
    2. A volume without a readable SecretProviderClass counts as unknown if it named the Secret.
    3. A terminating pod is no consumer.
    4. All other volumes whose SecretProviderClass names the Secret are consumers.

    Raises:
        StoreError: a SecretProviderClass cannot be read.
    """
    namespace, name = key
    classes: dict[str, SecretProviderClass | None] = {}
    consumers, terminating, unknown = [], False, False
    for volume in volumes.in_namespace(namespace):
        pod = pod_of(volume, store.cluster)
        if pod is not None and pod.completed:
            continue
        if volume.class_name not in classes:
            classes[volume.class_name] = await _class_or_none(store, namespace, volume.class_name)
        spc = classes[volume.class_name]
        if spc is None:
            unknown = unknown or name in volume.secret_names
            continue
        volumes.set_secret_names(volume.target_path, spc.secret_names)
        entry = next((e for e in reversed(spc.secret_objects) if e.name == name), None)
        if entry is None:
            continue
        if pod is not None and pod.terminating:
            terminating = True
        else:
            consumers.append(Consumer(volume, pod, spc, entry))
    return Usage(tuple(consumers), terminating, unknown)


async def _class_or_none(
    store: ObjectStore, namespace: str, name: str
) -> SecretProviderClass | None:
    try:
        return await store.get_class(namespace, name)
    except (ClassNotFoundError, ClassInvalidError):
        return None
