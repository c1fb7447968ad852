"""The cluster of a machine that has none."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.store.cluster import ClusterListener, PodFacts
    from keyferry.store.interface import ClassObject, PodStatus


class NoCluster:
    """Implements `Cluster` where there is none."""

    def subscribe(self, listener: ClusterListener) -> None:
        """Nothing will happen."""

    async def wait_synced(self) -> None:
        """Nothing is to be known."""

    def classes(self, namespace: str) -> tuple[ClassObject, ...]:
        """None is known beforehand."""
        del namespace
        return ()

    def statuses(self) -> tuple[PodStatus, ...]:
        """None."""
        return ()

    def pods(self) -> tuple[PodFacts, ...]:
        """None."""
        return ()

    def pod(self, namespace: str, name: str) -> PodFacts | None:
        """None."""
        del namespace, name
        return None

    async def find_pod(self, namespace: str, name: str) -> PodFacts | None:
        """None."""
        del namespace, name
        return None

    async def pod_statuses(self, namespace: str) -> tuple[PodStatus, ...]:
        """None."""
        del namespace
        return ()

    async def secret_texts(self, namespace: str, name: str) -> Mapping[str, str]:
        """Nothing."""
        del namespace, name
        return {}

    def watch_secrets(self, namespaces: frozenset[str]) -> None:
        """Nothing will change."""

    def secret_version(self, namespace: str, name: str) -> str | None:
        """Nothing tells."""
        del namespace, name
        return None
