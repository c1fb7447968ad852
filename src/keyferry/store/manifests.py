"""The object store of a plain machine: classes from YAML files, everything else into a folder.

The manifests in the folder are what a cluster would hold. `volume_gone` does what its garbage
collector does.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from keyferry.errors import KeyferryError
from keyferry.store.class_files import ClassFiles
from keyferry.store.fields import FieldTypeError
from keyferry.store.folder_secrets import (
    apply_secret,
    collect_secrets,
    delete_secret,
    find_secret,
    parsed,
    parsed_or_none,
)
from keyferry.store.interface import Applied, Effect
from keyferry.store.manifest_codec import (
    event_manifest,
    health_manifest,
    status_manifest,
    status_owner,
    status_uid,
    stored_health,
    stored_labels,
    stored_status,
    with_health,
)
from keyferry.store.names import MAX_SUBDOMAIN, shortened
from keyferry.store.output_folder import Kind, OutputFolder
from keyferry.store.plain_machine import NoCluster

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from keyferry.store.interface import (
        ClassObject,
        Event,
        Health,
        OwnerReference,
        PodStatus,
        SecretManifest,
    )
    from keyferry.store.present_secret import PresentSecret

T = TypeVar("T")
P = ParamSpec("P")


class ManifestsStore:
    """Implements `ObjectStore` with files. File work is done on threads, one write at a time.

    Args:
        classes: one YAML file, or a folder of them; read anew when it changed.
        output: the folder for Secrets, pod statuses and events; None drops them.
        default_namespace: of the classes that name none.
        clock: tells the time for events.
    """

    def __init__(
        self,
        classes: Path,
        output: Path | None,
        *,
        clock: Callable[[], datetime],
        default_namespace: str = "default",
    ) -> None:
        self._classes = ClassFiles(classes, default_namespace=default_namespace)
        self._output = None if output is None else OutputFolder(output)
        self._clock = clock
        # Keeps waiting writers off the threads; the lock of the folder is what makes them safe.
        self._turn = asyncio.Lock()
        self._cluster = NoCluster()

    @property
    def cluster(self) -> NoCluster:
        """There is none."""
        return self._cluster

    async def get_class(self, namespace: str, name: str) -> ClassObject:
        """The class, or `ClassNotFoundError` or `ClassInvalidError` with file, line and field."""
        return await asyncio.to_thread(self._classes.find, namespace, name)

    async def class_names(self) -> list[tuple[str, str]]:
        """Namespace and name of every class; `ClassInvalidError` when a file is broken."""
        return await asyncio.to_thread(self._classes.names)

    async def find_pod_status(self, namespace: str, name: str) -> PodStatus | None:
        """The pod status of that name, if there is one."""
        if self._output is None:
            return None
        return await asyncio.to_thread(_find_pod_status, self._output, namespace, name)

    async def apply_pod_status(self, status: PodStatus) -> OwnerReference:
        """Create it, or make it equal to `status`; the labels of others stay."""
        if self._output is not None:
            await self._write(_apply_pod_status, self._output, status)
        return status_owner(status)

    async def apply_health(self, namespace: str, name: str, health: Health) -> None:
        """Tell in a pod status how its volume fares; nothing where there is no such pod status."""
        if self._output is not None:
            await self._write(_apply_health, self._output, namespace, name, health)

    async def apply_secret(self, secret: SecretManifest) -> Applied:
        """Create it, or make it equal to `secret`, as `secret_rules` decides.

        Raises:
            SecretForeignError: one of that name is there that Keyferry did not make.
            SecretClaimedError: another class has it.
            StoreError: it cannot be written.
        """
        if self._output is None:
            return Applied(Effect.NONE)
        return await self._write(apply_secret, self._output, secret)

    async def find_secret(self, namespace: str, name: str) -> PresentSecret | None:
        """The Secret as it is; None when there is none."""
        if self._output is None:
            return None
        return await asyncio.to_thread(find_secret, self._output, namespace, name)

    async def delete_secret(self, namespace: str, name: str, present: PresentSecret) -> bool:
        """Delete it if it still is as it was; False when it has changed since."""
        if self._output is None:
            return True
        return await self._write(delete_secret, self._output, namespace, name, present)

    async def record_event(self, event: Event) -> None:
        """Record it, or count it once more; one that cannot be written is lost."""
        if self._output is not None:
            with contextlib.suppress(KeyferryError):
                await self._write(_record_event, self._output, event, self._clock())

    @property
    def events_waiting(self) -> int:
        """None: they are written at once."""
        return 0

    async def volume_gone(self, target_path: str) -> None:
        """Remove the pod statuses of that volume, then our Secrets whose owners are all gone."""
        if self._output is not None and self._output.exists():
            await self._write(_volume_gone, self._output, target_path)

    def problem(self) -> str | None:
        """Nothing: files are read when they are asked for."""
        return None

    async def remove_taint(self, node: str, key: str) -> bool:
        """Nothing: there are no nodes."""
        del node, key
        return False

    async def _write(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        async with self._turn:
            return await asyncio.to_thread(function, *args, **kwargs)


# --- on a thread ----------------------------------------------------------------------------------


def _find_pod_status(folder: OutputFolder, namespace: str, name: str) -> PodStatus | None:
    manifest = folder.read(Kind.POD_STATUS, namespace, name)
    if manifest is None:
        return None
    return parsed(stored_status, manifest, f"pod status {namespace}/{name}")


def _apply_pod_status(folder: OutputFolder, status: PodStatus) -> None:
    with folder.locked():
        present = folder.read(Kind.POD_STATUS, status.namespace, status.name)
        labels = parsed(stored_labels, present, f"pod status {status.namespace}/{status.name}")
        manifest = with_health(status_manifest(status, labels), stored_health(present))
        if manifest != present:
            folder.write(Kind.POD_STATUS, status.namespace, status.name, manifest)


def _apply_health(folder: OutputFolder, namespace: str, name: str, health: Health) -> None:
    with folder.locked():
        present = folder.read(Kind.POD_STATUS, namespace, name)
        if isinstance(present, dict):
            told = with_health(present, health_manifest(health))
            folder.write(Kind.POD_STATUS, namespace, name, told)


def _record_event(folder: OutputFolder, event: Event, now: datetime) -> None:
    identity = f"{event.about.name}\n{event.about.uid}\n{event.reason}\n{event.message}"
    digest = hashlib.sha256(identity.encode(errors="replace")).hexdigest()[:16]
    name = f"{shortened(event.about.name, limit=MAX_SUBDOMAIN - len(digest) - 1)}.{digest}"
    with folder.locked():
        earlier = folder.read(Kind.EVENT, event.about.namespace, name)
        try:
            manifest = event_manifest(event, name, now=now, earlier=earlier)
        except FieldTypeError:
            manifest = event_manifest(event, name, now=now, earlier=None)
        folder.write(Kind.EVENT, event.about.namespace, name, manifest)


def _volume_gone(folder: OutputFolder, target_path: str) -> None:
    with folder.locked():
        folder.sweep()
        alive = set()
        all_known = True
        for path, manifest in folder.everything(Kind.POD_STATUS):
            status = parsed_or_none(stored_status, manifest)
            if status is None:
                all_known = False
            elif status.target_path == target_path:
                folder.remove(path)
            else:
                alive.add(status_uid(status))
        # A Secret may belong to a status that cannot be read; then it is safer to keep too much.
        if all_known:
            collect_secrets(folder, alive)
