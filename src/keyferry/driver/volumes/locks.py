"""One lock per target path.

Two calls for one volume never interleave, different volumes run side by side. A call that takes the
volume away does not wait for those that would fill it: they are ended first.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyferry.errors import VolumeUnpublishedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass(slots=True)
class _TargetLock:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    references: int = 0
    publish_timeouts: set[asyncio.Timeout] = field(default_factory=set)
    """The calls that fill the volume, or wait to; each ends when its time is set to now."""


class TargetLocks:
    """Locks that exist only while somebody holds or awaits them."""

    def __init__(self) -> None:
        self._entries: dict[str, _TargetLock] = {}

    @asynccontextmanager
    async def for_publish(self, target_path: str) -> AsyncIterator[None]:
        """Holds the lock of `target_path` while the block runs.

        Raises:
            VolumeLeavingError: `to_empty` was asked for meanwhile, and the block was cancelled.
        """
        async with self._reference(target_path) as entry:
            ending = asyncio.timeout(None)
            try:
                async with ending:
                    entry.publish_timeouts.add(ending)
                    async with entry.lock:
                        yield
            except TimeoutError as error:
                if not ending.expired():
                    raise
                raise VolumeUnpublishedError(target_path) from error
            finally:
                entry.publish_timeouts.discard(ending)

    @asynccontextmanager
    async def for_unpublish(self, target_path: str) -> AsyncIterator[None]:
        """The same, after every call that came earlier to fill it has been cancelled."""
        async with self._reference(target_path) as entry:
            now = asyncio.get_running_loop().time()
            for ending in entry.publish_timeouts:
                if not ending.expired():
                    ending.reschedule(now)
            async with entry.lock:
                yield

    @asynccontextmanager
    async def _reference(self, target_path: str) -> AsyncIterator[_TargetLock]:
        entry = self._entries.setdefault(target_path, _TargetLock())
        entry.references += 1
        try:
            yield entry
        finally:
            entry.references -= 1
            if not entry.references:
                del self._entries[target_path]

    def __len__(self) -> int:
        """How many targets are held or awaited."""
        return len(self._entries)
