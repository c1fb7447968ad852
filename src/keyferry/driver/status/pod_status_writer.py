"""Writes the pod statuses of this node, in the background where a publish need not wait.

Writes are retried: after an outage when the Kubernetes API responds again, and after a rejection
with backoff, because a permission may be granted. docs/adr/0012 says why publishes do not wait.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from operator import itemgetter
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
"""The maximum number of pending pod statuses; a newer one of a volume replaces the older one."""
DISCARD_SECONDS = 1.0
"""How long an unpublish waits for a write in flight of its pod status."""
DRAIN_SECONDS = 2.0
"""How long a shutdown waits for pending pod statuses."""

_Key = tuple[str, str]
_log = get_logger("statuses")


class PodStatusWriter:
    """Writes pod statuses; those with the same name one after the other.

    Args:
        store: where pod statuses are written.
        volumes: records each written pod status as the owner of the Secrets of its volume.
        events: notified of pod statuses that are written in the background.
        metrics: counts rejected pod statuses.
        clock: delays.
        backoff: seconds to wait after this number of consecutive failures.
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
            self._apply, group_of=itemgetter(0), clock=clock, name="pod statuses", backoff=backoff
        )
        self._pending: dict[_Key, PodStatus] = {}
        self._awaited: dict[_Key, PodStatus] = {}
        self._in_flight: dict[_Key, str] = {}
        """The target paths of the pod statuses that are being written."""
        self._reported: dict[_Key, str] = {}
        """The last reported rejection of each pod status."""

    def __len__(self) -> int:
        """The number of pending pod statuses."""
        return len(self._pending)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write pod statuses while the block runs, and pending ones for a limited time after it."""
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
        """Write `status` in the background, in place of a pending one with its name."""
        key = (status.namespace, status.name)
        self._pending.pop(key, None)
        self._pending[key] = status
        self._drop_oldest()
        self._queue.add(key)

    async def write(self, status: PodStatus) -> None:
        """Write `status` and wait for the first attempt; retries run in the background."""
        key = (status.namespace, status.name)
        self._awaited[key] = status
        try:
            self.enqueue(status)
            await self._queue.run_and_wait(key)
        finally:
            if self._awaited.get(key) is status:
                del self._awaited[key]

    async def discard(self, target_path: str) -> None:
        """Drop the pending pod status of a removed volume and wait for a write in flight.

        A write that takes longer than `DISCARD_SECONDS` may still succeed later. The pod owns the
        pod status, so Kubernetes deletes it with the pod.
        """
        for key, status in list(self._pending.items()):
            if status.target_path == target_path:
                del self._pending[key]
                self._reported.pop(key, None)
        in_flight = [key for key, target in self._in_flight.items() if target == target_path]
        await self._wait_for_attempt(in_flight, seconds=DISCARD_SECONDS)

    async def _wait_for_attempt(self, keys: Iterable[_Key], *, seconds: float) -> None:
        """Wait for one attempt to write each of `keys`, at most `seconds`."""
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
                "pod status write deferred: Kubernetes API unavailable",
                status=ObjectName(*key),
                error=str(error),
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
        """Report a rejected pod status once per message; the volume is usable without it."""
        self._metrics.pod_status_failed(error)
        if self._reported.get(key) == str(error):
            return
        self._reported[key] = str(error)
        _log.error(
            "pod status rejected; the volume is mounted and the write will be retried",
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
            _log.warning("pod status dropped: too many are pending", status=ObjectName(*key))
