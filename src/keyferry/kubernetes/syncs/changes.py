"""What changed in the cluster, for the SecretSync controller. [pure]"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct

if TYPE_CHECKING:
    from keyferry.kubernetes.objects import SecretProviderClass
    from keyferry.kubernetes.syncs.objects import SecretSync, ServiceAccountOptIn


class SyncChanged(Struct, frozen=True):
    """A SecretSync asks for something else, is new, or was deleted; never its status.

    Attributes:
        before: None if it is new.
        after: None if it was deleted.
    """

    before: SecretSync | None
    after: SecretSync | None

    @property
    def sync(self) -> SecretSync:
        """The SecretSync after the change, else before it."""
        found = self.after or self.before
        assert found is not None
        return found


class ClassChanged(Struct, frozen=True):
    """A SecretProviderClass changed, is new, or was deleted.

    Attributes:
        namespace: of the SecretProviderClass.
        name: of the SecretProviderClass.
        before: None if it is new, or was invalid.
        after: None if it was deleted, or is invalid.
    """

    namespace: str
    name: str
    before: SecretProviderClass | None
    after: SecretProviderClass | None


class SyncSecretChanged(Struct, frozen=True):
    """A Secret of a SecretSync was created, changed or deleted, also by the controller.

    A Secret that lost its label is reported as deleted.

    Attributes:
        namespace: of the Secret.
        name: of the Secret.
        deleted: whether it no longer exists.
        uid: of the Secret; the last one if it was deleted.
        resource_version: of the Secret; the last known one if it was deleted.
    """

    namespace: str
    name: str
    deleted: bool
    uid: str
    resource_version: str

    @property
    def version(self) -> str:
        """`uid/resourceVersion`, as in `SyncStatus.observed_secret`."""
        return f"{self.uid}/{self.resource_version}"


class ServiceAccountChanged(Struct, frozen=True):
    """A service account permits SecretSyncs to use it, or no longer does.

    Attributes:
        namespace: of the service account.
        name: of the service account.
        after: None if it does not exist, or permits nothing.
    """

    namespace: str
    name: str
    after: ServiceAccountOptIn | None


class Reconnected(Struct, frozen=True):
    """A list of the Kubernetes API succeeded after a failure: what failed may work now."""


SyncEvent: TypeAlias = (
    SyncChanged | ClassChanged | SyncSecretChanged | ServiceAccountChanged | Reconnected
)
SyncEventHandler: TypeAlias = Callable[[SyncEvent], None]
