"""The events that Keyferry records on pods and classes. [pure]

The reason `FailedToCreateSecret` and the beginning of its text are upstream's.

Source: docs/reference/upstream-driver.md#events
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.errors import AuthorError, KeyferryError
from keyferry.kubernetes.objects import (
    ClassRef,
    Event,
    EventType,
    PodRef,
    SecretProviderClass,
    truncate_message,
)

if TYPE_CHECKING:
    from keyferry.driver.volumes.atomic_writer import FileChanges
    from keyferry.kubernetes.objects import DesiredSecret, PodStatus
    from keyferry.kubernetes.pod_status import VersionChange

FAILED_TO_CREATE_SECRET = "FailedToCreateSecret"  # noqa: S105 - the reason of an event
SECRET_CONFLICT = "SecretConflict"  # noqa: S105 - as above
SECRET_RECREATED = "SecretRecreated"  # noqa: S105 - as above
SECRET_REVERTED = "SecretReverted"  # noqa: S105 - as above
FAILED_TO_MOUNT_OBJECTS = "FailedToMountObjects"
MOUNT_ROTATION_FAILED = "MountRotationFailed"
MOUNT_ROTATION_COMPLETE = "MountRotationComplete"
OBJECT_NEAR_EXPIRY = "ObjectNearExpiry"
FAILED_TO_WRITE_POD_STATUS = "FailedToWritePodStatus"


def secret_failed(
    pod: PodRef, cls: SecretProviderClass, secret_name: str, error: KeyferryError
) -> Event:
    """The warning that the Secret `secret_name` of `cls` could not be made or kept for `pod`."""
    spc = f"spc {cls.namespace}/{cls.name}"
    if isinstance(error, AuthorError):
        message = f"failed to get data in {spc} for secret {secret_name}, err: {error}"
    else:
        message = f"failed to write secret {secret_name} of {spc}, err: {error}"
    return Event(pod, EventType.WARNING, FAILED_TO_CREATE_SECRET, truncate_message(message))


def secret_conflict(
    name: str, owner_spc: SecretProviderClass, other_spc: SecretProviderClass
) -> tuple[Event, Event]:
    """The warnings, on two classes that name one Secret, that only the first of them has it."""
    kept = (
        f"Secret {name} is named by SecretProviderClass {other_spc.name} too; this class keeps it"
    )
    lost = f"Secret {name} belongs to SecretProviderClass {owner_spc.name}, which had it first"
    remedy = "choose another secretName in one of the two"
    return (
        Event(
            _class_ref(owner_spc),
            EventType.WARNING,
            SECRET_CONFLICT,
            truncate_message(f"{kept}; {remedy}"),
        ),
        Event(
            _class_ref(other_spc),
            EventType.WARNING,
            SECRET_CONFLICT,
            truncate_message(f"{lost}; {remedy}"),
        ),
    )


def secret_recreated(
    pod: PodRef, spc: SecretProviderClass, secret: DesiredSecret, previous_type: str
) -> Event:
    """The notice that a Secret was deleted and made anew."""
    why = f"its type changes from {previous_type} to {secret.type}"
    if previous_type == secret.type:
        why = "it was immutable"
    message = f"made secret {secret.name} of spc {spc.namespace}/{spc.name} anew, because {why}"
    return Event(pod, EventType.NORMAL, SECRET_RECREATED, truncate_message(message))


def secret_reverted(pod: PodRef, spc: SecretProviderClass, name: str) -> Event:
    """The notice that somebody had edited a Secret."""
    message = (
        f"reverted what was edited by hand in secret {name},"
        f" which spc {spc.namespace}/{spc.name} keeps"
    )
    return Event(pod, EventType.NORMAL, SECRET_REVERTED, truncate_message(message))


def mount_failed(pod: PodRef, spc: SecretProviderClass, error: KeyferryError) -> Event:
    """The warning that the first mount of `pod` failed, which kubelet will try again."""
    message = f"failed to mount the objects of spc {spc.namespace}/{spc.name}, err: {error}"
    return Event(pod, EventType.WARNING, FAILED_TO_MOUNT_OBJECTS, truncate_message(message))


def pod_status_failed(status: PodStatus, error: KeyferryError) -> Event:
    """The warning that nothing tells which versions a volume holds, which else is as it should."""
    message = (
        f"failed to write secretproviderclasspodstatus {status.namespace}/{status.name}, the volume"
        f" is mounted and this is tried again, err: {error}"
    )
    return Event(
        status.pod, EventType.WARNING, FAILED_TO_WRITE_POD_STATUS, truncate_message(message)
    )


def rotation_failed(pod: PodRef, spc: SecretProviderClass, error: KeyferryError) -> Event:
    """The warning that a mounted volume could not be refreshed and keeps what it had."""
    message = (
        f"failed to refresh the objects of spc {spc.namespace}/{spc.name}, the volume keeps what"
        f" it had, err: {error}"
    )
    return Event(pod, EventType.WARNING, MOUNT_ROTATION_FAILED, truncate_message(message))


def rotation_completed(
    pod: PodRef,
    spc: SecretProviderClass,
    file_changes: FileChanges,
    version_changes: tuple[VersionChange, ...],
) -> Event:
    """The notice that a mounted volume changed: which objects, and which files."""
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


def near_expiry(pod: PodRef, spc: SecretProviderClass, sentences: tuple[str, ...]) -> Event:
    """The warning that objects in a volume of `pod` have expired or soon will."""
    message = f"of spc {spc.namespace}/{spc.name}: {'; '.join(sentences)}"
    return Event(pod, EventType.WARNING, OBJECT_NEAR_EXPIRY, truncate_message(message))


def lease_expiring(pod: PodRef, class_name: str, sentences: tuple[str, ...]) -> Event:
    """The warning that what was made for `pod` ends, and that nothing will replace it."""
    message = (
        f"of spc {pod.namespace}/{class_name}: {'; '.join(sentences)}; the vault renews it no"
        " further, and rotation is off: turn --enable-secret-rotation on, or raise max_ttl of the"
        " role and restart the pod"
    )
    return Event(pod, EventType.WARNING, OBJECT_NEAR_EXPIRY, truncate_message(message))


def _class_ref(spc: SecretProviderClass) -> ClassRef:
    return ClassRef(spc.namespace, spc.name, spc.uid)
