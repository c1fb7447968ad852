"""A queue that serves first mounts before refreshes without starving refreshes. [pure]

A refresh is ordered as if it had arrived `REFRESH_DELAY_SECONDS` later. So pending pods are served
first, and a refresh that has waited that long is served before pods that arrive later.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Generic, TypeVar, assert_never

from keyferry.resilience.call_context import Purpose

if TYPE_CHECKING:
    from collections.abc import Iterator

REFRESH_DELAY_SECONDS = 20.0
"""How long a refresh yields to first mounts, at most."""

W = TypeVar("W")


@dataclass(slots=True)
class QueueEntry(Generic[W]):
    """A waiting item.

    Attributes:
        item: what waits.
        arrived_at: when it first arrived, in seconds of any monotonic clock.
        purpose: its priority.
        sequence: breaks ties between items that arrived at the same time.
        done: whether it no longer waits; such entries are removed lazily.
    """

    item: W
    arrived_at: float
    purpose: Purpose
    sequence: int
    done: bool = False

    @property
    def rank(self) -> tuple[float, int]:
        """The sort key; the lowest is next."""
        match self.purpose:
            case Purpose.FIRST:
                return self.arrived_at, self.sequence
            case Purpose.REFRESH:
                return self.arrived_at + REFRESH_DELAY_SECONDS, self.sequence
            case _:
                assert_never(self.purpose)


class PriorityQueue(Generic[W]):
    """The items that wait for one host, by rank."""

    def __init__(self) -> None:
        self._heap: list[tuple[tuple[float, int], QueueEntry[W]]] = []
        self._sequence = count()

    def __len__(self) -> int:
        """Return the number of waiting items."""
        return sum(not entry.done for _, entry in self._heap)

    def __iter__(self) -> Iterator[QueueEntry[W]]:
        """Return the waiting items in no particular order."""
        return (entry for _, entry in self._heap if not entry.done)

    def enqueue(self, item: W, *, arrived_at: float, purpose: Purpose) -> QueueEntry[W]:
        """Add an item. A retried request passes its first arrival and so keeps its place."""
        entry = QueueEntry(item, arrived_at, purpose, next(self._sequence))
        heappush(self._heap, (entry.rank, entry))
        return entry

    def promote(self, entry: QueueEntry[W]) -> None:
        """Turn a waiting refresh into a first mount."""
        if entry.purpose is Purpose.FIRST or entry.done:
            return
        entry.purpose = Purpose.FIRST
        self._heap = [(other.rank, other) for _, other in self._heap if not other.done]
        heapify(self._heap)

    def peek(self) -> QueueEntry[W] | None:
        """Return the item that is next; None if none waits."""
        while self._heap and self._heap[0][1].done:
            heappop(self._heap)
        return self._heap[0][1] if self._heap else None
