"""The object store of a plain machine: classes from YAML files, everything else into a folder.

The manifests in the folder are what a cluster would hold. `volume_gone` does what its garbage
collector does.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from keyferry.errors import KeyferryError, StoreError
from keyferry.store.class_files import ClassFiles
from keyferry.store.fields import FieldTypeError
from keyferry.store.manifest_codec import (
    MANAGED_LABEL,
    STATUS_KIND,
    event_manifest,
    merged_owners,
    secret_manifest,
    status_manifest,
    status_owner,
    status_uid,
    stored_labels,
    stored_secret,
    stored_status,
    with_owners,
)
from keyferry.store.names import MAX_SUBDOMAIN, shortened
from keyferry.store.output_folder import Kind, OutputFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Set
    from datetime import datetime
    from pathlib import Path

    from keyferry.store.interface import (
        ClassObject,
        Event,
        OwnerReference,
        PodStatus,
        SecretManifest,
    )
    from keyferry.store.yaml_documents import Value

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

    async def apply_secret(self, secret: SecretManifest) -> bool:
        """Create it, or make it equal to `secret`, adding its owners; True when it changed.

        Raises:
            StoreError: one of that name is there that Keyferry did not make, or it cannot be
                written.
        """
        if self._output is None:
            return False
        return await self._write(_apply_secret, self._output, secret)

    async def record_event(self, event: Event) -> None:
        """Record it, or count it once more; one that cannot be written is lost."""
        if self._output is not None:
            with contextlib.suppress(KeyferryError):
                await self._write(_record_event, self._output, event, self._clock())

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
    return _parsed(stored_status, manifest, f"pod status {namespace}/{name}")


def _apply_pod_status(folder: OutputFolder, status: PodStatus) -> None:
    with folder.locked():
        present = folder.read(Kind.POD_STATUS, status.namespace, status.name)
        labels = _parsed(stored_labels, present, f"pod status {status.namespace}/{status.name}")
        manifest = status_manifest(status, labels)
        if manifest != present:
            folder.write(Kind.POD_STATUS, status.namespace, status.name, manifest)


def _apply_secret(folder: OutputFolder, secret: SecretManifest) -> bool:
    with folder.locked():
        present = folder.read(Kind.SECRET, secret.namespace, secret.name)
        owners = secret.owners
        if present is not None:
            who = f"Secret {secret.namespace}/{secret.name}"
            stored = _parsed(stored_secret, present, who)
            if not stored.managed:
                raise StoreError(
                    f"{who} was not made by Keyferry: it is there without label {MANAGED_LABEL}",
                    "Choose another secretName, or remove that Secret, or give it the label: true.",
                )
            owners = merged_owners(stored.owners, secret.owners)
        manifest = secret_manifest(secret, owners)
        if manifest == present:
            return False
        folder.write(Kind.SECRET, secret.namespace, secret.name, manifest)
        return True


def _record_event(folder: OutputFolder, event: Event, now: datetime) -> None:
    identity = f"{event.pod.name}\n{event.pod.uid}\n{event.reason}\n{event.message}"
    digest = hashlib.sha256(identity.encode(errors="replace")).hexdigest()[:16]
    name = f"{shortened(event.pod.name, limit=MAX_SUBDOMAIN - len(digest) - 1)}.{digest}"
    with folder.locked():
        earlier = folder.read(Kind.EVENT, event.pod.namespace, name)
        try:
            manifest = event_manifest(event, name, now=now, earlier=earlier)
        except FieldTypeError:
            manifest = event_manifest(event, name, now=now, earlier=None)
        folder.write(Kind.EVENT, event.pod.namespace, name, manifest)


def _volume_gone(folder: OutputFolder, target_path: str) -> None:
    with folder.locked():
        folder.sweep()
        alive = set()
        all_known = True
        for path, manifest in folder.everything(Kind.POD_STATUS):
            status = _parsed_or_none(stored_status, manifest)
            if status is None:
                all_known = False
            elif status.target_path == target_path:
                folder.remove(path)
            else:
                alive.add(status_uid(status))
        # A Secret may belong to a status that cannot be read; then it is safer to keep too much.
        if all_known:
            _collect_secrets(folder, alive)


def _collect_secrets(folder: OutputFolder, alive: Set[str]) -> None:
    """Take dead owners off our Secrets, and remove the Secrets that had no other."""
    for path, manifest in folder.everything(Kind.SECRET):
        secret = _parsed_or_none(stored_secret, manifest)
        if secret is None or not secret.managed:
            continue
        left = [o for o in secret.owners if o.kind != STATUS_KIND or o.uid in alive]
        if len(left) == len(secret.owners):
            continue
        if left:
            folder.replace(path, with_owners(manifest, left))
        else:
            folder.remove(path)


def _parsed(parse: Callable[[Value], T], manifest: Value, who: str) -> T:
    try:
        return parse(manifest)
    except FieldTypeError as error:
        raise StoreError(
            f"the manifest of {who} was changed: {error.problem}", "Mend the file or remove it."
        ) from error


def _parsed_or_none(parse: Callable[[Value], T], manifest: Value) -> T | None:
    try:
        return None if manifest is None else parse(manifest)
    except FieldTypeError:
        return None
