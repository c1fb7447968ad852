"""The view of the cluster that the engine uses: pods, nodes and Secrets. [pure]

It is implemented by caches of the Kubernetes API (`ClusterCache`); without a cluster,
`NullCluster` has no objects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.kubernetes.names import NamespacedName
    from keyferry.kubernetes.objects import Pod, PodStatus, SecretProviderClass


class SpcChanged(Struct, frozen=True):
    """A SecretProviderClass was created, changed or deleted.

    Attributes:
        before: None when it was created, or could not be parsed before.
        after: None when it was deleted, or can no longer be parsed.
    """

    before: SecretProviderClass | None
    after: SecretProviderClass | None


class PodChanged(Struct, frozen=True):
    """A pod of this node was created, changed or deleted.

    Attributes:
        before: None when it was created.
        after: None when it was deleted.
    """

    before: Pod | None
    after: Pod | None


class PodStatusDeleted(Struct, frozen=True):
    """A pod status of this node was deleted."""

    status: PodStatus


@dataclass(frozen=True, slots=True)
class SecretChanged:
    """A Secret that is watched changed.

    Attributes:
        unused_since: its mark as unused; "" without one.
        deleted: it was deleted, or lost its label.
        resource_version: of its last state that the watch reported.
    """

    namespace: str
    name: str
    unused_since: str = ""
    deleted: bool = False
    resource_version: str = field(default="", compare=False)


class Reconnected(Struct, frozen=True):
    """The Kubernetes API responds again, or for the first time."""


ClusterEvent = SpcChanged | PodChanged | PodStatusDeleted | SecretChanged | Reconnected
ClusterEventHandler = Callable[[ClusterEvent], None]
"""Runs in the task of the watch, so it must not wait."""


class ClusterView(Protocol):
    """Cached objects of the cluster. The coroutines call the API and may raise `StoreError`."""

    def subscribe(self, handler: ClusterEventHandler) -> None:
        """Call `handler` with every later event; handlers run in the order of subscription."""

    async def wait_synced(self) -> None:
        """Wait until all caches are in sync."""

    def classes(self, namespace: str) -> tuple[SecretProviderClass, ...]:
        """Return the valid SecretProviderClasses of a namespace, as far as it is watched."""

    async def list_classes(self, namespace: str) -> tuple[SecretProviderClass, ...]:
        """Return the valid SecretProviderClasses of a namespace, also of one that is not watched.

        Whatever is done because a SecretProviderClass does not exist must depend on this.
        """

    def local_pod_statuses(self) -> tuple[PodStatus, ...]:
        """Return the pod statuses of this node."""

    def local_pods(self) -> tuple[Pod, ...]:
        """Return the pods of this node."""

    def local_pod(self, namespace: str, name: str) -> Pod | None:
        """Return a pod of this node, or None."""

    async def find_pod(self, namespace: str, name: str) -> Pod | None:
        """Return a pod of any node, or None."""

    async def list_pod_statuses(self, namespace: str) -> tuple[PodStatus, ...]:
        """Return the pod statuses of all nodes."""

    async def count_pod_statuses(self, namespace: str) -> int:
        """Return about how many pod statuses a namespace has, with one small request."""

    async def get_node_publish_secret(self, namespace: str, name: str) -> Mapping[str, str]:
        """Return the data of a Secret of `nodePublishSecretRef`."""

    async def list_pending_pods(self, namespace: str) -> tuple[Pod, ...]:
        """Return the pods of all nodes that do not run yet."""

    def watch_secrets(
        self, namespaces: frozenset[str], unmanaged: frozenset[NamespacedName] = frozenset()
    ) -> None:
        """Watch managed Secrets in exactly these namespaces, and exactly these unmanaged ones."""

    def secret_resource_version(self, namespace: str, name: str) -> str | None:
        """Return the resourceVersion of a managed Secret; None if no watch has it."""
