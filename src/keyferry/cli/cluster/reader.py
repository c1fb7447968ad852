"""Reads the objects that `keyferry status` and `keyferry refresh` show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.cli.console import console

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from keyferry.cli.cluster.connection import Cluster
    from keyferry.kubernetes.api.client import ListOptions
    from keyferry.kubernetes.api.resources import Resource
    from keyferry.kubernetes.object_codec import Manifest
    from keyferry.kubernetes.syncs.groups import SyncGroup
    from keyferry.kubernetes.syncs.objects import SecretSync


class ClusterReader:
    """Reads objects of one namespace or all.

    What may not be read is missing, and reported once. A kind whose CRD is not installed has no
    objects.

    Args:
        cluster: has the objects.
        all_namespaces: whether to read all namespaces.
        missing: what a warning says of SecretSyncs and volumes that may not be read.
        report: called with each warning; None prints it.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        all_namespaces: bool = False,
        missing: str = "are not shown",
        report: Callable[[str], None] | None = None,
    ) -> None:
        self._api = cluster.api
        self._warn = report or console().warn
        self._missing = missing
        self._namespace = "*" if all_namespaces else cluster.namespace
        self._reported: set[str] = set()

    async def sync_groups(self) -> list[SyncGroup]:
        """Return the API groups of SecretSyncs whose CRD is installed."""
        return [group for group in _groups() if await self._serves(group)]

    async def syncs(self, *, required: bool = False) -> list[SecretSync] | None:
        """Return the SecretSyncs of all API groups; None if the cluster knows no SecretSyncs.

        Raises:
            StorePermissionError: they are required and may not be read.
        """
        from keyferry.inventory.syncs import parse_syncs

        served = {group: await self._syncs_of(group, required=required) for group in _groups()}
        if all(manifests is None for manifests in served.values()):
            return None
        return parse_syncs(
            (group, each) for group, manifests in served.items() for each in manifests or ()
        )

    async def _syncs_of(self, group: SyncGroup, *, required: bool) -> tuple[Manifest, ...] | None:
        """Return the SecretSyncs of an API group; None if its CRD is not installed."""
        from keyferry.errors import StorePermissionError
        from keyferry.kubernetes.api.api_errors import ApiNotFoundError
        from keyferry.kubernetes.api.client import ListOptions
        from keyferry.kubernetes.api.syncs.resources import sync_resource

        kind = sync_resource(group)
        try:
            return await self._api.list(ListOptions(kind, self._namespace))
        except ApiNotFoundError:
            return None
        except StorePermissionError:
            if not await self._serves(group):
                return None  # the API checks permissions first
            if required:
                raise
            self._report(kind, f"SecretSyncs {self._missing}")
            return ()

    async def _serves(self, group: SyncGroup) -> bool:
        from keyferry.errors import StoreError
        from keyferry.kubernetes.api.api_errors import ApiNotFoundError

        try:
            await self._api.openapi(str(group))
        except ApiNotFoundError:
            return False
        except StoreError:
            return True
        return True

    async def pod_statuses(self, syncs: list[SecretSync] | None) -> tuple[Manifest, ...]:
        """Return the pod statuses.

        Args:
            syncs: the SecretSyncs. Without any, the pod statuses are required.

        Raises:
            StoreError: they are required and cannot be read.
        """
        from keyferry.errors import StorePermissionError
        from keyferry.kubernetes.api.api_errors import ApiNotFoundError
        from keyferry.kubernetes.api.client import ListOptions
        from keyferry.kubernetes.api.resources import PodStatusResource

        try:
            return await self._api.list(ListOptions(PodStatusResource, self._namespace))
        except ApiNotFoundError:
            if syncs is None:
                raise
            return ()  # the SecretSync controller runs without a driver
        except StorePermissionError:
            if not syncs:
                raise
            self._report(PodStatusResource, f"volumes of pods {self._missing}")
            return ()

    async def classes(self) -> tuple[Manifest, ...]:
        """Return the SecretProviderClasses."""
        from keyferry.kubernetes.api.client import ListOptions
        from keyferry.kubernetes.api.resources import SecretProviderClassResource

        return await self._list(ListOptions(SecretProviderClassResource, self._namespace))

    async def pods(self, *, report: bool = True) -> tuple[Manifest, ...]:
        """Return the pods; with `report`, say so if they may not be read."""
        from keyferry.kubernetes.api.client import ListOptions
        from keyferry.kubernetes.api.resources import PodResource

        return await self._list(ListOptions(PodResource, self._namespace), report=report)

    async def driver_secrets(self) -> tuple[Manifest, ...]:
        """Return the metadata of the Secrets of SecretProviderClasses."""
        from keyferry.kubernetes.markings import DRIVER_MARKING

        labels = {DRIVER_MARKING.label: DRIVER_MARKING.label_value}
        return await self._secrets(labels, required=False)

    async def all_secrets(self) -> tuple[Manifest, ...]:
        """Return the metadata of the Secrets of SecretProviderClasses and SecretSyncs.

        Raises:
            StorePermissionError: they may not be read.
        """
        from keyferry.kubernetes.markings import DRIVER_MARKING, SYNC_LABEL

        labels = {DRIVER_MARKING.label: DRIVER_MARKING.label_value}
        return (
            *await self._secrets(labels, required=True),
            *await self._secrets({SYNC_LABEL: None}, required=True),
        )

    async def _secrets(
        self, labels: Mapping[str, str | None], *, required: bool
    ) -> tuple[Manifest, ...]:
        from keyferry.kubernetes.api.client import ListOptions
        from keyferry.kubernetes.api.resources import SecretResource

        selection = ListOptions(SecretResource, self._namespace, labels, metadata_only=True)
        return await self._list(selection, required=required)

    async def service_accounts(self) -> tuple[Manifest, ...]:
        """Return the service accounts."""
        from keyferry.kubernetes.api.client import ListOptions
        from keyferry.kubernetes.api.resources import ServiceAccountResource

        return await self._list(ListOptions(ServiceAccountResource, self._namespace))

    async def ingresses(self) -> tuple[Manifest, ...]:
        """Return the ingresses."""
        from keyferry.kubernetes.api.client import ListOptions
        from keyferry.kubernetes.api.resources import IngressResource

        return await self._list(ListOptions(IngressResource, self._namespace))

    async def _list(
        self, selection: ListOptions, *, required: bool = False, report: bool = True
    ) -> tuple[Manifest, ...]:
        from keyferry.errors import StorePermissionError
        from keyferry.kubernetes.api.api_errors import ApiNotFoundError

        try:
            return await self._api.list(selection)
        except ApiNotFoundError:
            return ()
        except StorePermissionError:
            if required:
                raise
            if report:
                self._report(selection.kind, "what depends on them is empty")
            return ()

    def _report(self, kind: type[Resource], effect: str) -> None:
        """Warn that a kind may not be read, once."""
        from keyferry.kubernetes.api.resources import resource_name

        name = resource_name(kind)
        if name not in self._reported:
            self._reported.add(name)
            self._warn(f"{name} cannot be listed (permission denied): {effect}")


def _groups() -> tuple[SyncGroup, ...]:
    from keyferry.kubernetes.syncs.groups import GKE_GROUP, UPSTREAM_GROUP

    return UPSTREAM_GROUP, GKE_GROUP
