"""The object store of a plain machine: classes from YAML files, everything else into a folder.

The manifests in the folder are what a cluster would hold. `volume_gone` does what its garbage
collector does.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import TYPE_CHECKING, ParamSpec, TypeVar, assert_never

from keyferry.errors import KeyferryError, StoreError
from keyferry.store.class_files import ClassFiles
from keyferry.store.fields import FieldTypeError
from keyferry.store.interface import Applied, Effect
from keyferry.store.manifest_codec import (
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
from keyferry.store.plain_machine import NoCluster
from keyferry.store.secret_rules import Create, Keep, Recreate, Update, judge

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
    from keyferry.store.present_secret import PresentSecret
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

    async def apply_secret(self, secret: SecretManifest) -> Applied:
        """Create it, or make it equal to `secret`, as `secret_rules` decides.

        Raises:
            SecretForeignError: one of that name is there that Keyferry did not make.
            SecretClaimedError: another class has it.
            StoreError: it cannot be written.
        """
        if self._output is None:
            return Applied(Effect.NONE)
        return await self._write(_apply_secret, self._output, secret)

    async def find_secret(self, namespace: str, name: str) -> PresentSecret | None:
        """The Secret as it is; None when there is none."""
        if self._output is None:
            return None
        return await asyncio.to_thread(_find_secret, self._output, namespace, name)

    async def delete_secret(self, namespace: str, name: str, present: PresentSecret) -> bool:
        """Delete it if it still is as it was; False when it has changed since."""
        if self._output is None:
            return True
        return await self._write(_delete_secret, self._output, namespace, name, present)

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
    return _parsed(stored_status, manifest, f"pod status {namespace}/{name}")


def _apply_pod_status(folder: OutputFolder, status: PodStatus) -> None:
    with folder.locked():
        present = folder.read(Kind.POD_STATUS, status.namespace, status.name)
        labels = _parsed(stored_labels, present, f"pod status {status.namespace}/{status.name}")
        manifest = status_manifest(status, labels)
        if manifest != present:
            folder.write(Kind.POD_STATUS, status.namespace, status.name, manifest)


def _find_secret(folder: OutputFolder, namespace: str, name: str) -> PresentSecret | None:
    manifest = folder.read(Kind.SECRET, namespace, name)
    if manifest is None:
        return None
    return _parsed(_stored_secret, manifest, f"Secret {namespace}/{name}")


def _apply_secret(folder: OutputFolder, secret: SecretManifest) -> Applied:
    at = Kind.SECRET, secret.namespace, secret.name
    with folder.locked():
        present = _find_secret(folder, secret.namespace, secret.name)
        verdict = judge(secret, present)
        there = present.owners if present else ()
        owners = tuple(
            owner
            for owner in merged_owners(there, secret.owners)
            if owner.uid not in secret.disowned
        )
        if not isinstance(verdict, Keep):
            folder.write(*at, secret_manifest(secret, owners))
        elif owners != there:
            folder.write(*at, with_owners(folder.read(*at), owners))
        effect = Effect.UPDATED if owners != there else Effect.NONE
        match verdict:
            case Create():
                effect = Effect.CREATED
            case Update(reverts):
                effect = Effect.REVERTED if reverts else Effect.UPDATED
            case Recreate():
                effect = Effect.RECREATED
            case Keep():
                pass
            case _:
                assert_never(verdict)
        return Applied(effect, earlier_type=present.type if present else "")


def _delete_secret(folder: OutputFolder, namespace: str, name: str, present: PresentSecret) -> bool:
    with folder.locked():
        now = _find_secret(folder, namespace, name)
        if now == present:
            folder.remove_one(Kind.SECRET, namespace, name)
        return now is None or now == present


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
        secret = _parsed_or_none(_stored_secret, manifest)
        if secret is None or not secret.ours:
            continue
        left = [o for o in secret.owners if o.kind != STATUS_KIND or o.uid in alive]
        if len(left) == len(secret.owners):
            continue
        if left:
            folder.replace(path, with_owners(manifest, left))
        else:
            folder.remove(path)


def _stored_secret(manifest: Value) -> PresentSecret:
    return stored_secret(manifest, api=False)


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
