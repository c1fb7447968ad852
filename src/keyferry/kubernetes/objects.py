"""The Kubernetes objects that the driver reads and writes. [pure]"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from keyferry.kubernetes.markings import DRIVER_MARKING, SYNC_MARKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from keyferry.content import ObjectVersion
    from keyferry.formats.unknown_fields import UnknownField
    from keyferry.kubernetes.markings import Marking

MAX_MESSAGE = 1024
"""Characters that Kubernetes accepts in the message of an event or a condition."""


def truncate_message(message: str, *, limit: int = MAX_MESSAGE) -> str:
    """Return `message`, cut to `limit` characters."""
    return message if len(message) <= limit else f"{message[: limit - 3]}..."


class SecretKeyMapping(Struct, frozen=True):
    """One `data` entry of `secretObjects`: file `object_name` becomes `key` of the Secret."""

    object_name: str
    key: str


class SecretObject(Struct, frozen=True):
    """One entry of `secretObjects`: a Secret that is synced from files of the volume."""

    name: str
    type: str
    data: tuple[SecretKeyMapping, ...]
    labels: Mapping[str, str] = msgspec.field(default_factory=dict)
    annotations: Mapping[str, str] = msgspec.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SecretProviderClass:
    """A SecretProviderClass, with trimmed strings.

    Nothing is checked yet beyond the types of the fields: `driver.spc` does that.

    Attributes:
        adopted_secrets: names of existing Secrets that it adopts.
        refresh_mark: the value of its annotation `keyferry.dev/refresh`; "" without it.
        version: its uid and generation, `uid/3`; "" without a Kubernetes API.
        unknown_fields: fields outside of `parameters` that have no effect.
    """

    namespace: str
    name: str
    provider: str
    parameters: Mapping[str, str]
    secret_objects: tuple[SecretObject, ...] = ()
    adopted_secrets: frozenset[str] = frozenset()
    refresh_mark: str = ""
    version: str = field(default="", compare=False)
    unknown_fields: tuple[UnknownField, ...] = field(default=(), compare=False)

    @property
    def uid(self) -> str:
        """The uid; "" without a Kubernetes API."""
        return self.version.partition("/")[0]

    @property
    def secret_names(self) -> frozenset[str]:
        """The names in `secretObjects`; an invalid SecretProviderClass may have an empty one."""
        return frozenset(entry.name for entry in self.secret_objects)


class ClassRef(Struct, frozen=True):
    """The SecretProviderClass that an event is about."""

    namespace: str
    name: str
    uid: str


class ObjectRef(Struct, frozen=True):
    """Another object that an event is about."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str


class PodRef(Struct, frozen=True):
    """The pod that a volume belongs to."""

    namespace: str
    name: str
    uid: str


class OwnerReference(Struct, frozen=True):
    """An owner; Kubernetes deletes an object after its last owner."""

    api_version: str
    kind: str
    name: str
    uid: str


class RefreshMarks(Struct, frozen=True):
    """Annotations `keyferry.dev/refresh`. A new value asks for a refresh.

    Attributes:
        of_class: that of the SecretProviderClass; "" without it.
        of_pod: that of the pod; "" without it.
    """

    of_class: str = ""
    of_pod: str = ""


NO_MARKS = RefreshMarks()


@dataclass(frozen=True, slots=True)
class PodStatus:
    """A SecretProviderClassPodStatus: which versions one volume of one pod holds.

    Source: docs/reference/upstream-driver.md#secretproviderclasspodstatus

    Attributes:
        refresh_marks: what asked for the last refresh on demand that succeeded.
        expiries: ids of objects that expire, sorted, with the time in seconds since 1970.
        refresh: the `Refreshed` condition; None if it is unknown, or the CRDs drop it.
        uid: "" before it is created.
    """

    namespace: str
    name: str
    pod: PodRef
    class_name: str
    target_path: str
    node: str
    objects: tuple[ObjectVersion, ...]
    refresh_marks: RefreshMarks = NO_MARKS
    expiries: tuple[tuple[str, int], ...] = ()
    refresh: RefreshCondition | None = field(default=None, compare=False)
    uid: str = field(default="", compare=False)


class RefreshCondition(Struct, frozen=True):
    """The `Refreshed` condition of a pod status: the result of the last fetch.

    Attributes:
        refreshed_at: when the content was last fetched; None if unknown.
        transitioned_at: when `ok` last changed.
        reason: one word; `Refreshed` after success.
        message: the stage and the error; "" after success.
        note: what to know after success; may be "".
    """

    refreshed_at: datetime | None
    transitioned_at: datetime
    reason: str = "Refreshed"
    message: str = ""
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether the last refresh succeeded."""
        return not self.message


class SecretClaim(Struct, frozen=True):
    """Claim of a SecretProviderClass on a Secret, which decides conflicts.

    Attributes:
        class_name: of the SecretProviderClass.
        class_version: see `SecretProviderClass.version`.
        fetched_at: when the content was fetched from the vault.
        contenders: other SecretProviderClasses of the namespace that name the Secret.
        adopt: whether to take over an existing Secret that Keyferry does not manage.
    """

    class_name: str
    class_version: str
    fetched_at: datetime
    contenders: frozenset[str] = frozenset()
    adopt: bool = False


class SyncClaim(Struct, frozen=True):
    """Claim of a SecretSync on the Secret of its name.

    Attributes:
        owner: the SecretSync, which becomes the only owner.
        is_unchanged: SecretSync, SecretProviderClass and content are those of the last write, so
            that any difference is a change of somebody else.
        adopt: whether to take over an existing Secret.
        ignores_drift: whether changes of somebody else stay until the content changes.
        class_name: a SecretProviderClass of the namespace whose `secretObjects` name the Secret,
            too; "" for none.
    """

    owner: OwnerReference
    is_unchanged: bool = False
    adopt: bool = False
    ignores_drift: bool = False
    class_name: str = ""


@dataclass(frozen=True, slots=True)
class DesiredSecret:
    """A Secret as it should be. The store adds the label and annotations of managed Secrets.

    Attributes:
        owners: added to the existing ones; the only ones of a SecretSync's Secret.
        removed_owner_uids: uids of owners to remove.
        claim: of the SecretProviderClass or SecretSync that wants it; None for no particular one.
        adopted: it is written to a Secret of somebody else: only its keys, labels and annotations,
            without owners.
        kept_keys: keys that are not in `data`, and keep their values if the Secret has them.
        optional_keys: keys that come and go, so that their absence is no edit of somebody else.
    """

    namespace: str
    name: str
    type: str
    data: Mapping[str, bytes] = field(repr=False)
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    owners: tuple[OwnerReference, ...]
    removed_owner_uids: frozenset[str] = frozenset()
    claim: SecretClaim | SyncClaim | None = None
    adopted: bool = False
    kept_keys: frozenset[str] = frozenset()
    optional_keys: frozenset[str] = frozenset()

    @property
    def marking(self) -> Marking:
        """How the command that writes it marks it."""
        return SYNC_MARKING if isinstance(self.claim, SyncClaim) else DRIVER_MARKING

    @property
    def all_labels(self) -> dict[str, str]:
        """All labels, including that of Keyferry."""
        return {**self.labels, self.marking.label: self.marking.label_value}

    @property
    def leaves_foreign_keys(self) -> bool:
        """Whether keys that somebody else added to the Secret stay."""
        return self.adopted or isinstance(self.claim, SyncClaim)


class ApplyOutcome(Enum):
    """What `apply_secret` did."""

    UNCHANGED = "none"
    CREATED = "created"
    ADOPTED = "adopted"
    """Keys were added to a Secret of somebody else."""
    UPDATED = "updated"
    REVERTED = "reverted"
    """Updated, because somebody else changed it."""
    RECREATED = "recreated"
    """Deleted and recreated, because an immutable field had to change."""


class ApplyResult(Struct, frozen=True):
    """A Secret after a write.

    Attributes:
        outcome: what was done to it.
        resource_version: its resourceVersion; "" where there is no API.
        uid: its uid; "" where there is no API.
        previous_type: type before it was recreated, or "".
        replaced_keys: keys of an adopted Secret whose values of somebody else were replaced.
    """

    outcome: ApplyOutcome
    resource_version: str = ""
    previous_type: str = ""
    replaced_keys: tuple[str, ...] = ()
    uid: str = ""

    @property
    def changed(self) -> bool:
        """Whether anything was written."""
        return self.outcome is not ApplyOutcome.UNCHANGED


class EventType(Enum):
    """The two types of Kubernetes events."""

    NORMAL = "Normal"
    WARNING = "Warning"


class Event(Struct, frozen=True):
    """A Kubernetes event, as `kubectl describe` shows it.

    Attributes:
        involved_object: what it is attached to.
        message: without times and counters, and without names of another namespace.
        subject: what it is about, such as the name of a Secret, if later events about the same
            subject replace its message; "" if each message is an event of its own.
    """

    involved_object: PodRef | ClassRef | ObjectRef
    type: EventType
    reason: str
    message: str
    subject: str = ""

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for events that are one object, which counts them."""
        about = self.subject or self.message
        return self.involved_object, self.type.value, self.reason, bool(self.subject), about


class CsiVolume(Struct, frozen=True):
    """A CSI volume of a pod.

    Attributes:
        name: in the pod.
        driver: the name of the CSI driver.
        attributes: `volumeAttributes`.
        secret_ref: the name in `nodePublishSecretRef`; "" without one.
    """

    name: str
    driver: str
    attributes: Mapping[str, str]
    secret_ref: str = ""


class Pod(Struct, frozen=True):
    """The fields of a pod that Keyferry uses.

    Attributes:
        phase: `Running`, for example.
        terminating: whether it is being deleted.
        owners: for example its ReplicaSet.
        volumes: its CSI volumes.
        refresh_mark: the value of its annotation `keyferry.dev/refresh`; "" without it.
    """

    namespace: str
    name: str
    uid: str
    phase: str = ""
    terminating: bool = False
    service_account: str = ""
    owners: tuple[OwnerReference, ...] = ()
    volumes: tuple[CsiVolume, ...] = msgspec.field(default=())
    refresh_mark: str = ""

    @property
    def completed(self) -> bool:
        """Whether its containers have terminated for good."""
        return self.phase in {"Succeeded", "Failed"}
