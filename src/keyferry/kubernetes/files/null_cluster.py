"""The cluster of a machine that has none."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.kubernetes.cluster import ClusterEventHandler
    from keyferry.kubernetes.objects import Pod, PodStatus, SecretProviderClass


class NullCluster:
    """Implements `ClusterView` without a cluster."""

    def subscribe(self, handler: ClusterEventHandler) -> None:
        """Ignore `handler`: there is no cluster, hence no event."""

    async def wait_synced(self) -> None:
        """Nothing is to be known."""

    def classes(self, namespace: str) -> tuple[SecretProviderClass, ...]:
        """None is known beforehand."""
        del namespace
        return ()

    def local_pod_statuses(self) -> tuple[PodStatus, ...]:
        """None."""
        return ()

    def local_pods(self) -> tuple[Pod, ...]:
        """None."""
        return ()

    def local_pod(self, namespace: str, name: str) -> Pod | None:
        """None."""
        del namespace, name
        return None

    async def find_pod(self, namespace: str, name: str) -> Pod | None:
        """None."""
        del namespace, name
        return None

    async def list_pod_statuses(self, namespace: str) -> tuple[PodStatus, ...]:
        """None."""
        del namespace
        return ()

    async def get_node_publish_secret(self, namespace: str, name: str) -> Mapping[str, str]:
        """Nothing."""
        del namespace, name
        return {}

    def watch_secrets(self, namespaces: frozenset[str]) -> None:
        """Nothing will change."""

    def secret_resource_version(self, namespace: str, name: str) -> str | None:
        """No watch, so None."""
        del namespace, name
        return None
