"""What the engine knows of the cluster around it, beside what it reads and writes. [pure]

Behind it stand mirrors of the Kubernetes API (`kube_cluster`); on a plain machine there is no
cluster (`plain_machine`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.kubernetes.objects import OwnerReference, PodStatus, SecretProviderClass


@dataclass(frozen=True, slots=True)
class CsiVolume:
    """A volume of a pod that a CSI driver serves.

    Attributes:
        name: in the pod.
        driver: the name of the CSI driver.
        attributes: `volumeAttributes`.
        secret_ref: the name in `nodePublishSecretRef`; "" without one.
    """

    name: str
    driver: str
    attributes: Mapping[str, str]
    secret_ref: str = ""


@dataclass(frozen=True, slots=True)
class Pod:
    """What matters of a pod.

    Attributes:
        phase: `Running`, for example.
        terminating: it is being deleted.
        owners: its ReplicaSet, for example.
        volumes: those that a CSI driver serves.
    """

    namespace: str
    name: str
    uid: str
    phase: str = ""
    terminating: bool = False
    service_account: str = ""
    owners: tuple[OwnerReference, ...] = ()
    volumes: tuple[CsiVolume, ...] = field(default=())

    @property
    def completed(self) -> bool:
        """Its containers have ended and will not start again."""
        return self.phase in {"Succeeded", "Failed"}


class ResourceEventHandler(Protocol):
    """Hears what happens, in the task that heard it from the API; so it must not wait."""

    def class_changed(
        self, before: SecretProviderClass | None, after: SecretProviderClass | None
    ) -> None:
        """A class was made, changed or deleted."""

    def pod_changed(self, before: Pod | None, after: Pod | None) -> None:
        """A pod of this node came, changed or went."""

    def status_deleted(self, status: PodStatus) -> None:
        """A pod status of this node was deleted."""

    def secret_changed(self, namespace: str, name: str) -> None:
        """A Secret with our label changed, in a namespace that is watched."""

    def on_reconnected(self) -> None:
        """The API answers again, or for the first time."""


class ClusterView(Protocol):
    """The cluster; the coroutines ask the API and may raise `StoreError`, the rest is known."""

    def subscribe(self, handler: ResourceEventHandler) -> None:
        """Tell `handler` of everything from now on."""

    async def wait_synced(self) -> None:
        """Wait until all that is to be known is known."""

    def classes(self, namespace: str) -> tuple[SecretProviderClass, ...]:
        """The classes of a namespace, those that cannot be read left out."""

    def local_pod_statuses(self) -> tuple[PodStatus, ...]:
        """The pod statuses of this node."""

    def local_pods(self) -> tuple[Pod, ...]:
        """The pods of this node."""

    def local_pod(self, namespace: str, name: str) -> Pod | None:
        """A pod of this node."""

    async def find_pod(self, namespace: str, name: str) -> Pod | None:
        """A pod of any node; None when there is none."""

    async def list_pod_statuses(self, namespace: str) -> tuple[PodStatus, ...]:
        """The pod statuses of all nodes."""

    async def get_node_publish_secret(self, namespace: str, name: str) -> Mapping[str, str]:
        """The data of a Secret that a `nodePublishSecretRef` names."""

    def watch_secrets(self, namespaces: frozenset[str]) -> None:
        """Hear of Secrets in these namespaces, and in no others any more."""

    def secret_resource_version(self, namespace: str, name: str) -> str | None:
        """The resourceVersion of a Secret with our label; None where no watch tells."""
