"""How it is known that an earlier process published a volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.driver.plan import STANDING, Ending, VolumeState
from keyferry.driver.podstatus import pod_status
from keyferry.driver.target_paths import volume_path
from keyferry.errors import StoreAwayError

if TYPE_CHECKING:
    from keyferry.driver.request import PublishRequest
    from keyferry.store import ObjectStore, PodStatus


class Records:
    """Reads the pod statuses of volumes.

    Args:
        store: where they are.
        node: the name of this node.
    """

    def __init__(self, store: ObjectStore, *, node: str) -> None:
        self._store = store
        self._node = node

    def blank(self, request: PublishRequest) -> PodStatus:
        """The name of the pod status of a volume, and whose it is."""
        return pod_status(request.pod, request.class_name, request.target_path, self._node, ())

    async def find(self, request: PublishRequest) -> PodStatus | None:
        """The pod status by which an earlier publish of this very volume ended.

        Raises:
            StoreError: the store does not tell.
        """
        wanted = self.blank(request)
        status = await self._store.find_pod_status(wanted.namespace, wanted.name)
        if status is None or status.pod.uid != request.pod.uid:
            return None
        return status if status.target_path == request.target_path else None

    async def ending(self, request: PublishRequest, state: VolumeState) -> Ending:
        """What is known of a volume that this process does not remember.

        Raises:
            StoreError: the store does not tell, and is not just away.
        """
        if state not in STANDING:
            return Ending.UNKNOWN
        try:
            if await self.find(request) is not None:
                return Ending.RECORDED
        except StoreAwayError:
            return Ending.RECORDED  # or may be
        path = volume_path(request.target_path)
        own = path is not None and path.pod_uid == request.pod.uid
        return Ending.EVIDENT if own and state is VolumeState.WRITTEN else Ending.UNKNOWN
