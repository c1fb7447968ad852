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
    """Reads classes; writes Secrets, pod statuses and events.

    Every method may raise `StoreError`, and `StoreAwayError` where trying again may help.
    """

    @property
    def cluster(self) -> ClusterView:
        """What is known of the cluster around, and who wants to hear of its changes."""

    async def get_class(self, namespace: str, name: str) -> SecretProviderClass:
        """The class, or `ClassNotFoundError` / `ClassInvalidError` (a field has the wrong type)."""

    async def find_pod_status(self, namespace: str, name: str) -> PodStatus | None:
        """The pod status of that name, if there is one."""

    async def apply_pod_status(self, status: PodStatus) -> OwnerReference:
        """Create it, or make it equal to `status`; the labels of others stay.

        Returns:
            The reference by which a Secret names this pod status as its owner.
        """

    async def apply_refresh_condition(
        self, namespace: str, name: str, condition: RefreshCondition
    ) -> None:
        """Tell in a pod status how its volume fares; nothing where there is no such pod status."""

    async def apply_secret(self, secret: DesiredSecret) -> ApplyResult:
        """Create it, or make it equal to `secret`, as `secret_rules` decides.

        Raises:
            SecretForeignError: one of that name is there that Keyferry did not make.
            SecretClaimedError: another class has it.
        """

    async def find_secret(self, namespace: str, name: str) -> LiveSecret | None:
        """The Secret as it is; None when there is none."""

    async def delete_secret(self, namespace: str, name: str, expected: LiveSecret) -> bool:
        """Delete it if it still is as it was; False when it has changed since."""

    async def record_event(self, event: Event) -> None:
        """Record it; never raises, because an event must not decide over a mount."""

    @property
    def pending_events(self) -> int:
        """How many events are recorded and not yet written."""

    async def volume_removed(self, target_path: str) -> None:
        """The volume is unpublished.

        Let go what only it kept. The Kubernetes API does this by itself.
        """

    def problem(self) -> str | None:
        """Why classes may be unknown that are there, in words; None once all were seen."""

    async def remove_taint(self, node: str, key: str) -> bool:
        """Take the taint `key` from `node`; True when it was there."""
