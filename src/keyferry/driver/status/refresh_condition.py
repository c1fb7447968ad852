"""Tells in the pod statuses how the volumes fare, and seldom: what changed, and once an hour."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from keyferry.aio.work_queue import WorkQueue, exponential_backoff
from keyferry.errors import StoreError, StoreUnavailableError
from keyferry.kubernetes.objects import RefreshCondition
from keyferry.telemetry.logs import ObjectName, get_logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from keyferry.aio.clock import Clock
    from keyferry.errors import KeyferryError
    from keyferry.kubernetes import ObjectStore, PodStatus

REWRITE_INTERVAL = timedelta(hours=1)
"""How old the last refresh that is told may be while nothing else changes."""
MAX_MESSAGE = 1024

_Key = tuple[str, str]
_log = get_logger("health")


class RefreshConditionWriter:
    """Knows how the refreshes of each volume end.

    Args:
        store: where it is told.
        clock: the time.
        backoff: seconds to wait after so many failures in a row.
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
            self._write, clock=clock, name="health of volumes", backoff=backoff
        )
        self._conditions: dict[_Key, tuple[str, RefreshCondition]] = {}
        """By pod status: the target path, and how the volume there fares."""
        self._written_at: dict[_Key, datetime] = {}

    def __len__(self) -> int:
        """How many pod statuses are to be written."""
        return len(self._queue)

    def running(self) -> AbstractAsyncContextManager[None]:
        """Writes while the block runs."""
        return self._queue.running()

    def retry(self) -> None:
        """The API may be back."""
        self._queue.retry_failed()

    def record_success(self, status: PodStatus) -> None:
        """A refresh of the volume of `status` succeeded."""
        now = self._clock.wall()
        self._update(status, RefreshCondition(refreshed_at=now, transitioned_at=now))

    def record_failure(self, status: PodStatus, error: KeyferryError) -> None:
        """A refresh of the volume of `status` failed, and it keeps what it had."""
        key = (status.namespace, status.name)
        before = self._conditions[key][1] if key in self._conditions else None
        message = f"stage {error.stage.value}: {error}"
        health = RefreshCondition(
            refreshed_at=before.refreshed_at if before else None,
            transitioned_at=self._clock.wall(),
            reason=type(error).__name__.removesuffix("Error"),
            message=message if len(message) <= MAX_MESSAGE else f"{message[: MAX_MESSAGE - 3]}...",
        )
        self._update(status, health)

    def remove(self, target_path: str) -> None:
        """The volume is gone."""
        for key, (target, _) in list(self._conditions.items()):
            if target == target_path:
                del self._conditions[key]
                self._written_at.pop(key, None)

    def _update(self, status: PodStatus, health: RefreshCondition) -> None:
        key = (status.namespace, status.name)
        _, before = self._conditions.get(key, ("", None))
        same = before is not None and _comparison_key(before) == _comparison_key(health)
        if before is not None and before.ok == health.ok:
            health = replace(health, transitioned_at=before.transitioned_at)
        self._conditions[key] = status.target_path, health
        told = self._written_at.get(key)
        if not same or told is None or self._clock.wall() - told >= REWRITE_INTERVAL:
            self._queue.add(key)

    async def _write(self, key: _Key) -> bool:
        if key not in self._conditions:
            return True
        _, health = self._conditions[key]
        try:
            await self._store.apply_refresh_condition(*key, health)
        except StoreUnavailableError:
            return False
        except StoreError as error:
            _log.warning(
                "cannot tell how a volume fares", status=ObjectName(*key), error=str(error)
            )
        self._written_at[key] = self._clock.wall()
        return True


def _comparison_key(health: RefreshCondition) -> tuple[str, str]:
    """What makes a difference; the text of an error may hold a time or a number of the call."""
    stage, _, _ = health.message.partition(":")
    return health.reason, stage
