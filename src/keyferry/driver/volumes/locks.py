"""One lock per target path.

Two calls for one volume never interleave; different volumes proceed concurrently. An unpublish
cancels the publish calls of its volume instead of waiting for them.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from msgspec import Struct, field

from keyferry.errors import VolumeUnpublishedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class _TargetLock(Struct):
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    references: int = 0
    publish_timeouts: set[asyncio.Timeout] = field(default_factory=set)
    """One for each publish call, waiting or running; rescheduled to now, it cancels the call."""


class TargetLocks:
    """The locks by target path; a lock exists only while a call holds or awaits it."""

    def __init__(self) -> None:
        self._entries: dict[str, _TargetLock] = {}

    @asynccontextmanager
    async def for_publish(self, target_path: str) -> AsyncIterator[None]:
        """Hold the lock of `target_path` for the block.

        Raises:
            VolumeUnpublishedError: an unpublish of the volume began and cancelled the block.
        """
        async with self._reference(target_path) as entry:
            timeout = asyncio.timeout(None)
            try:
                async with timeout:
                    entry.publish_timeouts.add(timeout)
                    async with entry.lock:
                        yield
            except TimeoutError as error:
                if not timeout.expired():
                    raise
                raise VolumeUnpublishedError(target_path) from error
            finally:
                entry.publish_timeouts.discard(timeout)

    @asynccontextmanager
    async def for_unpublish(self, target_path: str) -> AsyncIterator[None]:
        """Cancel the publish calls of `target_path`, then hold its lock for the block."""
        async with self._reference(target_path) as entry:
            now = asyncio.get_running_loop().time()
            for timeout in entry.publish_timeouts:
                if not timeout.expired():
                    timeout.reschedule(now)
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

    def is_free(self, target_path: str) -> bool:
        """Return whether no call holds or awaits the lock of `target_path`."""
        return target_path not in self._entries

    def __len__(self) -> int:
        """The number of target paths whose lock is held or awaited."""
        return len(self._entries)
