"""The object store: the driver reads SecretProviderClasses here and writes its results. [pure]"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from keyferry.kubernetes.cluster import ClusterView
    from keyferry.kubernetes.live_secret import LiveSecret
    from keyferry.kubernetes.objects import (
        ApplyResult,
        DesiredSecret,
        Event,
        OwnerReference,
        PodStatus,
        RefreshCondition,
        SecretProviderClass,
    )


class ObjectStore(Protocol):
    """Reads SecretProviderClasses; writes Secrets, pod statuses and events.

    Each method can raise `StoreError`, or `StoreUnavailableError` if a retry may succeed.
    """

    @property
    def cluster(self) -> ClusterView:
        """The view of the cluster, with its subscriptions."""

    async def get_class(self, namespace: str, name: str) -> SecretProviderClass:
        """Return the SecretProviderClass.

        Raises:
            ClassNotFoundError: it does not exist.
            ClassInvalidError: a field has the wrong type.
        """

    async def find_pod_status(self, namespace: str, name: str) -> PodStatus | None:
        """Return the pod status, or None."""

    async def apply_pod_status(self, status: PodStatus) -> OwnerReference:
        """Create or update the pod status, with its condition if it has one.

        Labels of other clients are kept. A pod status that says the same is not written again.

        Returns:
            The owner reference to the pod status, for Secrets.
        """

    async def apply_refresh_condition(
        self, namespace: str, name: str, condition: RefreshCondition
    ) -> None:
        """Write the Refreshed condition of a pod status, if it has changed.

        No-op if the pod status does not exist.
        """

    async def apply_secret(self, secret: DesiredSecret) -> ApplyResult:
        """Create or update the Secret, as `plan_secret` decides.

        Raises:
            SecretNotManagedError: a Secret of that name exists that Keyferry does not manage.
            SecretConflictError: another SecretProviderClass owns it.
        """

    async def find_secret(self, namespace: str, name: str) -> LiveSecret | None:
        """Return the live Secret, or None."""

    async def delete_secret(self, namespace: str, name: str, expected: LiveSecret) -> bool:
        """Delete the Secret if it equals `expected`; return False if it has changed."""

    async def mark_secret_unused(
        self,
        namespace: str,
        name: str,
        expected: LiveSecret,
        *,
        since: str,
        owner: OwnerReference | None,
    ) -> bool:
        """Mark a Secret as unused if it equals `expected`; return False if it has changed.

        Args:
            namespace: of the Secret.
            name: of the Secret.
            expected: the Secret as it was read.
            since: when the last pod stopped using it, the value of the annotation.
            owner: its SecretProviderClass, to be added as an owner; None to add none.
        """

    async def release_secret(self, namespace: str, name: str, expected: LiveSecret) -> bool:
        """Remove the keys, labels and annotations of Keyferry from an adopted Secret.

        Returns:
            False if it does not equal `expected` any more; nothing is removed then.
        """

    async def record_event(self, event: Event) -> None:
        """Record an event; never raises, so that an event cannot fail a mount."""

    @property
    def pending_events(self) -> int:
        """Number of events that are not yet written."""

    async def volume_removed(self, target_path: str) -> None:
        """Delete objects that only the unpublished volume owned.

        No-op with the Kubernetes API, whose garbage collector does it.
        """

    def problem(self) -> str | None:
        """Return why the store is not ready, or None."""

    async def remove_taint(self, node: str, key: str) -> bool:
        """Remove the taint `key` of `node`; return whether it existed."""
