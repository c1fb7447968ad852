"""How it is known that an earlier process published a volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.driver.publish.plan import HAS_CONTENT, Completion, VolumeState
from keyferry.driver.volumes.target_paths import parse_volume_path
from keyferry.errors import StoreUnavailableError
from keyferry.kubernetes.pod_status import pod_status

if TYPE_CHECKING:
    from keyferry.driver.request import PublishRequest
    from keyferry.kubernetes import ObjectStore, PodStatus


class PublishHistory:
    """Reads the pod statuses of volumes.

    Args:
        store: where they are.
        node: the name of this node.
    """

    def __init__(self, store: ObjectStore, *, node: str) -> None:
        self._store = store
        self._node = node

    def empty_status(self, request: PublishRequest) -> PodStatus:
        """The name of the pod status of a volume, and whose it is."""
        return pod_status(request.pod, request.class_name, request.target_path, self._node, ())

    async def find(self, request: PublishRequest) -> PodStatus | None:
        """The pod status by which an earlier publish of this very volume ended.

        Raises:
            StoreError: the store does not tell.
        """
        wanted = self.empty_status(request)
        status = await self._store.find_pod_status(wanted.namespace, wanted.name)
        if status is None or status.pod.uid != request.pod.uid:
            return None
        return status if status.target_path == request.target_path else None

    async def completion(self, request: PublishRequest, state: VolumeState) -> Completion:
        """What is known of a volume that this process does not remember.

        Raises:
            StoreError: the store does not tell, and is not just away.
        """
        if state not in HAS_CONTENT:
            return Completion.UNKNOWN
        try:
            if await self.find(request) is not None:
                return Completion.RECORDED
        except StoreUnavailableError:
            return Completion.RECORDED  # or may be
        path = parse_volume_path(request.target_path)
        own = path is not None and path.pod_uid == request.pod.uid
        return Completion.EVIDENT if own and state is VolumeState.WRITTEN else Completion.UNKNOWN
