"""Writes the `Refreshed` condition of pod statuses: on every change, and at least hourly."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from operator import itemgetter
from typing import TYPE_CHECKING

from keyferry.aio.backoff import exponential_backoff
from keyferry.aio.work_queue import WorkQueue
from keyferry.driver.status.missing_object_reporter import missing_note
from keyferry.driver.volumes.volume_events import (
    VolumeRefreshed,
    VolumeRefreshFailed,
    VolumeRemoved,
)
from keyferry.errors import StoreError, StoreUnavailableError
from keyferry.kubernetes.cluster import Reconnected
from keyferry.kubernetes.objects import RefreshCondition, truncate_message
from keyferry.kubernetes.pod_status import pod_status_name
from keyferry.telemetry.logs import ObjectName, get_logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from keyferry.aio.clock import Clock
    from keyferry.driver.request import PublishRequest
    from keyferry.driver.volumes.volume_events import VolumeEvent
    from keyferry.driver.volumes.volume_table import Volume
    from keyferry.errors import KeyferryError
    from keyferry.kubernetes import ObjectStore
    from keyferry.kubernetes.cluster import ClusterEvent

REWRITE_INTERVAL = timedelta(hours=1)
"""A repeated success is written when the written one is at least this old."""

_Key = tuple[str, str]
"""Namespace and name of a pod status."""
_log = get_logger("health")


class RefreshConditionWriter:
    """Keeps the `Refreshed` condition of each volume and writes it to its pod status.

    Args:
        store: where pod statuses are written.
        clock: timestamps and delays.
        backoff: seconds to wait after this number of consecutive failures.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        clock: Clock,
        backoff: Callable[[int], float] = exponential_backoff,
    ) -> None:
        self._store = store
        self._clock = clock
        self._queue: WorkQueue[_Key] = WorkQueue(
            self._write,
            group_of=itemgetter(0),
            clock=clock,
            name="refresh conditions",
            backoff=backoff,
        )
        self._conditions: dict[_Key, tuple[str, RefreshCondition]] = {}
        """By pod status: the target path and the condition of the volume."""
        self._written_at: dict[_Key, datetime] = {}

    def __len__(self) -> int:
        """The number of pod statuses to write."""
        return len(self._queue)

    def running(self) -> AbstractAsyncContextManager[None]:
        """Write conditions while the block runs."""
        return self._queue.running()

    def on_cluster_event(self, event: ClusterEvent) -> None:
        """Retry failed writes when the Kubernetes API responds again."""
        if isinstance(event, Reconnected):
            self._queue.retry_failed()

    async def on_volume_event(self, event: VolumeEvent) -> None:
        """Update the condition of the volume of `event`."""
        match event:
            case VolumeRefreshed(volume=volume):
                now = self._clock.wall()
                note = truncate_message(missing_note(volume.missing))
                reason = "ObjectMissing" if note else "Refreshed"
                self._update(volume, RefreshCondition(now, now, reason, note=note))
            case VolumeRefreshFailed(request=request, error=error):
                self._update(request, self._failed_condition(request, error))
            case VolumeRemoved(target_path=target_path):
                self._remove(target_path)
            case _:
                pass

    def _failed_condition(self, request: PublishRequest, error: KeyferryError) -> RefreshCondition:
        _, before = self._conditions.get(_key_of(request), ("", None))
        detail = f" ({error.detail})" if error.detail else ""
        message = f"stage {error.stage.value}: {error}{detail}"
        return RefreshCondition(
            refreshed_at=before.refreshed_at if before else None,
            transitioned_at=self._clock.wall(),
            reason=type(error).__name__.removesuffix("Error"),
            message=truncate_message(message),
        )

    def _remove(self, target_path: str) -> None:
        for key, (target, _) in list(self._conditions.items()):
            if target == target_path:
                del self._conditions[key]
                self._written_at.pop(key, None)

    def _update(self, volume: Volume | PublishRequest, condition: RefreshCondition) -> None:
        key = _key_of(volume)
        _, before = self._conditions.get(key, ("", None))
        unchanged = before is not None and _comparison_key(before) == _comparison_key(condition)
        if before is not None and before.ok == condition.ok:
            condition = replace(condition, transitioned_at=before.transitioned_at)
        self._conditions[key] = volume.target_path, condition
        written_at = self._written_at.get(key)
        if (
            not unchanged
            or written_at is None
            or self._clock.wall() - written_at >= REWRITE_INTERVAL
        ):
            self._queue.add(key)

    async def _write(self, key: _Key) -> bool:
        if key not in self._conditions:
            return True
        _, condition = self._conditions[key]
        try:
            await self._store.apply_refresh_condition(*key, condition)
        except StoreUnavailableError:
            return False
        except StoreError as error:
            _log.warning(
                "cannot update the Refreshed condition of a pod status",
                status=ObjectName(*key),
                error=str(error),
            )
        self._written_at[key] = self._clock.wall()
        return True


def _key_of(volume: Volume | PublishRequest) -> _Key:
    return volume.pod.namespace, pod_status_name(volume.pod, volume.class_name)


def _comparison_key(condition: RefreshCondition) -> tuple[str, str, str]:
    """Return what makes two conditions different.

    The rest of the message may contain a time or a request id, and change with every refresh.
    """
    stage, _, _ = condition.message.partition(":")
    return condition.reason, stage, condition.note
