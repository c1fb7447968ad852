"""Writes the pod statuses of this node beside the publishes that need none of them.

What the API cannot take now is written when it can; what it refuses is told on the pod and tried
again, because a right may be granted. docs/adr/0012 says why nobody waits.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from keyferry.aio.backoff import exponential_backoff
from keyferry.aio.work_queue import WorkQueue
from keyferry.driver.status.events import pod_status_failed
from keyferry.driver.volumes.volume_events import (
    PodStatusWritten,
    VolumePublished,
    VolumeRefreshed,
    VolumeRemoved,
)
from keyferry.errors import StoreError, StoreUnavailableError
from keyferry.kubernetes.cluster import Reconnected
from keyferry.telemetry.logs import ObjectName, get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from keyferry.aio.clock import Clock
    from keyferry.driver.volumes.volume_events import VolumeEvent, VolumeEvents
    from keyferry.driver.volumes.volume_table import VolumeTable
    from keyferry.kubernetes import ObjectStore, PodStatus
    from keyferry.kubernetes.cluster import ClusterEvent
    from keyferry.telemetry.metrics import VolumeMetrics

MAX_PENDING = 1000
"""How many are kept while the API is away; of each volume the last one."""
DISCARD_SECONDS = 1.0
"""How long the end of a volume waits for the write of its status that is under way."""
DRAIN_SECONDS = 2.0
"""How long the end of this process waits for the statuses that are not written yet."""

_Key = tuple[str, str]
_log = get_logger("statuses")


class PodStatusWriter:
    """Writes pod statuses, one after the other for each name.

    Args:
        store: where to.
        volumes: records each written pod status as the owner of the Secrets of its volume.
        events: notified of pod statuses that are written in the background.
        metrics: counts rejected pod statuses.
        clock: by which it waits.
        backoff: seconds to wait after so many failures in a row.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        volumes: VolumeTable,
        events: VolumeEvents,
        metrics: VolumeMetrics,
        clock: Clock,
        backoff: Callable[[int], float] = exponential_backoff,
    ) -> None:
        self._store = store
        self._volumes = volumes
        self._events = events
        self._metrics = metrics
        self._queue: WorkQueue[_Key] = WorkQueue(
            self._apply, clock=clock, name="pod statuses", backoff=backoff
        )
        self._pending: dict[_Key, PodStatus] = {}
        self._awaited: dict[_Key, PodStatus] = {}
        self._in_flight: dict[_Key, str] = {}
        """The target paths of the volumes whose statuses are under way to the store."""
        self._reported: dict[_Key, str] = {}
        """What was last told of one that is refused."""

    def __len__(self) -> int:
        """How many are not written yet."""
        return len(self._pending)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Writes while the block runs, and at its end, for a while, what still waits."""
        async with self._queue.running():
            try:
                yield
            finally:
                await self._wait_for_attempt(self._pending, seconds=DRAIN_SECONDS)

    def on_cluster_event(self, event: ClusterEvent) -> None:
        """Retry failed writes when the Kubernetes API responds again."""
        if isinstance(event, Reconnected):
            self._queue.retry_failed()

    async def on_volume_event(self, event: VolumeEvent) -> None:
        """Write the pod status of a volume with new content; discard that of a removed volume."""
        match event:
            case VolumePublished(status=status, status_required=False):
                self.enqueue(status)
            case VolumePublished(status=status) | VolumeRefreshed(status=status):
                await self.write(status)
            case VolumeRemoved(target_path=target_path):
                await self.discard(target_path)
            case _:
                pass

    def enqueue(self, status: PodStatus) -> None:
        """Have `status` written soon, in place of an earlier one of its name."""
        key = (status.namespace, status.name)
        self._pending.pop(key, None)
        self._pending[key] = status
        self._drop_oldest()
        self._queue.add(key)

    async def write(self, status: PodStatus) -> None:
        """Write `status`, and wait for the first try; later ones are as of `record`."""
        key = (status.namespace, status.name)
        self._awaited[key] = status
        try:
            self.enqueue(status)
            await self._queue.run_and_wait(key)
        finally:
            if self._awaited.get(key) is status:
                del self._awaited[key]

    async def discard(self, target_path: str) -> None:
        """The volume is gone: its status is not written any more once this returns.

        Only one that is under way and that the API takes very long for may come later; the pod
        owns it, so that Kubernetes takes it away.
        """
        for key, status in list(self._pending.items()):
            if status.target_path == target_path:
                del self._pending[key]
                self._reported.pop(key, None)
        under_way = [key for key, target in self._in_flight.items() if target == target_path]
        await self._wait_for_attempt(under_way, seconds=DISCARD_SECONDS)

    async def _wait_for_attempt(self, keys: Iterable[_Key], *, seconds: float) -> None:
        """Waits for a try of each of them, but not for ever."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*[self._queue.run_and_wait(key) for key in keys])

    async def _apply(self, key: _Key) -> bool:
        status = self._pending.get(key)
        if status is None:
            return True
        self._in_flight[key] = status.target_path
        try:
            owner = await self._store.apply_pod_status(status)
        except StoreUnavailableError as error:
            _log.warning(
                "a pod status waits for the API", status=ObjectName(*key), error=str(error)
            )
            return False
        except StoreError as error:
            await self._report_rejection(key, status, error)
            return False
        finally:
            del self._in_flight[key]
        self._reported.pop(key, None)
        self._volumes.set_owner(status.target_path, owner)
        if self._awaited.get(key) is not status:
            await self._events.publish(PodStatusWritten(status))
        if self._pending.get(key) is status:
            del self._pending[key]
        return True

    async def _report_rejection(self, key: _Key, status: PodStatus, error: StoreError) -> None:
        """Tells it once; a volume without a status serves its pod as well."""
        self._metrics.pod_status_failed(error)
        if self._reported.get(key) == str(error):
            return
        self._reported[key] = str(error)
        _log.error(
            "a pod status is refused; the volume is there, it is tried again",
            status=ObjectName(*key),
            targetPath=status.target_path,
            **error.log_pairs(),
        )
        await self._store.record_event(pod_status_failed(status, error))

    def _drop_oldest(self) -> None:
        while len(self._pending) > MAX_PENDING:
            key = next(iter(self._pending))
            del self._pending[key]
            self._reported.pop(key, None)
            _log.warning("a pod status is lost: too many wait", status=ObjectName(*key))
