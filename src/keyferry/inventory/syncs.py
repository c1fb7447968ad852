"""The versions that the Secrets of SecretSyncs have, from the statuses of the SecretSyncs. [pure]

Invalid objects, which only somebody else can have written, are skipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.kubernetes.syncs.codec import parse_sync
from keyferry.kubernetes.syncs.conditions import READY
from keyferry.kubernetes.syncs.objects import ConditionStatus, SyncedObject
from keyferry.kubernetes.syncs.sync_errors import SyncInvalidError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from keyferry.kubernetes.object_codec import Manifest
    from keyferry.kubernetes.syncs.groups import SyncGroup
    from keyferry.kubernetes.syncs.objects import SecretSync

NOT_YET_HANDLED = "the SecretSync changed, and no controller has handled the change yet"


class SyncRow(Struct, frozen=True):
    """One object in the Secret of a SecretSync.

    Attributes:
        namespace: of the SecretSync.
        sync: its name, and that of the Secret.
        class_name: the SecretProviderClass.
        service_account: whose token logs in to the vault.
        object: its id, such as `secret/db-password`; "" if the status names no object.
        version: in the Secret.
        expires_at: when the object expires; None if it does not, or if that is unknown.
        synced_at: time of the last success that changed something; None without one.
        ready: status of the condition Ready: `True`, `False` or `Unknown`; "" without it.
        reason: of this condition.
        problem: why the Secret is not up to date; "" if it is.
    """

    namespace: str
    sync: str
    class_name: str
    service_account: str
    object: str
    version: str
    expires_at: datetime | None = None
    synced_at: datetime | None = None
    ready: str = ""
    reason: str = ""
    problem: str = ""


def parse_syncs(manifests: Iterable[tuple[SyncGroup, Manifest]]) -> list[SecretSync]:
    """Return the SecretSyncs that are not being deleted, sorted by namespace and name."""
    found = []
    for group, manifest in manifests:
        try:
            sync = parse_sync(manifest, group)
        except SyncInvalidError:
            continue
        if not sync.terminating:
            found.append(sync)
    return sorted(found, key=lambda sync: (str(sync.ref), str(sync.ref.group)))


def sync_rows(syncs: Iterable[SecretSync]) -> list[SyncRow]:
    """Return a row for each object of each SecretSync, and one for a SecretSync without objects."""
    return [
        SyncRow(
            sync.ref.namespace,
            sync.ref.name,
            sync.class_name,
            sync.service_account,
            item.id,
            item.version,
            item.expires,
            sync.status.last_success,
            *_ready(sync),
            sync_problem(sync),
        )
        for sync in syncs
        for item in sorted(sync.status.objects or _NO_OBJECTS, key=lambda item: item.id)
    ]


_NO_OBJECTS = (SyncedObject("", ""),)


def is_ready(sync: SecretSync) -> bool:
    """Return whether the Secret has the content of the last success."""
    ready = sync.status.condition(READY)
    return ready is not None and ready.status is ConditionStatus.TRUE


def sync_problem(sync: SecretSync) -> str:
    """Return why the Secret of a SecretSync is not up to date; "" if it is."""
    ready = sync.status.condition(READY)
    if ready is None:
        return ""
    if ready.status is not ConditionStatus.TRUE:
        return ready.message or ready.reason
    return NOT_YET_HANDLED if 0 < ready.observed_generation < sync.generation else ""


def _ready(sync: SecretSync) -> tuple[str, str]:
    ready = sync.status.condition(READY)
    return (ready.status.value, ready.reason) if ready else ("", "")
