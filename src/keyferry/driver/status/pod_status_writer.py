"""Writes the pod statuses of this node, in the background where a publish need not wait.

A status and its `Refreshed` condition are one write. The store skips what is written already.
Those of volumes without Secrets give way to publishes. Failed writes are retried: after an outage
when the Kubernetes API responds again, and after a rejection with backoff, because a permission may
be granted. docs/adr/0012 says why publishes do not wait.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from operator import itemgetter
from typing import TYPE_CHECKING

from keyferry.aio.backoff import exponential_backoff
from keyferry.aio.foreground import Foreground
from keyferry.aio.tasks import spawn
from keyferry.aio.work_queue import WorkQueue
from keyferry.driver.status.events import pod_status_failed
from keyferry.driver.status.refresh_condition import failed_condition, fetched_condition
from keyferry.driver.volumes.volume_events import (
    PodStatusWritten,
    VolumePublished,
    VolumeRefreshed,
    VolumeRefreshFailed,
    VolumeRemoved,
)
from keyferry.errors import StoreError, StoreUnavailableError
from keyferry.kubernetes.cluster import Reconnected
from keyferry.kubernetes.pod_status import continued_condition, pod_status_name
from keyferry.records import replace
from keyferry.telemetry.logs import ObjectName, get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from keyferry.aio.clock import Clock
    from keyferry.driver.request import PublishRequest
    from keyferry.driver.volumes.volume_events import VolumeEvent, VolumeEvents
    from keyferry.driver.volumes.volume_table import Volume, VolumeTable
    from keyferry.errors import KeyferryError
    from keyferry.kubernetes import ObjectStore, PodStatus
    from keyferry.kubernetes.cluster import ClusterEvent
    from keyferry.kubernetes.objects import RefreshCondition
    from keyferry.telemetry.metrics import VolumeMetrics

MAX_PENDING = 5000
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
        clock: timestamps and delays.
        backoff: seconds to wait after this number of consecutive failures.
        foreground: the publishes in flight.
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
        foreground: Foreground | None = None,
    ) -> None:
        self._store = store
        self._volumes = volumes
        self._events = events
        self._metrics = metrics
        self._clock = clock
        self._queue: WorkQueue[_Key] = WorkQueue(
            self._apply, group_of=itemgetter(0), clock=clock, name="pod statuses", backoff=backoff
        )
        self._foreground = foreground or Foreground()
        self._adding: asyncio.Task[None] | None = None
        self._postponed: dict[_Key, None] = {}
        """Keys to be queued at the next pause of publishes."""
        self._pending: dict[_Key, PodStatus] = {}
        self._failures: dict[_Key, tuple[str, RefreshCondition]] = {}
        """Pending conditions of failed refreshes, with the target path of the volume."""
        self._awaited: dict[_Key, PodStatus] = {}
        self._in_flight: dict[_Key, str] = {}
        """The target paths of the pod statuses that are being written."""
        self._reported: dict[_Key, str] = {}
        """The last reported rejection of each pod status."""

    def __len__(self) -> int:
        """The number of pending pod statuses and conditions."""
        return len(self._pending) + len(self._failures)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write pod statuses while the block runs, and pending ones for a limited time after it."""
        async with self._queue.running():
            try:
                yield
            finally:
                if self._adding is not None:
                    self._adding.cancel()
                await self._wait_for_attempt(self._pending, seconds=DRAIN_SECONDS)

    def on_cluster_event(self, event: ClusterEvent) -> None:
        """Retry failed writes when the Kubernetes API responds again."""
        if isinstance(event, Reconnected):
            self._queue.retry_failed()

    async def on_volume_event(self, event: VolumeEvent) -> None:
        """Write the pod status of a volume with new content; discard that of a removed volume."""
        match event:
            case VolumePublished(expiries=None, spc=spc, status=status, status_required=False):
                # Of an earlier process, with its condition.
                self.enqueue(status, gives_way=not spc.secret_objects)
            case VolumePublished(expiries=None, status=status):
                await self.write(status)
            case VolumePublished(volume=volume, spc=spc, status=status, status_required=False):
                status = self._with_condition(status, volume)
                self.enqueue(status, gives_way=not spc.secret_objects)
            case VolumePublished(volume=volume, status=status):
                await self.write(self._with_condition(status, volume))
            case VolumeRefreshed(volume=volume, status=status):
                await self.write(self._with_condition(status, volume))
            case VolumeRefreshFailed(request=request, error=error):
                self._enqueue_failure(request, error)
            case VolumeRemoved(target_path=target_path):
                await self.discard(target_path)
            case _:
                pass

    def enqueue(self, status: PodStatus, *, gives_way: bool = False) -> None:
        """Write `status` in the background, in place of a pending one with its name.

        Args:
            status: what to write.
            gives_way: whether to wait for a pause of publishes. Not for a volume with Secrets:
                another node whose last pod ends would delete them, because only the pod status
                shows that they are in use.
        """
        key = self._add_pending(status)
        if not gives_way or self._foreground.is_pausing:
            self._queue.add(key)
            return
        self._postponed[key] = None
        if self._adding is None:
            self._adding = spawn(self._add_postponed(), name="postponed pod statuses")

    async def _add_postponed(self) -> None:
        await self._foreground.wait_for_pause()
        self._adding = None
        keys, self._postponed = self._postponed, {}
        for key in keys:
            self._queue.add(key)

    def _add_pending(self, status: PodStatus) -> _Key:
        key = (status.namespace, status.name)
        self._failures.pop(key, None)
        self._pending.pop(key, None)
        self._pending[key] = status
        self._drop_oldest()
        return key

    def _with_condition(self, status: PodStatus, volume: Volume) -> PodStatus:
        return replace(status, refresh=fetched_condition(volume, self._clock.wall()))

    def _enqueue_failure(self, request: PublishRequest, error: KeyferryError) -> None:
        """Write the condition of a failed refresh, with the pod status if that is pending."""
        key = request.pod.namespace, pod_status_name(request.pod, request.class_name)
        condition = failed_condition(error, self._clock.wall())
        if key in self._pending:
            before = self._pending[key].refresh
            condition = continued_condition(before, condition)
            self._pending[key] = replace(self._pending[key], refresh=condition)
        else:
            self._failures[key] = request.target_path, condition
        self._queue.add(key)

    async def write(self, status: PodStatus) -> None:
        """Write `status` and wait for the first attempt; retries run in the background."""
        key = (status.namespace, status.name)
        self._awaited[key] = status
        try:
            self._add_pending(status)
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
        for key, (target, _) in list(self._failures.items()):
            if target == target_path:
                del self._failures[key]
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
            return await self._apply_failure(key)
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

    async def _apply_failure(self, key: _Key) -> bool:
        """Write the condition of a failed refresh, if one is pending."""
        if key not in self._failures:
            return True
        pending = self._failures[key]
        try:
            await self._store.apply_refresh_condition(*key, pending[1])
        except StoreUnavailableError:
            return False
        except StoreError as error:
            _log.warning(
                "cannot update the Refreshed condition of a pod status",
                status=ObjectName(*key),
                error=str(error),
            )
        if self._failures.get(key) is pending:
            del self._failures[key]
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
