"""Events of the cluster: written in the background, the same one counted instead of repeated."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import TYPE_CHECKING

from keyferry.errors import StoreAwayError, StoreError
from keyferry.logs import get_logger
from keyferry.store.kube_errors import ApiMissingError
from keyferry.store.kube_kinds import Events
from keyferry.store.manifest_codec import event_manifest
from keyferry.store.mirror import backoff
from keyferry.store.names import MAX_SUBDOMAIN, shortened

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from keyferry.store.interface import Event
    from keyferry.store.kube_client import KubeApi
    from keyferry.store.manifest_codec import Manifest

MAX_WAITING = 1000
MAX_REMEMBERED = 1000

_log = get_logger("events")


class EventRecorder:
    """Takes events at once and writes them one after the other.

    Args:
        api: where to.
        clock: tells the time, with a time zone.
        pause: seconds to wait after so many failures in a row while the API is away.
    """

    def __init__(
        self,
        api: KubeApi,
        *,
        clock: Callable[[], datetime],
        pause: Callable[[int], float] = backoff,
    ) -> None:
        self._api = api
        self._clock = clock
        self._waiting: asyncio.Queue[Event] = asyncio.Queue(MAX_WAITING)
        self._written: dict[Event, tuple[str, Manifest]] = {}
        self._pause = pause

    @property
    def waiting(self) -> int:
        """How many events are not written yet."""
        return self._waiting.qsize()

    def record(self, event: Event) -> None:
        """Write it soon, or when the API server is back; it is lost when too many wait."""
        try:
            self._waiting.put_nowait(event)
        except asyncio.QueueFull:
            _log.warning("an event is lost: too many wait", reason=event.reason)

    async def run(self) -> None:
        """Writes until it is cancelled."""
        while True:
            event = await self._waiting.get()
            try:
                await self._write_when_possible(event)
            except StoreError as error:
                _log.warning("an event is lost", reason=event.reason, error=str(error))
            finally:
                self._waiting.task_done()

    async def _write_when_possible(self, event: Event) -> None:
        failures = 0
        while True:
            try:
                await self._write(event)
            except StoreAwayError as error:
                if not failures:
                    _log.warning("events wait for the API", error=str(error))
                await asyncio.sleep(self._pause(failures))
                failures += 1
            else:
                return

    async def drain(self, seconds: float) -> None:
        """Waits until what was recorded is written, but not for ever."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._waiting.join(), seconds)

    async def _write(self, event: Event) -> None:
        name, earlier = self._written.pop(event, ("", None))
        if earlier is not None:
            with contextlib.suppress(ApiMissingError):  # they last an hour
                await self._count(event, name, earlier)
                return
        now = self._clock()
        name = _event_name(event, now)
        manifest = event_manifest(event, name, now=now, earlier=None)
        await self._api.create(Events, event.about.namespace, manifest)
        self._remember(event, name, manifest)

    async def _count(self, event: Event, name: str, earlier: Manifest) -> None:
        manifest = event_manifest(event, name, now=self._clock(), earlier=earlier)
        patch = {field: manifest[field] for field in ("count", "lastTimestamp")}
        await self._api.merge(Events, event.about.namespace, name, patch)
        self._remember(event, name, manifest)

    def _remember(self, event: Event, name: str, manifest: Manifest) -> None:
        self._written[event] = (name, manifest)
        if len(self._written) > MAX_REMEMBERED:
            del self._written[next(iter(self._written))]


def _event_name(event: Event, now: datetime) -> str:
    """A name of its own, because an earlier process may have told the same."""
    identity = f"{event.about.uid}\n{event.reason}\n{event.message}\n{now.timestamp()}"
    digest = hashlib.sha256(identity.encode(errors="replace")).hexdigest()[:16]
    return f"{shortened(event.about.name, limit=MAX_SUBDOMAIN - len(digest) - 1)}.{digest}"
