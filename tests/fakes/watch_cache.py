"""The watch cache of a busy API server, in virtual time, for reflectors.

cache = WatchCache()
cache.put("web", "1")
async with cache.running():            # other objects change all the time
    reflector = Reflector(cache, ...)
    await asyncio.sleep(24 * 3600)
assert 1 == cache.lists

Source: https://github.com/kubernetes/kubernetes/blob/v1.35.0/staging/src/k8s.io/apiserver/pkg/storage/cacher/watch_cache.go
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from keyferry.errors import StoreUnavailableError
from keyferry.kubernetes.api.api_errors import ApiBusyError
from keyferry.kubernetes.api.watches.changes import (
    Began,
    Change,
    Changed,
    Expired,
    ListFirst,
    Progress,
    Removed,
    Resume,
    WatchStart,
)

FRESH_SECONDS = 75.0
"""How long the watch cache keeps changes."""
BOOKMARK_SECONDS = 60.0
LAST_BOOKMARK_SECONDS = 2.0
"""How long before the end of a stream the last bookmark is sent."""
FOREIGN_SECONDS = 15.0
FOREIGN_CHANGES = 3000
"""Changes of objects that no reflector selects, every `FOREIGN_SECONDS`."""


@dataclass(frozen=True)
class _Event:
    version: int
    at: float
    change: Change


class WatchCache:
    """Implements `ListWatcher`: the events of selected objects, between those of others.

    Args:
        stream_seconds: returns after how many seconds the next stream ends.
        bookmarks: whether streams have bookmarks.

    Attributes:
        lists: number of lists.
        streams: number of watches.
        versions_asked: the `not_older_than` of the lists.
        is_down: every request fails, and streams end.
    """

    def __init__(self, stream_seconds: Callable[[], float], *, bookmarks: bool = True) -> None:
        self.lists = 0
        self.streams = 0
        self.versions_asked: list[str] = []
        self.is_down = False
        self.objects: dict[str, dict[str, Any]] = {}
        self._stream_seconds = stream_seconds
        self._bookmarks = bookmarks
        self._version = 1000
        self._events: deque[_Event] = deque()
        self._expired_version = 0
        self._is_restored = False
        self._changed = asyncio.Condition()

    async def put(self, name: str, value: str) -> None:
        """Create or change a selected object."""
        self._version += 1
        metadata = {"namespace": "shop", "name": name, "resourceVersion": str(self._version)}
        self.objects[name] = {"metadata": metadata, "value": value}
        await self._record(Changed(self.objects[name]))

    async def remove(self, name: str) -> None:
        """Delete a selected object."""
        self._version += 1
        removed = self.objects.pop(name)
        metadata = {**removed["metadata"], "resourceVersion": str(self._version)}
        await self._record(Removed({**removed, "metadata": metadata}))

    async def go_down(self) -> None:
        """Refuse requests, and end all streams."""
        self.is_down = True
        async with self._changed:
            self._changed.notify_all()

    def restart(self) -> None:
        """Respond again, without the changes that were made before."""
        self.is_down = False
        self._events.clear()
        self._expired_version = self._version

    def restore(self) -> None:
        """Respond again, with an old state of etcd: versions go back."""
        self.is_down = False
        self._events.clear()
        self._version = 500
        self._is_restored = True

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Change objects that are not selected, and forget old changes, while the block runs."""
        task = asyncio.create_task(self._be_busy())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def watch(self, start: WatchStart) -> AsyncGenerator[Change, None]:
        """Report the selected objects and their changes."""
        if self.is_down:
            raise StoreUnavailableError("down", "wait")
        if isinstance(start, ListFirst):
            self.lists += 1
            self.versions_asked.append(start.not_older_than)
            if int(start.not_older_than or 0) > self._version:
                error = ApiBusyError("Too large resource version", "wait")
                error.http_status = 504
                raise error
            yield Began()
            seen = self._version
            for manifest in list(self.objects.values()):
                yield Changed(manifest)
            yield Progress(str(seen), ends_list=True)
        else:
            assert isinstance(start, Resume)
            seen = int(start.version)
            yield Began()
        self.streams += 1
        async for change in self._stream(seen):
            yield change

    async def _stream(self, seen: int) -> AsyncGenerator[Change, None]:
        if seen < self._expired_version or (self._is_restored and seen > self._version):
            yield Expired()
            return
        now = asyncio.get_running_loop().time
        end = now() + self._stream_seconds()
        bookmark_at = min(now() + BOOKMARK_SECONDS, end - LAST_BOOKMARK_SECONDS)
        while now() < end:
            for event in list(self._events):
                if event.version > seen:
                    seen = event.version
                    yield event.change
            if now() >= bookmark_at:
                bookmark_at = min(now() + BOOKMARK_SECONDS, end - LAST_BOOKMARK_SECONDS)
                bookmark_at = bookmark_at if bookmark_at > now() else end
                if self._bookmarks:
                    yield Progress(str(self._version))
            async with self._changed:
                try:
                    async with asyncio.timeout(min(bookmark_at, end) - now()):
                        await self._changed.wait()
                except TimeoutError:
                    pass
            if self.is_down:
                raise StoreUnavailableError("down", "wait")

    async def _record(self, change: Change) -> None:
        self._events.append(_Event(self._version, asyncio.get_running_loop().time(), change))
        async with self._changed:
            self._changed.notify_all()

    async def _be_busy(self) -> None:
        """Fill the cache with other changes, which push out the old ones."""
        history: deque[tuple[float, int]] = deque()
        while True:
            await asyncio.sleep(FOREIGN_SECONDS)
            now = asyncio.get_running_loop().time()
            self._version += FOREIGN_CHANGES
            history.append((now, self._version))
            while history and history[0][0] < now - FRESH_SECONDS:
                self._expired_version = max(self._expired_version, history.popleft()[1])
            while self._events and self._events[0].version <= self._expired_version:
                self._events.popleft()
