"""Writes Kubernetes events in the background; repeats increase the count of the first."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import TYPE_CHECKING

from keyferry.errors import StoreError, StoreUnavailableError
from keyferry.formats.bounded_dict import BoundedDict
from keyferry.kubernetes.api.api_errors import ApiNotFoundError
from keyferry.kubernetes.api.client import EventResource
from keyferry.kubernetes.api.reflector import api_backoff
from keyferry.kubernetes.names import MAX_SUBDOMAIN, shortened
from keyferry.kubernetes.object_codec import event_manifest
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from keyferry.aio.clock import Clock
    from keyferry.kubernetes.api.client import KubeApi
    from keyferry.kubernetes.object_codec import Manifest
    from keyferry.kubernetes.objects import Event

MAX_PENDING_EVENTS = 1000
MAX_REMEMBERED_EVENTS = 1000

_log = get_logger("events")


class EventRecorder:
    """Queues events and writes them one after the other.

    Args:
        api: where to.
        clock: reads the time.
        backoff: returns the seconds to wait after `n` consecutive failures.
    """

    def __init__(
        self,
        api: KubeApi,
        *,
        clock: Clock,
        backoff: Callable[[int], float] = api_backoff,
    ) -> None:
        self._api = api
        self._clock = clock
        self._queue: asyncio.Queue[Event] = asyncio.Queue(MAX_PENDING_EVENTS)
        self._written: BoundedDict[Event, tuple[str, Manifest]] = BoundedDict(MAX_REMEMBERED_EVENTS)
        self._backoff = backoff

    @property
    def pending(self) -> int:
        """The number of events that are not written yet."""
        return self._queue.qsize()

    def record(self, event: Event) -> None:
        """Queue an event; it is dropped if MAX_PENDING_EVENTS are queued."""
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            _log.warning("event dropped: queue full", reason=event.reason)

    async def run(self) -> None:
        """Write queued events until cancelled."""
        while True:
            event = await self._queue.get()
            try:
                await self._write_with_retry(event)
            except StoreError as error:
                _log.warning("event dropped", reason=event.reason, error=str(error))
            finally:
                self._queue.task_done()

    async def _write_with_retry(self, event: Event) -> None:
        failures = 0
        while True:
            try:
                await self._write(event)
            except StoreUnavailableError as error:
                if not failures:
                    _log.warning(
                        "event write deferred: Kubernetes API unavailable", error=str(error)
                    )
                await asyncio.sleep(self._backoff(failures))
                failures += 1
            else:
                return

    async def drain(self, seconds: float) -> None:
        """Wait up to `seconds` until all queued events are written."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._queue.join(), seconds)

    async def _write(self, event: Event) -> None:
        name, earlier = self._written.pop(event, ("", None))
        if earlier is not None:
            with contextlib.suppress(ApiNotFoundError):  # Kubernetes deletes events after an hour
                await self._increment_count(event, name, earlier)
                return
        now = self._clock.wall()
        name = _event_name(event, now)
        manifest = event_manifest(event, name, now=now, previous=None)
        await self._api.create(EventResource, event.involved_object.namespace, manifest)
        self._written[event] = (name, manifest)

    async def _increment_count(self, event: Event, name: str, previous: Manifest) -> None:
        manifest = event_manifest(event, name, now=self._clock.wall(), previous=previous)
        patch = {field: manifest[field] for field in ("count", "lastTimestamp")}
        await self._api.strategic_merge(EventResource, event.involved_object.namespace, name, patch)
        self._written[event] = (name, manifest)


def _event_name(event: Event, now: datetime) -> str:
    """Return a unique name; an earlier process may have recorded the same event."""
    identity = f"{event.involved_object.uid}\n{event.reason}\n{event.message}\n{now.timestamp()}"
    digest = hashlib.sha256(identity.encode(errors="replace")).hexdigest()[:16]
    return (
        f"{shortened(event.involved_object.name, limit=MAX_SUBDOMAIN - len(digest) - 1)}.{digest}"
    )
