"""One lock per target path.

Two calls for one volume never interleave, different volumes run side by side.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass(slots=True)
class _Entry:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class TargetLocks:
    """Locks that exist only while somebody holds or awaits them."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    @asynccontextmanager
    async def hold(self, target_path: str) -> AsyncIterator[None]:
        """Holds the lock of `target_path` while the block runs."""
        entry = self._entries.setdefault(target_path, _Entry())
        entry.users += 1
        try:
            async with entry.lock:
                yield
        finally:
            entry.users -= 1
            if not entry.users:
                del self._entries[target_path]

    def __len__(self) -> int:
        """How many targets are held or awaited."""
        return len(self._entries)
