"""Builds the Kubernetes events of SecretSyncs. [pure]

A message has no time and no counter: events that differ are new objects in etcd.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.kubernetes.objects import (
    ApplyOutcome,
    ClassRef,
    Event,
    EventType,
    ObjectRef,
    truncate_message,
)
from keyferry.kubernetes.syncs.groups import SYNC_KIND
from keyferry.kubernetes.syncs.outcomes import failure_message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyferry.content import MissingObject
    from keyferry.errors import KeyferryError, SecretConflictError
    from keyferry.kubernetes.objects import ApplyResult, SecretProviderClass
    from keyferry.kubernetes.pod_status import VersionChange
    from keyferry.kubernetes.syncs.objects import SecretSync, SyncRef

SECRET_SYNCED = "SecretSynced"  # noqa: S105 - the reason of an event
SECRET_SYNC_FAILED = "SecretSyncFailed"  # noqa: S105 - as above
SECRET_REVERTED = "SecretReverted"  # noqa: S105 - as above
SECRET_RECREATED = "SecretRecreated"  # noqa: S105 - as above
SECRET_ADOPTED = "SecretAdopted"  # noqa: S105 - as above
SECRET_CLAIMED = "SecretClaimed"  # noqa: S105 - as above
SECRET_MISSING_OPTIONAL = "SecretMissingOptional"  # noqa: S105 - as above
OBJECT_NEAR_EXPIRY = "ObjectNearExpiry"
UNKNOWN_FIELD = "UnknownField"
INVALID_ANNOTATION = "InvalidAnnotation"
_MAX_LISTED = 10


def secret_written(
    sync: SecretSync,
    result: ApplyResult,
    changes: Sequence[VersionChange],
    *,
    was_deleted: bool,
) -> Event | None:
    """Return the notice of what was done to the Secret; None if nothing was.

    Args:
        sync: the SecretSync.
        result: of the write.
        changes: of the versions of its objects.
        was_deleted: whether somebody deleted the Secret since the last sync.
    """
    about = _listed(changes)
    match result.outcome:
        case ApplyOutcome.UNCHANGED:
            return None
        case ApplyOutcome.CREATED if was_deleted:
            reason, message = SECRET_REVERTED, "somebody deleted the Secret; it was created again"
        case ApplyOutcome.CREATED:
            reason, message = SECRET_SYNCED, f"created the Secret{about}"
        case ApplyOutcome.REVERTED:
            reason, message = SECRET_REVERTED, "somebody changed the Secret; it was restored"
        case ApplyOutcome.RECREATED:
            reason = SECRET_RECREATED
            what = "it was immutable"
            if result.previous_type != sync.secret_object.type:
                what = f"its type changed from {result.previous_type} to {sync.secret_object.type}"
            message = f"deleted the Secret and created it again, because {what}"
        case ApplyOutcome.ADOPTED:
            reason, message = SECRET_ADOPTED, "took over the existing Secret"
        case _:
            reason, message = SECRET_SYNCED, f"updated the Secret{about}"
    return _about(sync.ref, EventType.NORMAL, reason, message)


def _listed(changes: Sequence[VersionChange]) -> str:
    return f": {_joined(', ', [str(change) for change in changes])}" if changes else ""


def _joined(separator: str, texts: Sequence[str]) -> str:
    more = len(texts) - _MAX_LISTED
    return separator.join([*texts[:_MAX_LISTED], *([f"{more} more"] if more > 0 else [])])


def sync_failed(sync: SecretSync, error: KeyferryError) -> Event:
    """Return the warning that a SecretSync could not be synced."""
    return _about(
        sync.ref, EventType.WARNING, SECRET_SYNC_FAILED, failure_message(error), subject="sync"
    )


def secret_claimed(
    sync: SecretSync, spc: SecretProviderClass | None, error: SecretConflictError
) -> tuple[Event, ...]:
    """Return the warnings for a Secret that belongs to somebody else, on both objects.

    Args:
        sync: the SecretSync.
        spc: the SecretProviderClass that the Secret belongs to; None for another SecretSync.
        error: what the SecretSync got.
    """
    own = _about(sync.ref, EventType.WARNING, SECRET_CLAIMED, failure_message(error))
    if spc is None:
        return (own,)
    text = (
        f"the {SYNC_KIND} {sync.ref.name} wants Secret {sync.ref.name}, too; it still belongs to"
        " this SecretProviderClass. Remove it from secretObjects, or rename the SecretSync."
    )
    ref = ClassRef(spc.namespace, spc.name, spc.uid)
    other = Event(ref, EventType.WARNING, SECRET_CLAIMED, truncate_message(text), "sync")
    return own, other


def optional_missing(sync: SecretSync, missing: Sequence[MissingObject]) -> Event:
    """Return the warning that the Secret lacks optional objects."""
    listed = _joined("; ", [f"{each.id}: {each.explanation}" for each in missing])
    return _about(
        sync.ref,
        EventType.WARNING,
        SECRET_MISSING_OPTIONAL,
        f"the Secret lacks optional objects: {listed}",
        subject="optional",
    )


def near_expiry(sync: SecretSync, warnings: Sequence[str]) -> Event:
    """Return the warning that objects of the Secret expire soon, or have expired."""
    return _about(
        sync.ref, EventType.WARNING, OBJECT_NEAR_EXPIRY, "; ".join(warnings), subject="expiry"
    )


def unknown_field(sync: SecretSync, description: str) -> Event:
    """Return the warning that fields or annotations have no effect."""
    return _about(sync.ref, EventType.WARNING, UNKNOWN_FIELD, description, subject="fields")


def invalid_annotation(sync: SecretSync, problems: Sequence[str]) -> Event:
    """Return the warning that annotations have invalid values."""
    return _about(
        sync.ref, EventType.WARNING, INVALID_ANNOTATION, " ".join(problems), subject="annotations"
    )


def _about(ref: SyncRef, kind: EventType, reason: str, message: str, *, subject: str = "") -> Event:
    involved = ObjectRef(str(ref.group), SYNC_KIND, ref.namespace, ref.name, ref.uid)
    return Event(involved, kind, reason, truncate_message(message), subject)
