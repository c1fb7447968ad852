"""Keys and when they are due: one heap instead of a timer for each key. [pure]"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

K = TypeVar("K", bound="Hashable")


class Timetable(Generic[K]):
    """When keys are due. Each key has one time; the last one that was set counts."""

    def __init__(self) -> None:
        self._times: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._count = 0

    def __len__(self) -> int:
        """Return the number of keys that have a time."""
        return len(self._times)

    def set(self, key: K, at: float | None) -> None:
        """Set when a key is due; None for never."""
        if at is None:
            self._times.pop(key, None)
        elif self._times.get(key) != at:
            self._times[key] = at
            self._count += 1  # keys need no order
            heapq.heappush(self._heap, (at, self._count, key))
            if len(self._heap) > 2 * len(self._times) + 64:
                self._rebuild()

    def take_due(self, now: float) -> Iterator[K]:
        """Yield the keys that are due, and forget their times."""
        while self._heap and self._heap[0][0] <= now:
            at, _, key = heapq.heappop(self._heap)
            if self._times.get(key) == at:
                del self._times[key]
                yield key

    def _rebuild(self) -> None:
        """Drop what was replaced, also by the same time."""
        self._heap = [(at, count, key) for count, (key, at) in enumerate(self._times.items())]
        heapq.heapify(self._heap)
