"""The records of the audit log: one for each access of a pod to an object of a vault. [pure]

A record says who read which object, and what became of it. It never contains a secret value, a
token, or a digest of one. docs/reference/audit-log.md describes its fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.accesses import IDENTITY_FIELDS, AccessOutcome
from keyferry.errors import InternalError, KeyferryError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import datetime

    from keyferry.accesses import ObjectAccess, VaultAccess
    from keyferry.content import ObjectVersion

    Fields = dict[str, object]
    """A text, a number, or a mapping of texts, by field."""

MOUNT = "mount"
REFRESH = "refresh"
_MAX_TEXT = 1024
"""The longest text of a field that the author of a SecretProviderClass chooses."""


class AuditSubject(Struct, frozen=True):
    """Who reads, and why.

    Attributes:
        event: `mount` or `refresh`.
        namespace: the namespace of the pod and of the SecretProviderClass.
        pod_name: the pod.
        pod_uid: its uid.
        service_account: its service account.
        class_name: the SecretProviderClass.
        provider: the provider.
    """

    event: str
    namespace: str
    pod_name: str
    pod_uid: str
    service_account: str
    class_name: str
    provider: str


class AuditedMount(Struct, frozen=True):
    """The accesses of one mount or refresh.

    Attributes:
        subject: who reads.
        ended_at: when it ended.
        accesses: what was read; empty if that is unknown.
        error: why it failed; None after a success.
        previous: the object versions that the volume had before.
    """

    subject: AuditSubject
    ended_at: datetime
    accesses: tuple[VaultAccess, ...]
    error: BaseException | None = None
    previous: Collection[ObjectVersion] = ()


class RecordGroup(Struct, frozen=True):
    """Records with common fields.

    Attributes:
        common: the fields that all records begin with.
        records: the further fields of each record.
        unchanged: the further fields of the records of a refresh that changed nothing: it found
            the same version, or read an object and then failed because of another one.
    """

    common: Fields
    records: tuple[Fields, ...]
    unchanged: tuple[Fields, ...] = ()


def record_groups(mount: AuditedMount) -> Iterator[RecordGroup]:
    """Yield the records of a mount: one for each object that was accessed.

    A mount that failed before it accessed an object has one record without an object.
    """
    subject = _subject_fields(mount)
    if not mount.accesses and mount.error is not None:
        yield RecordGroup(subject, (_failure_fields(mount.error),))
    for access in mount.accesses:
        common = dict(subject)
        if access.vault:
            common["vault"] = access.vault[:_MAX_TEXT]
        if access.identity:
            # The fields are checked because they come from a process with fewer privileges.
            common["identity"] = {
                field: value[:_MAX_TEXT]
                for field, value in access.identity
                if field in IDENTITY_FIELDS
            }
        if access.objects:
            yield _object_records(mount, common, access)
        elif mount.error is not None:
            yield RecordGroup(common, (_failure_fields(mount.error),))


def _object_records(mount: AuditedMount, common: Fields, access: VaultAccess) -> RecordGroup:
    failure = None if mount.error is None else _failure_fields(mount.error)
    if mount.subject.event != REFRESH:
        return RecordGroup(common, tuple(_object_fields(each, failure) for each in access.objects))
    entries = {(version.id, version.version) for version in mount.previous}
    versions = {version.version for version in mount.previous}
    records: tuple[list[Fields], list[Fields]] = ([], [])
    for each in access.objects:
        if each.outcome is not AccessOutcome.DELIVERED:
            is_unchanged = False
        elif failure is not None:
            is_unchanged = True
        elif each.status_versions:
            is_unchanged = all(entry in entries for entry in each.status_versions)
        else:
            is_unchanged = each.version in versions
        records[is_unchanged].append(_object_fields(each, failure))
    return RecordGroup(common, tuple(records[False]), tuple(records[True]))


def _subject_fields(mount: AuditedMount) -> Fields:
    subject = mount.subject
    return {
        "timestamp": mount.ended_at.isoformat(timespec="microseconds"),
        "event": subject.event,
        "pod": {"namespace": subject.namespace, "name": subject.pod_name},
        "podUID": subject.pod_uid,
        "serviceAccount": subject.service_account,
        "spc": {"namespace": subject.namespace, "name": subject.class_name},
        "provider": subject.provider,
    }


def _object_fields(access: ObjectAccess, failure: Fields | None) -> Fields:
    """Return the fields of one access.

    Args:
        access: the access.
        failure: fields that say why the mount failed; None if it did not.
    """
    fields: Fields = {"object": access.name[:_MAX_TEXT]}
    if access.version:
        fields["version"] = access.version[:_MAX_TEXT]
    if access.source is not None:
        fields["source"] = access.source.value
    fields["outcome"] = access.outcome.value
    if access.outcome is not AccessOutcome.DELIVERED:
        fields |= _reason_fields(access.reason, access.stage)
    elif failure is not None:
        fields |= failure | {"outcome": AccessOutcome.NOT_DELIVERED.value}
    if access.seconds is not None:
        fields["durationMS"] = round(1000 * access.seconds, 1)
    return fields


def _failure_fields(error: BaseException) -> Fields:
    """Return the fields that say why a mount failed; an exception that is no error is a cancel."""
    if not isinstance(error, Exception):
        return {"outcome": AccessOutcome.FAILED.value, **_reason_fields("Cancelled", "")}
    known = error if isinstance(error, KeyferryError) else InternalError("")
    outcome = {"outcome": known.outcome.value}
    return {**outcome, **_reason_fields(known.reason, known.stage.value)}


def _reason_fields(reason: str, stage: str) -> Fields:
    return {name: text[:_MAX_TEXT] for name, text in (("reason", reason), ("stage", stage)) if text}
