"""The events that Keyferry records on pods and classes. [pure]

Source: driver.md, section 4.9: the first reason, and the beginning of its text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.errors import AuthorError, KeyferryError
from keyferry.store.interface import ClassObject, ClassRef, Event, EventType, PodRef

if TYPE_CHECKING:
    from keyferry.driver.atomic import Written
    from keyferry.driver.podstatus import VersionChange
    from keyferry.store.interface import PodStatus, SecretManifest

FAILED_TO_CREATE_SECRET = "FailedToCreateSecret"  # noqa: S105 - the reason of an event
SECRET_CLAIMED = "SecretClaimed"  # noqa: S105 - as above
SECRET_RECREATED = "SecretRecreated"  # noqa: S105 - as above
SECRET_REVERTED = "SecretReverted"  # noqa: S105 - as above
FAILED_TO_MOUNT_OBJECTS = "FailedToMountObjects"
MOUNT_ROTATION_FAILED = "MountRotationFailed"
MOUNT_ROTATION_COMPLETE = "MountRotationComplete"
OBJECT_NEAR_EXPIRY = "ObjectNearExpiry"
FAILED_TO_WRITE_POD_STATUS = "FailedToWritePodStatus"
MAX_MESSAGE = 1024
"""Characters; what Kubernetes accepts as the note of an event."""


def secret_failed(pod: PodRef, cls: ClassObject, secret_name: str, error: KeyferryError) -> Event:
    """The warning that the Secret `secret_name` of `cls` could not be made or kept for `pod`."""
    spc = f"spc {cls.namespace}/{cls.name}"
    if isinstance(error, AuthorError):
        message = f"failed to get data in {spc} for secret {secret_name}, err: {error}"
    else:
        message = f"failed to write secret {secret_name} of {spc}, err: {error}"
    return Event(pod, EventType.WARNING, FAILED_TO_CREATE_SECRET, _clipped(message))


def secret_claimed(name: str, holder: ClassObject, loser: ClassObject) -> tuple[Event, Event]:
    """The warnings, on two classes that name one Secret, that only the first of them has it."""
    kept = f"Secret {name} is named by SecretProviderClass {loser.name} too; this class keeps it"
    lost = f"Secret {name} belongs to SecretProviderClass {holder.name}, which had it first"
    remedy = "choose another secretName in one of the two"
    return (
        Event(_ref(holder), EventType.WARNING, SECRET_CLAIMED, _clipped(f"{kept}; {remedy}")),
        Event(_ref(loser), EventType.WARNING, SECRET_CLAIMED, _clipped(f"{lost}; {remedy}")),
    )


def secret_recreated(pod: PodRef, cls: ClassObject, secret: SecretManifest, earlier: str) -> Event:
    """The notice that a Secret was deleted and made anew."""
    why = f"its type changes from {earlier} to {secret.type}"
    if earlier == secret.type:
        why = "it was immutable"
    message = f"made secret {secret.name} of spc {cls.namespace}/{cls.name} anew, because {why}"
    return Event(pod, EventType.NORMAL, SECRET_RECREATED, _clipped(message))


def secret_reverted(pod: PodRef, cls: ClassObject, name: str) -> Event:
    """The notice that somebody had edited a Secret."""
    message = (
        f"reverted what was edited by hand in secret {name},"
        f" which spc {cls.namespace}/{cls.name} keeps"
    )
    return Event(pod, EventType.NORMAL, SECRET_REVERTED, _clipped(message))


def mount_failed(pod: PodRef, cls: ClassObject, error: KeyferryError) -> Event:
    """The warning that the first mount of `pod` failed, which kubelet will try again."""
    message = f"failed to mount the objects of spc {cls.namespace}/{cls.name}, err: {error}"
    return Event(pod, EventType.WARNING, FAILED_TO_MOUNT_OBJECTS, _clipped(message))


def status_refused(status: PodStatus, error: KeyferryError) -> Event:
    """The warning that nothing tells which versions a volume holds, which else is as it should."""
    message = (
        f"failed to write secretproviderclasspodstatus {status.namespace}/{status.name}, the volume"
        f" is mounted and this is tried again, err: {error}"
    )
    return Event(status.pod, EventType.WARNING, FAILED_TO_WRITE_POD_STATUS, _clipped(message))


def rotation_failed(pod: PodRef, cls: ClassObject, error: KeyferryError) -> Event:
    """The warning that a mounted volume could not be refreshed and keeps what it had."""
    message = (
        f"failed to refresh the objects of spc {cls.namespace}/{cls.name}, the volume keeps what"
        f" it had, err: {error}"
    )
    return Event(pod, EventType.WARNING, MOUNT_ROTATION_FAILED, _clipped(message))


def rotation_done(
    pod: PodRef, cls: ClassObject, written: Written, changes: tuple[VersionChange, ...]
) -> Event:
    """The notice that a mounted volume changed: which objects, and which files."""
    parts = [str(change) for change in changes]
    parts += [
        f"{verb} {path}"
        for verb, paths in (
            ("changed", written.changed),
            ("added", written.added),
            ("removed", written.removed),
        )
        for path in paths
    ]
    message = f"refreshed the objects of spc {cls.namespace}/{cls.name}: {', '.join(parts)}"
    return Event(pod, EventType.NORMAL, MOUNT_ROTATION_COMPLETE, _clipped(message))


def near_expiry(pod: PodRef, cls: ClassObject, sentences: tuple[str, ...]) -> Event:
    """The warning that objects in a volume of `pod` have expired or soon will."""
    message = f"of spc {cls.namespace}/{cls.name}: {'; '.join(sentences)}"
    return Event(pod, EventType.WARNING, OBJECT_NEAR_EXPIRY, _clipped(message))


def lease_ending(pod: PodRef, class_name: str, sentences: tuple[str, ...]) -> Event:
    """The warning that what was made for `pod` ends, and that nothing will replace it."""
    message = (
        f"of spc {pod.namespace}/{class_name}: {'; '.join(sentences)}; the vault renews it no"
        " further, and rotation is off: turn --enable-secret-rotation on, or raise max_ttl of the"
        " role and restart the pod"
    )
    return Event(pod, EventType.WARNING, OBJECT_NEAR_EXPIRY, _clipped(message))


def _ref(cls: ClassObject) -> ClassRef:
    return ClassRef(cls.namespace, cls.name, cls.uid)


def _clipped(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else f"{message[: MAX_MESSAGE - 3]}..."
