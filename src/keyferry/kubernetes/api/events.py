"""Writes Kubernetes events in the background: one object for each cause, repeated seldom.

Events that are equal but for their message are one object, whose message is that of the last one.
client-go combines and limits events in the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.errors import StoreError, StoreUnavailableError
from keyferry.formats.bounded_dict import BoundedDict
from keyferry.formats.fields import Field, FieldTypeError
from keyferry.kubernetes.api.api_errors import (
    ApiConflictError,
    ApiNotFoundError,
    NamespaceTerminatingError,
)
from keyferry.kubernetes.api.event_budget import EventBudget, repeat_bucket
from keyferry.kubernetes.api.resources import EventResource
from keyferry.kubernetes.api.watches.reflector import api_backoff
from keyferry.kubernetes.names import MAX_SUBDOMAIN, shortened
from keyferry.kubernetes.object_codec import event_manifest
from keyferry.kubernetes.objects import EventType
from keyferry.telemetry.help_links import NO_LINKS
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry.aio.clock import Clock
    from keyferry.kubernetes.api.client import KubeApi
    from keyferry.kubernetes.object_codec import Manifest
    from keyferry.kubernetes.objects import Event
    from keyferry.resilience.limits.token_bucket import TokenBucket
    from keyferry.telemetry.help_links import HelpLinks

MAX_PENDING_EVENTS = 1000
MAX_REMEMBERED_EVENTS = 1000

_log = get_logger("events")


class _EventObject(Struct, eq=False):
    """One event object of the cluster.

    Attributes:
        event: the last occurrence.
        writes: limits the writes.
        count: how often it has occurred.
        is_queued: whether it waits to be written.
        is_written: whether it exists in the cluster, as far as this process knows.
    """

    event: Event
    writes: TokenBucket
    count: int = 0
    is_queued: bool = False
    is_written: bool = False


class EventRecorder:
    """Queues events and writes them one after the other.

    Args:
        api: the Kubernetes API.
        clock: reads the time.
        backoff: returns the seconds to wait after `n` consecutive failures.
        links: add links to the messages of warnings.
    """

    def __init__(
        self,
        api: KubeApi,
        *,
        clock: Clock,
        backoff: Callable[[int], float] = api_backoff,
        links: HelpLinks = NO_LINKS,
    ) -> None:
        self._api = api
        self._links = links
        self._clock = clock
        self._queue: asyncio.Queue[_EventObject] = asyncio.Queue(MAX_PENDING_EVENTS)
        self._objects: BoundedDict[tuple[object, ...], _EventObject] = BoundedDict(
            MAX_REMEMBERED_EVENTS
        )
        self._budget = EventBudget(clock.monotonic())
        self._backoff = backoff

    @property
    def pending(self) -> int:
        """The number of events that are not written yet."""
        return self._queue.qsize()

    def record(self, event: Event) -> None:
        """Count an event, and queue its object. The first case that applies decides:

        1. It is new, and the node or the namespace has created too many: it is dropped.
        2. Its object is queued, or was written a short time ago: it is only counted.
        3. MAX_PENDING_EVENTS are queued: it is dropped.
        4. Otherwise its object is queued.
        """
        now = self._clock.monotonic()
        found = self._objects.touch(event.key)
        if found is None:
            namespace, is_warning = event.involved_object.namespace, event.type is EventType.WARNING
            if not self._budget.take(namespace, is_warning=is_warning, now=now):
                _log.warning_once("events dropped: too many on this node", namespace=namespace)
                return
            found = self._objects[event.key] = _EventObject(event, repeat_bucket(now))
        found.event = event
        found.count += 1
        if found.is_queued or found.writes.available(now) < 1:
            return
        try:
            self._queue.put_nowait(found)
        except asyncio.QueueFull:
            _log.warning("event dropped: queue full", reason=event.reason)
            return
        found.writes.take(now)
        found.is_queued = True

    async def run(self) -> None:
        """Write queued events until cancelled."""
        while True:
            found = await self._queue.get()
            try:
                await self._write_with_retry(found)
            except NamespaceTerminatingError as error:
                _log.debug("event dropped", reason=found.event.reason, error=str(error))
            except StoreError as error:
                _log.warning("event dropped", reason=found.event.reason, error=str(error))
            finally:
                self._queue.task_done()

    async def _write_with_retry(self, found: _EventObject) -> None:
        failures = 0
        while True:
            try:
                await self._write(found)
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

    async def _write(self, found: _EventObject) -> None:
        """Create or update the object in the cluster. The cases:

        1. This process has written it: update it.
        2. It is new, or Kubernetes has deleted it after an hour: create it.
        3. An earlier process created it: update it, and continue its count.
        """
        found.is_queued = False
        event = found.event
        if found.is_written:
            with contextlib.suppress(ApiNotFoundError):
                await self._update(event, found.count)
                return
            found.count = 1
        manifest = self._manifest(event, _event_name(event))
        try:
            await self._api.create(
                EventResource,
                event.involved_object.namespace,
                {**manifest, "count": found.count},
            )
        except ApiConflictError:
            found.count += await self._update(event, None)
        found.is_written = True

    def _manifest(self, event: Event, name: str) -> Manifest:
        now = self._clock.wall()
        return event_manifest(event, name, now=now, previous=None, links=self._links)

    async def _update(self, event: Event, count: int | None) -> int:
        """Update the object of an event; return the count that the cluster has."""
        name = _event_name(event)
        manifest = self._manifest(event, name)
        patch: Manifest = {name: manifest[name] for name in ("lastTimestamp", "message")}
        if count is not None:
            patch["count"] = count
        answer = await self._api.strategic_merge(
            EventResource, event.involved_object.namespace, name, patch
        )
        try:
            return Field(answer)["count"].number()
        except FieldTypeError:
            return 0


def _event_name(event: Event) -> str:
    """Return the name of an event object, which a restart of the driver does not change."""
    involved = event.involved_object
    identity = "\n".join((involved.uid, *map(str, event.key[1:])))
    digest = hashlib.sha256(identity.encode(errors="replace")).hexdigest()[:16]
    return f"{shortened(involved.name, limit=MAX_SUBDOMAIN - len(digest) - 1)}.{digest}"
