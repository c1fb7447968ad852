"""Reads what of Keyferry is installed in a cluster, and which rights it lacks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from keyferry.errors import StorePermissionError
from keyferry.formats.fields import Field
from keyferry.kubernetes.api.client import ListOptions
from keyferry.kubernetes.api.resources import (
    AccessReviewResource,
    CsiDriverResource,
    DaemonSetResource,
    DeploymentResource,
    ServiceAccountResource,
    resource_name,
)
from keyferry.kubernetes.api.syncs.cache import parse_service_account
from keyferry.kubernetes.names import DRIVER_NAME
from keyferry.kubernetes.syncs.objects import OPT_IN_LABEL
from keyferry.lint.cluster.installation import (
    DRIVER_COMMAND,
    SYNC_COMMAND,
    Installation,
    MissingRight,
    Right,
    Workload,
    parse_csi_driver,
    parse_workloads,
)
from keyferry.lint.cluster.rights import controller_rights, driver_rights
from keyferry.records import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from keyferry.formats.kubernetes_yaml import Value
    from keyferry.kubernetes.api.client import KubeApi
    from keyferry.kubernetes.api.resources import Resource
    from keyferry.kubernetes.object_codec import Manifest
    from keyferry.kubernetes.syncs.objects import ServiceAccountOptIn
    from keyferry.lint.manifests import Manifests

_MAX_CONCURRENT_REVIEWS = 8
_ALL_NAMESPACES = "*"


async def read_installation(
    api: KubeApi, namespace: str, manifests: Manifests, *, warn: Callable[[str], None]
) -> Installation:
    """Read what is installed.

    Args:
        api: the Kubernetes API.
        namespace: the only one that is checked, or `*`.
        manifests: the objects of the cluster, which decide what is needed.
        warn: reports what the caller may not read.

    Raises:
        StoreError: the API is unavailable.
    """
    reader = _Reader(api, warn)
    found = Installation(
        drivers=await reader.workloads(DaemonSetResource, "DaemonSet", DRIVER_COMMAND),
        controllers=await reader.workloads(DeploymentResource, "Deployment", SYNC_COMMAND),
        service_accounts=await reader.service_accounts(namespace),
    )
    found = await reader.csi_driver(found)
    return replace(found, missing_rights=await reader.missing_rights(found, manifests))


class _Reader:
    """Reads one part after the other.

    Args:
        api: the Kubernetes API.
        warn: reports what the caller may not read.
    """

    def __init__(self, api: KubeApi, warn: Callable[[str], None]) -> None:
        self._api = api
        self._warn = warn

    async def workloads(
        self, kind: type[Resource], name: str, command: str
    ) -> tuple[Workload, ...] | None:
        """Return the objects of a kind that run a command of Keyferry; None without permission."""

        def parse(manifest: Mapping[str, Value]) -> tuple[Workload, ...]:
            return parse_workloads([manifest], name, command)

        try:
            found = await self._api.list_parsed(ListOptions(kind), parse)
        except StorePermissionError as error:
            self._warn(f"{resource_name(kind)} are not checked: {error}")
            return None
        return tuple(
            workload
            for each in found
            for workload in each
            if command != DRIVER_COMMAND or workload.flag("drivername", DRIVER_NAME) == DRIVER_NAME
        )

    async def service_accounts(
        self, namespace: str
    ) -> Mapping[tuple[str, str], ServiceAccountOptIn | None] | None:
        """Return the service accounts; None without permission."""
        kind = ServiceAccountResource
        try:
            listed = await self._api.list(ListOptions(kind, namespace, metadata_only=True))
        except StorePermissionError as error:
            self._warn(f"{resource_name(kind)} are not checked: {error}")
            return None
        accounts = (Field(each)["metadata"] for each in listed)
        return {
            (account["namespace"].text(), account["name"].text()): _opt_in(account, each)
            for account, each in zip(accounts, listed, strict=True)
        }

    async def csi_driver(self, found: Installation) -> Installation:
        """Return the installation with its CSIDriver object."""
        try:
            manifest = await self._api.find_global(CsiDriverResource, DRIVER_NAME)
        except StorePermissionError as error:
            self._warn(f"the CSIDriver object is not checked: {error}")
            return found
        driver = parse_csi_driver(manifest) if manifest is not None else None
        return replace(found, csi_driver=driver, has_csi_driver=driver is not None)

    async def missing_rights(
        self, found: Installation, manifests: Manifests
    ) -> tuple[MissingRight, ...]:
        """Return the rights that drivers and controllers lack; none if the caller may not ask."""
        needed = [
            *((each, driver_rights(each, manifests)) for each in found.drivers or ()),
            *((each, controller_rights(each, manifests)) for each in found.controllers or ()),
        ]
        missing: list[MissingRight] = []
        try:
            for workload, rights in needed:
                missing += await self._missing(workload, rights)
        except StorePermissionError as error:
            self._warn(f"the rights of the driver and the controller are not checked: {error}")
            return ()
        return tuple(missing)

    async def _missing(self, workload: Workload, rights: Iterable[Right]) -> list[MissingRight]:
        """Return the missing ones. A right in all namespaces is asked for first, and once."""
        everywhere = dict.fromkeys(replace(right, namespace="") for right in rights)
        granted = dict(zip(everywhere, await self._ask(workload, everywhere), strict=True))
        left = [right for right in rights if not granted[replace(right, namespace="")]]
        answers = await self._ask(workload, [right for right in left if right.namespace])
        named = dict(zip((right for right in left if right.namespace), answers, strict=True))
        return [MissingRight(workload, right) for right in left if not named.get(right)]

    async def _ask(self, workload: Workload, rights: Iterable[Right]) -> list[bool]:
        """Return which rights the service account of a workload has."""
        slots = asyncio.Semaphore(_MAX_CONCURRENT_REVIEWS)

        async def ask(right: Right) -> bool:
            async with slots:
                answer = await self._api.create_global(
                    AccessReviewResource, _review(workload, right)
                )
            status = answer.get("status")
            return isinstance(status, dict) and status.get("allowed") is True

        answers = await asyncio.gather(*map(ask, rights), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return [answer is True for answer in answers]


def _review(workload: Workload, right: Right) -> dict[str, Value]:
    resource, _, subresource = right.resource.partition("/")
    plural, _, group = resource.partition(".")
    return {
        "spec": {
            "user": workload.user,
            "groups": list(workload.groups),
            "resourceAttributes": {
                "namespace": right.namespace,
                "verb": right.verb,
                "group": group,
                "resource": plural,
                "subresource": subresource,
            },
        }
    }


def _opt_in(metadata: Field, account: Manifest) -> ServiceAccountOptIn | None:
    labels = metadata["labels"].text_mapping()
    return parse_service_account(account) if labels.get(OPT_IN_LABEL) == "true" else None
