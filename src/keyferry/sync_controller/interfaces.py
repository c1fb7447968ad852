"""What the controller needs of its surroundings. [pure]"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyferry.kubernetes.live_secret import LiveSecret
    from keyferry.kubernetes.markings import Marking
    from keyferry.kubernetes.objects import (
        ApplyResult,
        DesiredSecret,
        Event,
        SecretProviderClass,
    )
    from keyferry.kubernetes.syncs.objects import (
        SecretSync,
        ServiceAccountOptIn,
        SyncKey,
        SyncStatus,
    )


class SyncView(Protocol):
    """The cached objects of the cluster."""

    def sync(self, key: SyncKey) -> SecretSync | None:
        """Return a SecretSync, or None."""

    def class_(self, namespace: str, name: str) -> SecretProviderClass | None:
        """Return a SecretProviderClass, or None.

        Raises:
            ClassInvalidError: a field has the wrong type.
        """

    def classes(self, namespace: str) -> Sequence[SecretProviderClass]:
        """Return the valid SecretProviderClasses of a namespace."""

    def secret_version(self, namespace: str, name: str) -> str | None:
        """Return `uid/resourceVersion` of a Secret with the label of SecretSyncs, or None."""

    def watches_secrets(self, namespace: str) -> bool:
        """Return whether the Secrets of a namespace are known."""

    def service_account(self, namespace: str, name: str) -> ServiceAccountOptIn | None:
        """Return a service account that opted in, or None."""


class SecretWriter(Protocol):
    """Writes Secrets. Each method can raise `StoreError`."""

    async def apply_secret(
        self, secret: DesiredSecret, *, seems_absent: bool = False
    ) -> ApplyResult:
        """Create or update a Secret, as `plan_secret` decides.

        Args:
            secret: the Secret to write.
            seems_absent: whether it probably does not exist, so that it is not read first.
        """

    async def find_secret(
        self, namespace: str, name: str, *, marking: Marking
    ) -> LiveSecret | None:
        """Return the live Secret, or None."""

    async def delete_secret(self, namespace: str, name: str, expected: LiveSecret) -> bool:
        """Delete the Secret if it equals `expected`; return False if it has changed."""


class StatusWriter(Protocol):
    """Writes the status of SecretSyncs."""

    async def write_status(self, sync: SecretSync, status: SyncStatus) -> None:
        """Write the status; no-op if the SecretSync does not exist any more.

        Raises:
            StoreError: it cannot be written.
        """


class EventSink(Protocol):
    """Records Kubernetes events."""

    def record(self, event: Event) -> None:
        """Queue an event; never waits and never raises."""


class ProviderReleases(Protocol):
    """Releases what providers hold for a SecretSync."""

    def volume_removed(self, target_path: str, *, unpublished: bool) -> None:
        """Release cached content and, if `unpublished`, revoke dynamic secrets."""
