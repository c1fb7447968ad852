"""The events of a volume's life, and the bus that delivers them to subscribers.

`driver.engine` lists the subscribers in one place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from keyferry.driver.request import PublishRequest
    from keyferry.driver.volumes.volume_table import Volume
    from keyferry.errors import KeyferryError
    from keyferry.kubernetes.objects import PodStatus, SecretProviderClass
    from keyferry.providers.api import StaleContent
    from keyferry.providers.expiry import Expiry


class VolumePublished(Struct, frozen=True):
    """A volume has complete content: it was fetched, or an earlier process left it.

    Attributes:
        volume: the volume, already in the table.
        spc: the SecretProviderClass that it was filled from.
        status: the pod status to write.
        status_required: the first attempt to write the pod status must end before the publish
            continues.
        expiries: when its objects expire; None when an earlier process fetched them.
        stale: the content that was used because vaults are unavailable, by vault.
    """

    volume: Volume
    spc: SecretProviderClass
    status: PodStatus
    status_required: bool
    expiries: tuple[Expiry, ...] | None
    stale: tuple[StaleContent, ...] = ()


class VolumeRefreshed(Struct, frozen=True):
    """A refresh of a published volume succeeded; its content may be unchanged.

    Attributes:
        volume: the volume, already in the table.
        spc: the SecretProviderClass that it was filled from.
        status: the pod status to write before the refresh continues.
        expiries: when its objects expire.
    """

    volume: Volume
    spc: SecretProviderClass
    status: PodStatus
    expiries: tuple[Expiry, ...]


class VolumeRefreshFailed(Struct, frozen=True):
    """A refresh of a published volume failed; the volume retains its previous content.

    Attributes:
        request: the call that asked for the refresh.
        error: why it failed.
    """

    request: PublishRequest
    error: KeyferryError


class VolumeRemoved(Struct, frozen=True):
    """A volume was unmounted, and is no longer in the table.

    Attributes:
        target_path: its mount point.
        volume: its last entry in the table; None when it had none.
        unpublished: True after an unpublish; False after a failed first mount, which kubelet
            retries.
    """

    target_path: str
    volume: Volume | None
    unpublished: bool


class PodStatusWritten(Struct, frozen=True):
    """A pod status was written in the background, after the publish had continued."""

    status: PodStatus


VolumeEvent = (
    VolumePublished | VolumeRefreshed | VolumeRefreshFailed | VolumeRemoved | PodStatusWritten
)
VolumeEventHandler = Callable[[VolumeEvent], Awaitable[None]]


class VolumeEvents:
    """Delivers each event to every subscriber, one after the other, in order of subscription.

    The publisher of an event waits for the subscribers, because a CSI call may return only when
    they are done: a pod must not start before its Secrets can have an owner, and a volume must not
    be reported as removed while its pod status is being written.
    """

    def __init__(self) -> None:
        self._handlers: list[VolumeEventHandler] = []

    def subscribe(self, handler: VolumeEventHandler) -> None:
        """Call `handler` with every later event."""
        self._handlers.append(handler)

    async def publish(self, event: VolumeEvent) -> None:
        """Wait until every subscriber has handled `event`.

        Raises:
            KeyferryError: a subscriber failed. Later subscribers are not called: the caller fails
                its CSI call, and kubelet retries it.
        """
        for handler in self._handlers:
            await handler(event)
