"""An empty cluster, for machines without Kubernetes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.kubernetes.cluster import ClusterEventHandler
    from keyferry.kubernetes.names import NamespacedName
    from keyferry.kubernetes.objects import Pod, PodStatus, SecretProviderClass


class NullCluster:
    """Implements `ClusterView` without a cluster."""

    def subscribe(self, handler: ClusterEventHandler) -> None:
        """Ignore `handler`: there is no cluster, hence no event."""

    async def wait_synced(self) -> None:
        """Return at once: there is nothing to cache."""

    def classes(self, namespace: str) -> tuple[SecretProviderClass, ...]:
        """Return no SecretProviderClass: files are read when needed."""
        del namespace
        return ()

    async def list_classes(self, namespace: str) -> tuple[SecretProviderClass, ...]:
        """Return no SecretProviderClass."""
        del namespace
        return ()

    def local_pod_statuses(self) -> tuple[PodStatus, ...]:
        """Return an empty tuple."""
        return ()

    def local_pods(self) -> tuple[Pod, ...]:
        """Return an empty tuple."""
        return ()

    def local_pod(self, namespace: str, name: str) -> Pod | None:
        """Return None: there are no pods."""
        del namespace, name
        return None

    async def find_pod(self, namespace: str, name: str) -> Pod | None:
        """Return None: there are no pods."""
        del namespace, name
        return None

    async def list_pod_statuses(self, namespace: str) -> tuple[PodStatus, ...]:
        """Return an empty tuple."""
        del namespace
        return ()

    async def count_pod_statuses(self, namespace: str) -> int:
        """Return 0."""
        del namespace
        return 0

    async def get_node_publish_secret(self, namespace: str, name: str) -> Mapping[str, str]:
        """Return no data."""
        del namespace, name
        return {}

    async def list_pending_pods(self, namespace: str) -> tuple[Pod, ...]:
        """Return an empty tuple."""
        del namespace
        return ()

    def watch_secrets(
        self, namespaces: frozenset[str], unmanaged: frozenset[NamespacedName] = frozenset()
    ) -> None:
        """Do nothing: no Secret can be watched."""

    def secret_resource_version(self, namespace: str, name: str) -> str | None:
        """Return None: no Secret is watched."""
        del namespace, name
        return None
