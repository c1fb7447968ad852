"""What the status page shows on the machine of a user, with the rights of the kubeconfig."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from itertools import groupby
from typing import TYPE_CHECKING

from keyferry.aio.clock import SystemClock
from keyferry.cli.cluster.reader import ClusterReader
from keyferry.errors import ClassInvalidError
from keyferry.inventory.objects import ClusterObjects, object_rows
from keyferry.kubernetes.api.api_errors import ApiStatusError
from keyferry.kubernetes.class_codec import parse_class
from keyferry.status_page.facts import ClassFacts, ClusterFacts, ProcessFacts
from keyferry.status_page.reading import ClassReader, Notes, read_processes
from keyferry.status_page.scraping import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keyferry.cli.cluster.connection import Cluster
    from keyferry.kubernetes.object_codec import Manifest
    from keyferry.kubernetes.objects import SecretProviderClass
    from keyferry.status_page.scraping import Target


class UserSource:
    """Implements `StatusSource` with requests of the user.

    Args:
        cluster: the connection.
        all_namespaces: whether to read all namespaces.
    """

    def __init__(self, cluster: Cluster, *, all_namespaces: bool) -> None:
        self._cluster = cluster
        self._all_namespaces = all_namespaces
        self._classes = ClassReader()
        self._denied = False

    async def read_cluster(self) -> ClusterFacts:
        """Read the objects as `keyferry status` does."""
        notes: list[str] = []

        def note(problem: str) -> None:
            notes.append(f"{problem[:1].upper()}{problem[1:]}.")

        reader = ClusterReader(self._cluster, all_namespaces=self._all_namespaces, report=note)
        syncs = await reader.syncs()
        statuses = await reader.pod_statuses(syncs)
        classes = await reader.classes()
        objects = ClusterObjects(
            statuses, classes, await reader.pods(report=False), await reader.driver_secrets()
        )
        volumes = groupby(
            object_rows(objects), key=lambda row: (row.namespace, row.pod, row.class_name)
        )
        valid, invalid = _parse_classes(classes)
        return ClusterFacts(
            datetime.now(UTC),
            tuple(tuple(rows) for _, rows in volumes),
            tuple(syncs or ()),
            await self._classes.facts(valid) + tuple(invalid),
            tuple(notes),
        )

    async def read_processes(self) -> ProcessFacts:
        """Read the metrics of all processes, through the Kubernetes API."""
        self._denied = False
        notes = Notes("You")
        found = await read_processes(self._cluster.api, "*", self, notes, SystemClock().wall)
        if not self._denied:
            return found
        note = "You may not get pods/proxy of the drivers, so the state of vaults is unknown."
        return ProcessFacts(found.read_at, notes=(*found.notes, note))

    async def read(self, target: Target) -> bytes:
        """Implement `MetricsReader`: the API server connects to the pod."""
        try:
            return await self._cluster.api.pod_page(
                target.namespace, target.pod, target.port, "metrics", max_bytes=MAX_BYTES
            )
        except ApiStatusError as error:
            self._denied |= error.http_status == HTTPStatus.FORBIDDEN
            raise


def _parse_classes(
    manifests: Iterable[Manifest],
) -> tuple[list[SecretProviderClass], list[ClassFacts]]:
    """Return the valid SecretProviderClasses, and what is known of the others."""
    valid: list[SecretProviderClass] = []
    invalid: list[ClassFacts] = []
    for manifest in manifests:
        try:
            valid.append(parse_class(manifest, default_namespace=""))
        except ClassInvalidError as error:
            metadata = manifest.get("metadata")
            named = metadata if isinstance(metadata, dict) else {}
            invalid.append(
                ClassFacts(
                    str(named.get("namespace") or ""),
                    str(named.get("name") or ""),
                    problem=error.problem,
                )
            )
    return valid, invalid
