"""The objects that the engine reads and writes, and the one interface to where they live. [pure]"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.contract import ObjectVersion


@dataclass(frozen=True, slots=True)
class SecretData:
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
    data: tuple[SecretData, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClassObject:
    """A SecretProviderClass as it stands in the store, texts trimmed.

    Nothing is checked yet beyond the types of the fields: `driver.spc` does that.
    """

    namespace: str
    name: str
    provider: str
    parameters: Mapping[str, str]
    secret_objects: tuple[SecretObject, ...] = ()


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

    Source: driver-wire, section 3.3.
    """

    namespace: str
    name: str
    pod: PodRef
    class_name: str
    target_path: str
    node: str
    objects: tuple[ObjectVersion, ...]


@dataclass(frozen=True, slots=True)
class SecretManifest:
    """A Kubernetes Secret as it is to be.

    The store adds what it needs to find its own Secrets again.
    """

    namespace: str
    name: str
    type: str
    data: Mapping[str, bytes] = field(repr=False)
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    owners: tuple[OwnerReference, ...]


class EventType(Enum):
    """The two types that Kubernetes knows."""

    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that the reader of `kubectl describe pod` should know."""

    pod: PodRef
    type: EventType
    reason: str
    message: str


class ObjectStore(Protocol):
    """Reads classes; writes Secrets, pod statuses and events.

    Every method may raise `StoreError`.
    """

    async def get_class(self, namespace: str, name: str) -> ClassObject:
        """The class, or `ClassNotFoundError` / `ClassInvalidError` (a field has the wrong type)."""

    async def find_pod_status(self, namespace: str, name: str) -> PodStatus | None:
        """The pod status of that name, if there is one."""

    async def apply_pod_status(self, status: PodStatus) -> OwnerReference:
        """Create it, or make it equal to `status`; the labels of others stay.

        Returns:
            The reference by which a Secret names this pod status as its owner.
        """

    async def apply_secret(self, secret: SecretManifest) -> bool:
        """Create it, or make it equal to `secret`, adding its owners to those that are there.

        True when it changed.
        """

    async def record_event(self, event: Event) -> None:
        """Record it; never raises, because an event must not decide over a mount."""

    async def volume_gone(self, target_path: str) -> None:
        """The volume is unpublished.

        Let go what only it kept. The Kubernetes API does this by itself.
        """

    def problem(self) -> str | None:
        """Why classes may be unknown that are there, in words; None once all were seen."""

    async def remove_taint(self, node: str, key: str) -> bool:
        """Take the taint `key` from `node`; True when it was there."""
