"""Builds the Kubernetes events of pods and SecretProviderClasses. [pure]

A message has no time, no counter and no name of another namespace: events that differ are new
objects in etcd, and tenants read them. Such details are in the log.

The reason `FailedToCreateSecret` and the start of its message are the same as in upstream.

Source: docs/reference/upstream-driver.md#events
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.errors import AuthorError, KeyferryError
from keyferry.formats.unknown_fields import describe_unknown_fields
from keyferry.kubernetes.objects import (
    ClassRef,
    Event,
    EventType,
    PodRef,
    SecretProviderClass,
    truncate_message,
)

if TYPE_CHECKING:
    from keyferry.content import MissingObject
    from keyferry.driver.volumes.atomic_writer import FileChanges
    from keyferry.formats.unknown_fields import UnknownField
    from keyferry.kubernetes.objects import DesiredSecret, PodStatus
    from keyferry.kubernetes.pod_status import VersionChange
    from keyferry.providers.api import StaleContent

FAILED_TO_CREATE_SECRET = "FailedToCreateSecret"  # noqa: S105 - the reason of an event
SECRET_ADOPTED = "SecretAdopted"  # noqa: S105 - as above
SECRET_CONFLICT = "SecretConflict"  # noqa: S105 - as above
SECRET_DELETED = "SecretDeleted"  # noqa: S105 - as above
SECRET_RECREATED = "SecretRecreated"  # noqa: S105 - as above
SECRET_REVERTED = "SecretReverted"  # noqa: S105 - as above
SECRET_UNUSED = "SecretUnused"  # noqa: S105 - as above
FAILED_TO_MOUNT_OBJECTS = "FailedToMountObjects"
MOUNT_ROTATION_FAILED = "MountRotationFailed"
MOUNT_ROTATION_COMPLETE = "MountRotationComplete"
OBJECT_NEAR_EXPIRY = "ObjectNearExpiry"
STALE_CONTENT_MOUNTED = "StaleContentMounted"
FAILED_TO_WRITE_POD_STATUS = "FailedToWritePodStatus"
OBJECT_FOUND = "ObjectFound"
OBJECT_MISSING = "ObjectMissing"
REFRESH_REQUESTED = "RefreshRequested"
UNKNOWN_FIELD = "UnknownField"


def secret_failed(
    pod: PodRef, spc: SecretProviderClass, secret_name: str, error: KeyferryError
) -> Event:
    """Return the warning that the Secret `secret_name` of `spc` could not be synced for `pod`."""
    name = f"spc {spc.namespace}/{spc.name}"
    if isinstance(error, AuthorError):
        message = f"failed to get data in {name} for secret {secret_name}, err: {error}"
    else:
        message = f"failed to write secret {secret_name} of {name}, err: {error}"
    return _about(secret_name, pod, EventType.WARNING, FAILED_TO_CREATE_SECRET, message)


def secret_conflict(
    name: str, owner_spc: SecretProviderClass, other_spc: SecretProviderClass
) -> tuple[Event, Event]:
    """Return the warnings for two SecretProviderClasses that name the same Secret.

    Args:
        name: the Secret.
        owner_spc: the SecretProviderClass that the Secret belongs to.
        other_spc: the SecretProviderClass that names it, too.
    """
    kept = (
        f"Secret {name} is also named by SecretProviderClass {other_spc.name}, and still belongs"
        " to this one"
    )
    lost = f"Secret {name} already belongs to SecretProviderClass {owner_spc.name}"
    remedy = "choose another secretName in one of the two"
    return (
        _about(
            name, _class_ref(owner_spc), EventType.WARNING, SECRET_CONFLICT, f"{kept}; {remedy}"
        ),
        _about(
            name, _class_ref(other_spc), EventType.WARNING, SECRET_CONFLICT, f"{lost}; {remedy}"
        ),
    )


def secret_adopted(spc: SecretProviderClass, name: str, replaced: tuple[str, ...]) -> Event:
    """Return the notice that keys were added to a Secret that somebody else created.

    Args:
        spc: the SecretProviderClass that adopts it.
        name: the Secret.
        replaced: its existing keys whose values were replaced.
    """
    message = f"adopted secret {name}; its other keys, labels and annotations are not changed"
    if replaced:
        message = f"{message}, but the previous values of these keys were replaced: " + (
            ", ".join(replaced)
        )
    kind = EventType.WARNING if replaced else EventType.NORMAL
    return Event(_class_ref(spc), kind, SECRET_ADOPTED, truncate_message(message))


def secret_unused(spc: SecretProviderClass, name: str, grace_period: float, adopted: bool) -> Event:
    """Return the notice that the grace period of a Secret began.

    Args:
        spc: its SecretProviderClass.
        name: the Secret.
        grace_period: seconds.
        adopted: whether the Secret itself is kept.
    """
    what = "the keys of Keyferry are removed from it" if adopted else "it is deleted"
    message = (
        f"no pod uses secret {name} any more; {what} after"
        f" {_duration(grace_period)}, unless a pod uses it again"
    )
    return Event(_class_ref(spc), EventType.NORMAL, SECRET_UNUSED, truncate_message(message))


def secret_deleted(spc: SecretProviderClass, name: str, reason: str, adopted: bool) -> Event:
    """Return the notice that Keyferry deleted a Secret, or released an adopted one."""
    what = (
        f"removed the keys of Keyferry from secret {name}"
        if adopted
        else (f"deleted secret {name}")
    )
    message = f"{what}: {reason}"
    return Event(_class_ref(spc), EventType.NORMAL, SECRET_DELETED, truncate_message(message))


def secret_deleted_with_owners(spc: SecretProviderClass, name: str) -> Event:
    """Return the notice that Kubernetes deleted a Secret; the same for all nodes."""
    message = f"secret {name} was deleted by Kubernetes with the owners of its pods"
    return Event(_class_ref(spc), EventType.NORMAL, SECRET_DELETED, truncate_message(message))


def _duration(seconds: float) -> str:
    """Return a duration as in a flag, such as 10m or 90s."""
    whole = round(seconds)
    if whole and whole % 60 == 0:
        return f"{whole // 60}m"
    return f"{seconds:g}s"


def secret_recreated(
    pod: PodRef, spc: SecretProviderClass, secret: DesiredSecret, previous_type: str
) -> Event:
    """Return the notice that a Secret was deleted and created again."""
    reason = f"its type changed from {previous_type} to {secret.type}"
    if previous_type == secret.type:
        reason = "it was immutable"
    message = f"recreated secret {secret.name} of spc {spc.namespace}/{spc.name}, because {reason}"
    return _about(secret.name, pod, EventType.NORMAL, SECRET_RECREATED, message)


def secret_reverted(pod: PodRef, spc: SecretProviderClass, name: str) -> Event:
    """Return the notice that a manual edit of a Secret was reverted."""
    message = f"reverted a manual edit of secret {name}, managed by spc {spc.namespace}/{spc.name}"
    return _about(name, pod, EventType.NORMAL, SECRET_REVERTED, message)


def unknown_class_fields(spc: SecretProviderClass, fields: tuple[UnknownField, ...]) -> Event:
    """Return the warning that fields of `spc` have no effect."""
    message = truncate_message(describe_unknown_fields(fields))
    return Event(_class_ref(spc), EventType.WARNING, UNKNOWN_FIELD, message)


def unknown_volume_fields(pod: PodRef, fields: tuple[UnknownField, ...]) -> Event:
    """Return the warning that `volumeAttributes` or a Secret of `pod` have unknown fields."""
    message = truncate_message(describe_unknown_fields(fields))
    return Event(pod, EventType.WARNING, UNKNOWN_FIELD, message)


def mount_failed(pod: PodRef, spc: SecretProviderClass, error: KeyferryError) -> Event:
    """Return the warning that the first mount of a volume of `pod` failed; kubelet retries it."""
    message = f"failed to mount the objects of spc {spc.namespace}/{spc.name}, err: {error}"
    return _about(spc.name, pod, EventType.WARNING, FAILED_TO_MOUNT_OBJECTS, message)


def pod_status_failed(status: PodStatus, error: KeyferryError) -> Event:
    """Return the warning that the pod status of a mounted volume could not be written."""
    message = (
        f"failed to write secretproviderclasspodstatus {status.namespace}/{status.name}, the volume"
        f" is mounted and the write will be retried, err: {error}"
    )
    return _about(status.name, status.pod, EventType.WARNING, FAILED_TO_WRITE_POD_STATUS, message)


def rotation_failed(pod: PodRef, spc: SecretProviderClass, error: KeyferryError) -> Event:
    """Return the warning that a mounted volume could not be refreshed."""
    message = (
        f"failed to refresh the objects of spc {spc.namespace}/{spc.name}, previous content"
        f" retained, err: {error}"
    )
    return _about(spc.name, pod, EventType.WARNING, MOUNT_ROTATION_FAILED, message)


def rotation_completed(
    pod: PodRef,
    spc: SecretProviderClass,
    file_changes: FileChanges,
    version_changes: tuple[VersionChange, ...],
) -> Event:
    """Return the notice that objects and files of a mounted volume changed."""
    parts = [str(change) for change in version_changes]
    parts += [
        f"{verb} {path}"
        for verb, paths in (
            ("changed", file_changes.changed),
            ("added", file_changes.added),
            ("removed", file_changes.removed),
        )
        for path in paths
    ]
    message = f"refreshed the objects of spc {spc.namespace}/{spc.name}: {', '.join(parts)}"
    return Event(pod, EventType.NORMAL, MOUNT_ROTATION_COMPLETE, truncate_message(message))


def stale_content_mounted(pod: PodRef, spc: SecretProviderClass, stale: StaleContent) -> Event:
    """Return the warning that `pod` started with stale content, because a vault is unavailable."""
    message = (
        f"started with content that was fetched earlier, because vault {stale.vault} is"
        f" unavailable: spc {spc.namespace}/{spc.name}"
    )
    return _about(stale.vault, pod, EventType.WARNING, STALE_CONTENT_MOUNTED, message)


def refresh_requested(about: ClassRef | PodRef) -> Event:
    """Return the note that volumes are refreshed because an annotation of `about` changed."""
    message = "refreshing volumes, because the annotation keyferry.dev/refresh changed"
    return Event(about, EventType.NORMAL, REFRESH_REQUESTED, message)


def objects_missing(
    pod: PodRef, spc: SecretProviderClass, missing: tuple[MissingObject, ...]
) -> Event:
    """Return the warning that a volume of `pod` lacks optional objects."""
    named = ", ".join(f"{each.id} ({each.explanation})" for each in missing)
    message = f"optional objects of spc {spc.namespace}/{spc.name} are missing: {named}"
    return Event(pod, EventType.WARNING, OBJECT_MISSING, truncate_message(message))


def objects_found(pod: PodRef, spc: SecretProviderClass, ids: tuple[str, ...]) -> Event:
    """Return the note that a volume of `pod` has optional objects that it lacked before."""
    message = f"optional objects of spc {spc.namespace}/{spc.name} were found: {', '.join(ids)}"
    return Event(pod, EventType.NORMAL, OBJECT_FOUND, truncate_message(message))


def near_expiry(pod: PodRef, spc: SecretProviderClass, warnings: tuple[str, ...]) -> Event:
    """Return the warning that objects in a volume of `pod` have expired or soon will."""
    message = f"of spc {spc.namespace}/{spc.name}: {'; '.join(warnings)}"
    return Event(pod, EventType.WARNING, OBJECT_NEAR_EXPIRY, truncate_message(message))


def lease_expiring(pod: PodRef, class_name: str, warnings: tuple[str, ...]) -> Event:
    """Return the warning that dynamic secrets of `pod` expire and nothing replaces them."""
    message = (
        f"of spc {pod.namespace}/{class_name}: {'; '.join(warnings)}; the lease can no longer be"
        " renewed and rotation is off: set --enable-secret-rotation, or raise max_ttl of the role"
        " and restart the pod"
    )
    subject = f"leases of {class_name}"
    return _about(subject, pod, EventType.WARNING, OBJECT_NEAR_EXPIRY, message)


def _about(
    subject: str, involved: PodRef | ClassRef, kind: EventType, reason: str, message: str
) -> Event:
    """Return an event whose message a later one about the same subject replaces."""
    return Event(involved, kind, reason, truncate_message(message), subject)


def _class_ref(spc: SecretProviderClass) -> ClassRef:
    return ClassRef(spc.namespace, spc.name, spc.uid)
