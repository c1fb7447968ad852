"""The SecretSync and its status, as the controller reads and writes them. [pure]

Source: https://github.com/kubernetes-sigs/secrets-store-sync-controller
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.kubernetes.objects import OwnerReference
from keyferry.kubernetes.syncs.groups import SYNC_KIND, SyncGroup
from keyferry.kubernetes.syncs.sync_errors import (
    ReservedAnnotationError,
    ReservedLabelError,
    SyncInvalidError,
)

if TYPE_CHECKING:
    from datetime import datetime

    from keyferry.formats.unknown_fields import UnknownField
    from keyferry.kubernetes.objects import SecretObject

OPT_IN_LABEL = "secret-sync.x-k8s.io/allowed"
"""On a service account with the value `true`: SecretSyncs may use it."""
OPT_IN_NAMES = "secret-sync.x-k8s.io/secret-syncs"
"""Annotation on such a service account: the comma-separated names of the only SecretSyncs."""


class SyncRef(Struct, frozen=True):
    """Identifies one SecretSync.

    Attributes:
        uid: differs for a SecretSync that was deleted and created again.
    """

    group: SyncGroup
    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        """Return `namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def key(self) -> SyncKey:
        """The same for a SecretSync that was deleted and created again."""
        return self.group, self.namespace, self.name


SyncKey = tuple[SyncGroup, str, str]
"""Group, namespace and name."""


class SyncOptions(Struct, frozen=True):
    """The annotations `keyferry.dev/...` of a SecretSync.

    Attributes:
        credentials_secret: name of a Secret of the same namespace; "" without one.
        adopts: whether it takes over an existing Secret that no controller manages.
        ignores_drift: whether changes that others make to the Secret stay.
        refresh_mark: any new value asks for a refresh; "" without it.
        refresh_interval: seconds between two refreshes; 0: never; None: as the controller is set.
        problems: annotations whose value is invalid and has no effect, with the remedy; each a
            sentence.
    """

    credentials_secret: str = ""
    adopts: bool = False
    ignores_drift: bool = False
    refresh_mark: str = ""
    refresh_interval: float | None = None
    problems: tuple[str, ...] = ()


NO_OPTIONS = SyncOptions()


class ConditionStatus(Enum):
    """The status of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Struct, frozen=True):
    """A condition of the status.

    Attributes:
        transitioned_at: when the status last changed; None if unknown.
        observed_generation: generation of the SecretSync that it is about; 0 if unknown.
    """

    type: str
    status: ConditionStatus
    reason: str
    message: str = ""
    transitioned_at: datetime | None = None
    observed_generation: int = 0


class SyncedObject(Struct, frozen=True):
    """An object of a vault in the Secret.

    Attributes:
        id: as in a SecretProviderClassPodStatus: `secret/db-password`.
        version: as in a SecretProviderClassPodStatus.
        expires: when the object expires; None if it does not, or if that is unknown.
    """

    id: str
    version: str
    expires: datetime | None = None


class SyncStatus(Struct, frozen=True):
    """The status of a SecretSync. Texts are "" and times None if they are unknown.

    Attributes:
        conditions: those of other writers, too.
        observed_generation: generation of the SecretSync that the last attempt used.
        sync_hash: digest of the data of the last success; "" before the first one.
        last_success: when content was last fetched and the Secret was right.
        last_attempt: when the controller last tried.
        objects: versions of the last success.
        observed_force: `spec.forceSynchronization` of the last success.
        observed_refresh: the annotation `keyferry.dev/refresh` of the last success.
        observed_class: `uid/generation` of the SecretProviderClass of the last success.
        observed_secret: `uid/resourceVersion` of the Secret after the last success.
        lease_holder: the controller pod that renews the dynamic secrets in the Secret; "" if it
            has none.
    """

    conditions: tuple[Condition, ...] = ()
    observed_generation: int = 0
    sync_hash: str = ""
    last_success: datetime | None = None
    last_attempt: datetime | None = None
    objects: tuple[SyncedObject, ...] = ()
    observed_force: str = ""
    observed_refresh: str = ""
    observed_class: str = ""
    observed_secret: str = ""
    lease_holder: str = ""

    def condition(self, type_: str) -> Condition | None:
        """Return the condition of a type, or None."""
        return next((each for each in self.conditions if each.type == type_), None)


class InvalidKind(Enum):
    """Which part of a SecretSync is invalid."""

    FIELD = "field"
    RESERVED_LABEL = "label"
    RESERVED_ANNOTATION = "annotation"


_INVALID_ERRORS: dict[InvalidKind, type[SyncInvalidError]] = {
    InvalidKind.FIELD: SyncInvalidError,
    InvalidKind.RESERVED_LABEL: ReservedLabelError,
    InvalidKind.RESERVED_ANNOTATION: ReservedAnnotationError,
}


class InvalidField(Struct, frozen=True):
    """Why a SecretSync cannot be synced.

    Attributes:
        problem: names the field.
        remedy: a sentence.
        kind: what is invalid.
    """

    problem: str
    remedy: str
    kind: InvalidKind = InvalidKind.FIELD

    def error(self) -> SyncInvalidError:
        """Return a new error, so that no two callers share a traceback."""
        return _INVALID_ERRORS[self.kind](self.problem, self.remedy)


@dataclass(frozen=True, slots=True)
class SecretSync:
    """A SecretSync. Two of them are equal if they ask for the same.

    Attributes:
        class_name: of the SecretProviderClass in the same namespace.
        service_account: name of the service account in the same namespace.
        controller_name: of the controller that handles it; "" for the default one.
        force_synchronization: any new value asks for a refresh; "" without it.
        secret_object: the Secret; the `object_name` of its data is the `sourcePath`.
        generation: changes with the spec.
        created_at: None if unknown.
        terminating: whether it is being deleted.
        invalid: the first invalid field, because of which it cannot be synced; None if it is valid.
        status: the last known one.
        unknown_fields: fields and annotations that have no effect.
        resource_version: of the last known state.
    """

    ref: SyncRef
    class_name: str
    service_account: str
    controller_name: str
    force_synchronization: str
    secret_object: SecretObject
    generation: int
    created_at: datetime | None
    terminating: bool = False
    options: SyncOptions = NO_OPTIONS
    invalid: InvalidField | None = None
    status: SyncStatus = field(default=SyncStatus(), compare=False)
    unknown_fields: tuple[UnknownField, ...] = field(default=(), compare=False)
    resource_version: str = field(default="", compare=False)

    @property
    def owner(self) -> OwnerReference:
        """The owner reference of its Secret."""
        return OwnerReference(str(self.ref.group), SYNC_KIND, self.ref.name, self.ref.uid)


class ServiceAccountOptIn(Struct, frozen=True):
    """A service account whose tokens the SecretSync controller may request.

    Attributes:
        only: names of the only SecretSyncs that may use it; None for all of its namespace.
    """

    namespace: str
    name: str
    only: frozenset[str] | None = None

    def permits(self, sync_name: str) -> bool:
        """Return whether a SecretSync of the namespace may use it."""
        return self.only is None or sync_name in self.only
