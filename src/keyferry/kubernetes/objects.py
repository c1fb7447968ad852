"""The objects that the engine reads and writes, and the one interface to where they live. [pure]"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from keyferry.content import ObjectVersion

MAX_MESSAGE = 1024
"""Characters that Kubernetes accepts in the message of an event or a condition."""


def truncate_message(message: str) -> str:
    """Return `message`, cut to MAX_MESSAGE characters."""
    return message if len(message) <= MAX_MESSAGE else f"{message[: MAX_MESSAGE - 3]}..."


@dataclass(frozen=True, slots=True)
class SecretKeyMapping:
    """One `data` entry of `secretObjects`.

    The file called `object_name` becomes the key `key` of the Secret.
    """

    object_name: str
    key: str


@dataclass(frozen=True, slots=True)
class SecretObject:
    """One entry of `secretObjects`: a Kubernetes Secret that mirrors files of the volume."""

    name: str
    type: str
    data: tuple[SecretKeyMapping, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SecretProviderClass:
    """A SecretProviderClass, with trimmed strings.

    Nothing is checked yet beyond the types of the fields: `driver.spc` does that.

    Attributes:
        adopted_secrets: names of Secrets that it takes over though Keyferry did not make them.
        version: its uid and generation, `uid/3`; "" where there is no API that counts.
    """

    namespace: str
    name: str
    provider: str
    parameters: Mapping[str, str]
    secret_objects: tuple[SecretObject, ...] = ()
    adopted_secrets: frozenset[str] = frozenset()
    version: str = field(default="", compare=False)

    @property
    def uid(self) -> str:
        """Of the object; "" where there is no API."""
        return self.version.partition("/")[0]

    @property
    def secret_names(self) -> frozenset[str]:
        """The Secrets that it names; one may be empty, which is a mistake of its author."""
        return frozenset(entry.name for entry in self.secret_objects)


@dataclass(frozen=True, slots=True)
class ClassRef:
    """The SecretProviderClass that an event is about."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class PodRef:
    """The pod that a volume belongs to."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class OwnerReference:
    """Whose end takes the object along (Kubernetes garbage collection)."""

    api_version: str
    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class PodStatus:
    """A SecretProviderClassPodStatus: which versions one volume of one pod holds.

    Source: docs/reference/upstream-driver.md#secretproviderclasspodstatus

    Attributes:
        uid: of the object; "" before the store gave one.
    """

    namespace: str
    name: str
    pod: PodRef
    class_name: str
    target_path: str
    node: str
    objects: tuple[ObjectVersion, ...]
    uid: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class RefreshCondition:
    """How the last refresh of a volume ended.

    Attributes:
        refreshed_at: when its content was last fetched; None when that is not known.
        transitioned_at: when it became as it is.
        reason: one word; `Refreshed` when all is well.
        message: the stage and the error; "" when all is well.
    """

    refreshed_at: datetime | None
    transitioned_at: datetime
    reason: str = "Refreshed"
    message: str = ""

    @property
    def ok(self) -> bool:
        """Whether the last refresh brought what the class asks for."""
        return not self.message


@dataclass(frozen=True, slots=True)
class SecretClaim:
    """By what right a class has a Secret.

    Attributes:
        class_name: of the class.
        class_version: see `ClassObject.version`.
        fetched_at: when the content was fetched from the vault.
        contenders: other classes of the namespace that name the Secret.
        adopt: take the Secret over even if Keyferry did not make it.
    """

    class_name: str
    class_version: str
    fetched_at: datetime
    contenders: frozenset[str] = frozenset()
    adopt: bool = False


@dataclass(frozen=True, slots=True)
class DesiredSecret:
    """A Kubernetes Secret as it is to be.

    The store adds what it needs to find its own Secrets again.

    Attributes:
        owners: are added to those that are there.
        removed_owner_uids: uids of owners that are taken out.
        claim: None writes it for nobody in particular.
    """

    namespace: str
    name: str
    type: str
    data: Mapping[str, bytes] = field(repr=False)
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    owners: tuple[OwnerReference, ...]
    removed_owner_uids: frozenset[str] = frozenset()
    claim: SecretClaim | None = None


class ApplyOutcome(Enum):
    """What making a Secret equal to its manifest came to."""

    UNCHANGED = "none"
    CREATED = "created"
    UPDATED = "updated"
    REVERTED = "reverted"
    """Updated, because somebody else had changed it."""
    RECREATED = "recreated"
    """Deleted and recreated, because an immutable field had to change."""


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """A Secret after a write.

    Attributes:
        outcome: what was done to it.
        resource_version: its resourceVersion; "" where there is no API.
        previous_type: type before it was recreated, or "".
    """

    outcome: ApplyOutcome
    resource_version: str = ""
    previous_type: str = ""

    @property
    def changed(self) -> bool:
        """Whether anything was written."""
        return self.outcome is not ApplyOutcome.UNCHANGED


class EventType(Enum):
    """The two types that Kubernetes knows."""

    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that the reader of `kubectl describe` should know.

    Attributes:
        involved_object: what it is attached to.
    """

    involved_object: PodRef | ClassRef
    type: EventType
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class CsiVolume:
    """A volume of a pod that a CSI driver serves.

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


@dataclass(frozen=True, slots=True)
class Pod:
    """What matters of a pod.

    Attributes:
        phase: `Running`, for example.
        terminating: it is being deleted.
        owners: its ReplicaSet, for example.
        volumes: those that a CSI driver serves.
    """

    namespace: str
    name: str
    uid: str
    phase: str = ""
    terminating: bool = False
    service_account: str = ""
    owners: tuple[OwnerReference, ...] = ()
    volumes: tuple[CsiVolume, ...] = field(default=())

    @property
    def completed(self) -> bool:
        """Its containers have ended and will not start again."""
        return self.phase in {"Succeeded", "Failed"}
