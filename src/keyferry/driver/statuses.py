"""Writes the pod statuses of this node; what the API cannot take now is written when it can."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.driver.work_queue import WorkQueue, backoff
from keyferry.errors import StoreAwayError, StoreError
from keyferry.logs import ObjectName, get_logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from keyferry.clocks import Clock
    from keyferry.driver.volumes import Volumes
    from keyferry.store import ObjectStore, OwnerReference, PodStatus

MAX_WAITING = 1000
"""How many are kept while the API is away; of each volume the last one."""

_Key = tuple[str, str]
_log = get_logger("statuses")


class StatusKeeper:
    """Writes pod statuses, one after the other for each volume.

    Args:
        store: where to.
        volumes: hear of the pod statuses that they can be owned by.
        clock: by which it waits.
        pause: seconds to wait after so many failures in a row.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        volumes: Volumes,
        clock: Clock,
        pause: Callable[[int], float] = backoff,
    ) -> None:
        self._store = store
        self._volumes = volumes
        self._queue: WorkQueue[_Key] = WorkQueue(
            self._write, clock=clock, what="pod statuses", pause=pause
        )
        self._wanted: dict[_Key, PodStatus] = {}
        self._owners: dict[_Key, OwnerReference] = {}
        self._refused: dict[_Key, StoreError] = {}
        self._late: set[_Key] = set()
        self.on_late: Callable[[PodStatus], None] = lambda _: None
        """Called with a pod status that was written after its publish had gone on."""

    def __len__(self) -> int:
        """How many wait for the API."""
        return len(self._wanted)

    def running(self) -> AbstractAsyncContextManager[None]:
        """Writes while the block runs."""
        return self._queue.running()

    def retry(self) -> None:
        """The API may be back."""
        self._queue.retry_failed()

    async def record(self, status: PodStatus) -> OwnerReference | None:
        """Writes `status`; None when the API is away, so that it is written later.

        Raises:
            StoreError: the API refuses it.
        """
        key = (status.namespace, status.name)
        self._wanted.pop(key, None)
        self._wanted[key] = status
        await self._queue.settle(key)
        if error := self._refused.pop(key, None):
            raise error
        if key in self._wanted:
            self._late.add(key)
            self._limit()
        return self._owners.pop(key, None)

    def forget(self, target_path: str) -> None:
        """The volume is gone; its status need not be written any more."""
        for key, status in list(self._wanted.items()):
            if status.target_path == target_path:
                del self._wanted[key]
                self._late.discard(key)

    async def _write(self, key: _Key) -> bool:
        status = self._wanted.get(key)
        if status is None:
            return True
        try:
            owner = await self._store.apply_pod_status(status)
        except StoreAwayError as error:
            _log.warning(
                "a pod status waits for the API", status=ObjectName(*key), error=str(error)
            )
            return False
        except StoreError as error:
            self._refused[key] = error
        else:
            self._volumes.owned_by(status.target_path, owner)
            if key in self._late:
                self._late.discard(key)
                self.on_late(status)
            else:
                self._owners[key] = owner
        if self._wanted.get(key) is status:
            del self._wanted[key]
        return True

    def _limit(self) -> None:
        while len(self._wanted) > MAX_WAITING:
            key = next(iter(self._wanted))
            del self._wanted[key]
            self._late.discard(key)
            _log.warning("a pod status is lost: too many wait", status=ObjectName(*key))
