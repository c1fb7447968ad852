"""Tells in the pod statuses how the volumes fare, and seldom: what changed, and once an hour."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from keyferry.driver.work_queue import WorkQueue, backoff
from keyferry.errors import StoreAwayError, StoreError
from keyferry.logs import ObjectName, get_logger
from keyferry.store.interface import Health

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from keyferry.clocks import Clock
    from keyferry.errors import KeyferryError
    from keyferry.store import ObjectStore, PodStatus

WRITE_AGAIN = timedelta(hours=1)
"""How old the last refresh that is told may be while nothing else changes."""
MAX_MESSAGE = 1024

_Key = tuple[str, str]
_log = get_logger("health")


class HealthKeeper:
    """Knows how the refreshes of each volume end.

    Args:
        store: where it is told.
        clock: the time.
        pause: seconds to wait after so many failures in a row.
    """

    def __init__(
        self, store: ObjectStore, *, clock: Clock, pause: Callable[[int], float] = backoff
    ) -> None:
        self._store = store
        self._clock = clock
        self._queue: WorkQueue[_Key] = WorkQueue(
            self._write, clock=clock, what="health of volumes", pause=pause
        )
        self._known: dict[_Key, tuple[str, Health]] = {}
        """By pod status: the target path, and how the volume there fares."""
        self._told: dict[_Key, datetime] = {}

    def __len__(self) -> int:
        """How many pod statuses are to be written."""
        return len(self._queue)

    def running(self) -> AbstractAsyncContextManager[None]:
        """Writes while the block runs."""
        return self._queue.running()

    def retry(self) -> None:
        """The API may be back."""
        self._queue.retry_failed()

    def refreshed(self, status: PodStatus) -> None:
        """A refresh of the volume of `status` succeeded."""
        now = self._clock.wall()
        self._keep(status, Health(refreshed_at=now, since=now))

    def failed(self, status: PodStatus, error: KeyferryError) -> None:
        """A refresh of the volume of `status` failed, and it keeps what it had."""
        key = (status.namespace, status.name)
        before = self._known[key][1] if key in self._known else None
        message = f"hop {error.hop.value}: {error}"
        health = Health(
            refreshed_at=before.refreshed_at if before else None,
            since=self._clock.wall(),
            reason=type(error).__name__.removesuffix("Error"),
            message=message if len(message) <= MAX_MESSAGE else f"{message[: MAX_MESSAGE - 3]}...",
        )
        self._keep(status, health)

    def forget(self, target_path: str) -> None:
        """The volume is gone."""
        for key, (target, _) in list(self._known.items()):
            if target == target_path:
                del self._known[key]
                self._told.pop(key, None)

    def _keep(self, status: PodStatus, health: Health) -> None:
        key = (status.namespace, status.name)
        _, before = self._known.get(key, ("", None))
        same = before is not None and _state(before) == _state(health)
        if before is not None and before.well == health.well:
            health = replace(health, since=before.since)
        self._known[key] = status.target_path, health
        told = self._told.get(key)
        if not same or told is None or self._clock.wall() - told >= WRITE_AGAIN:
            self._queue.add(key)

    async def _write(self, key: _Key) -> bool:
        if key not in self._known:
            return True
        _, health = self._known[key]
        try:
            await self._store.apply_health(*key, health)
        except StoreAwayError:
            return False
        except StoreError as error:
            _log.warning(
                "cannot tell how a volume fares", status=ObjectName(*key), error=str(error)
            )
        self._told[key] = self._clock.wall()
        return True


def _state(health: Health) -> tuple[str, str]:
    """What makes a difference; the text of an error may hold a time or a number of the call."""
    hop, _, _ = health.message.partition(":")
    return health.reason, hop
