"""Implements the object store without Kubernetes: reads SecretProviderClasses, writes manifests.

The manifests in the folder are what a cluster would hold. `volume_removed` does what its garbage
collector does.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from keyferry.errors import KeyferryError
from keyferry.formats.fields import FieldTypeError
from keyferry.kubernetes.files.class_files import ClassFiles, ClassListing
from keyferry.kubernetes.files.directory import ManifestDirectory, ManifestKind
from keyferry.kubernetes.files.null_cluster import NullCluster
from keyferry.kubernetes.files.secrets import (
    parse_or_none,
    parse_or_raise,
    read_secret,
    release_secret,
    remove_orphaned_secrets,
    remove_secret,
    write_secret,
)
from keyferry.kubernetes.names import MAX_SUBDOMAIN, shortened
from keyferry.kubernetes.object_codec import (
    event_manifest,
    parse_labels,
    parse_pod_status,
    pod_status_manifest,
    pod_status_owner,
    pod_status_uid,
    refresh_status_manifest,
    refresh_status_of,
    with_refresh_status,
)
from keyferry.kubernetes.objects import ApplyOutcome, ApplyResult
from keyferry.kubernetes.pod_status import (
    continued_condition,
    is_condition_recorded,
    is_recorded,
    rewrite_interval,
)
from keyferry.records import replace
from keyferry.telemetry.help_links import NO_LINKS

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from keyferry.aio.clock import Clock
    from keyferry.kubernetes.live_secret import LiveSecret
    from keyferry.kubernetes.objects import (
        DesiredSecret,
        Event,
        OwnerReference,
        PodStatus,
        RefreshCondition,
        SecretProviderClass,
    )
    from keyferry.telemetry.help_links import HelpLinks

T = TypeVar("T")
P = ParamSpec("P")


class ManifestsStore:
    """Implements `ObjectStore` with files. File work is done on threads, one write at a time.

    Args:
        classes: one YAML file, or a folder of them; read again after a change.
        output: the folder for Secrets, pod statuses and events; None drops them.
        default_namespace: of SecretProviderClasses without one.
        clock: reads the time for events.
        content: YAML to use in place of `classes`, which then is only a name; None to read files.
        links: add links to the messages of warnings.
    """

    def __init__(
        self,
        classes: Path,
        output: Path | None,
        *,
        clock: Clock,
        default_namespace: str = "default",
        content: bytes | None = None,
        links: HelpLinks = NO_LINKS,
    ) -> None:
        self._classes = ClassFiles(classes, default_namespace=default_namespace, content=content)
        self._directory = None if output is None else ManifestDirectory(output)
        self._clock = clock
        self._links = links
        # Waiting writers occupy no threads. The lock of the directory makes writes safe.
        self._write_lock = asyncio.Lock()
        self._cluster = NullCluster()

    @property
    def cluster(self) -> NullCluster:
        """An empty cluster."""
        return self._cluster

    async def get_class(self, namespace: str, name: str) -> SecretProviderClass:
        """Return a SecretProviderClass; errors name the file, line and field."""
        return await asyncio.to_thread(self._classes.find, namespace, name)

    async def list_classes(self) -> ClassListing:
        """Return the names of all SecretProviderClasses, and what else the files contain.

        Raises:
            StoreError: the files cannot be listed.
        """
        return await asyncio.to_thread(self._classes.listing)

    async def find_pod_status(self, namespace: str, name: str) -> PodStatus | None:
        """Return a pod status, or None."""
        if self._directory is None:
            return None
        return await asyncio.to_thread(_read_pod_status, self._directory, namespace, name)

    async def apply_pod_status(self, status: PodStatus) -> OwnerReference:
        """Create or update a pod status; labels of others stay."""
        if self._directory is not None:
            await self._write(_write_pod_status, self._directory, status)
        return pod_status_owner(status)

    async def apply_refresh_condition(
        self, namespace: str, name: str, condition: RefreshCondition
    ) -> None:
        """Write the Refreshed condition of a pod status; no-op if it does not exist."""
        if self._directory is not None:
            await self._write(_write_refresh_condition, self._directory, namespace, name, condition)

    async def apply_secret(self, secret: DesiredSecret) -> ApplyResult:
        """Create or update a Secret as `plan_secret` decides.

        Raises:
            SecretNotManagedError: a Secret of that name exists that Keyferry does not manage.
            SecretConflictError: it belongs to another SecretProviderClass.
            StoreError: it cannot be written.
        """
        if self._directory is None:
            return ApplyResult(ApplyOutcome.UNCHANGED)
        return await self._write(write_secret, self._directory, secret)

    async def find_secret(self, namespace: str, name: str) -> LiveSecret | None:
        """Return the live Secret, or None."""
        if self._directory is None:
            return None
        return await asyncio.to_thread(read_secret, self._directory, namespace, name)

    async def delete_secret(self, namespace: str, name: str, expected: LiveSecret) -> bool:
        """Delete a Secret if it is still `expected`. Returns False if it changed."""
        if self._directory is None:
            return True
        return await self._write(remove_secret, self._directory, namespace, name, expected)

    async def mark_secret_unused(
        self,
        namespace: str,
        name: str,
        expected: LiveSecret,
        *,
        since: str,
        owner: OwnerReference | None,
    ) -> bool:
        """Return True: there is no grace period without a cluster."""
        del namespace, name, expected, since, owner
        return True

    async def release_secret(self, namespace: str, name: str, expected: LiveSecret) -> bool:
        """Remove what Keyferry wrote to an adopted Secret. Returns False if it changed."""
        if self._directory is None:
            return True
        return await self._write(release_secret, self._directory, namespace, name, expected)

    async def record_event(self, event: Event) -> None:
        """Write an event or increase its count; an event that cannot be written is dropped."""
        if self._directory is not None:
            with contextlib.suppress(KeyferryError):
                now = self._clock.wall()
                await self._write(_write_event, self._directory, event, now, self._links)

    @property
    def pending_events(self) -> int:
        """Always 0: events are written at once."""
        return 0

    async def volume_removed(self, target_path: str) -> None:
        """Remove the pod statuses of the volume, then managed Secrets without an owner."""
        if self._directory is not None and self._directory.is_created():
            await self._write(_collect_garbage, self._directory, target_path)

    def problem(self) -> str | None:
        """Return why the folder of manifests cannot be used, or None."""
        return None if self._directory is None else self._directory.problem()

    async def remove_taint(self, node: str, key: str) -> bool:
        """Return False: there are no nodes."""
        del node, key
        return False

    async def _write(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        async with self._write_lock:
            return await asyncio.to_thread(function, *args, **kwargs)


# --- on a thread ----------------------------------------------------------------------------------


def _read_pod_status(directory: ManifestDirectory, namespace: str, name: str) -> PodStatus | None:
    manifest = directory.read(ManifestKind.POD_STATUS, namespace, name)
    if manifest is None:
        return None
    return parse_or_raise(parse_pod_status, manifest, f"pod status {namespace}/{name}")


def _write_pod_status(directory: ManifestDirectory, status: PodStatus) -> None:
    with directory.locked():
        present = directory.read(ManifestKind.POD_STATUS, status.namespace, status.name)
        labels = parse_or_raise(
            parse_labels, present, f"pod status {status.namespace}/{status.name}"
        )
        known = parse_or_none(parse_pod_status, present) if present is not None else None
        if status.refresh is not None:
            known_refresh = known.refresh if known else None
            status = replace(status, refresh=continued_condition(known_refresh, status.refresh))
        manifest = pod_status_manifest(status, labels)
        if status.refresh is None or (known is not None and is_recorded(known, status)):
            manifest = with_refresh_status(manifest, refresh_status_of(present))
        if manifest != present:
            directory.write(ManifestKind.POD_STATUS, status.namespace, status.name, manifest)


def _write_refresh_condition(
    directory: ManifestDirectory, namespace: str, name: str, condition: RefreshCondition
) -> None:
    with directory.locked():
        present = directory.read(ManifestKind.POD_STATUS, namespace, name)
        if not isinstance(present, dict):
            return
        status = parse_or_none(parse_pod_status, present)
        known = status.refresh if status else None
        condition = continued_condition(known, condition)
        if known is None or not is_condition_recorded(
            known, condition, rewrite_interval(namespace, name)
        ):
            updated = with_refresh_status(present, refresh_status_manifest(condition))
            directory.write(ManifestKind.POD_STATUS, namespace, name, updated)


def _write_event(
    directory: ManifestDirectory, event: Event, now: datetime, links: HelpLinks
) -> None:
    pod = event.involved_object
    identity = "\n".join((pod.name, pod.uid, *map(str, event.key[1:])))
    digest = hashlib.sha256(identity.encode(errors="replace")).hexdigest()[:16]
    name = (
        f"{shortened(event.involved_object.name, limit=MAX_SUBDOMAIN - len(digest) - 1)}.{digest}"
    )
    with directory.locked():
        earlier = directory.read(ManifestKind.EVENT, event.involved_object.namespace, name)
        try:
            manifest = event_manifest(event, name, now=now, previous=earlier, links=links)
        except FieldTypeError:
            manifest = event_manifest(event, name, now=now, previous=None, links=links)
        directory.write(ManifestKind.EVENT, event.involved_object.namespace, name, manifest)


def _collect_garbage(directory: ManifestDirectory, target_path: str) -> None:
    with directory.locked():
        directory.remove_temporary_files()
        alive = set()
        all_known = True
        for path, manifest in directory.list_all(ManifestKind.POD_STATUS):
            status = parse_or_none(parse_pod_status, manifest)
            if status is None:
                all_known = False
            elif status.target_path == target_path:
                directory.remove_file(path)
            else:
                alive.add(pod_status_uid(status))
        # A Secret may belong to a pod status that cannot be read; then all Secrets are kept.
        if all_known:
            remove_orphaned_secrets(directory, alive)
