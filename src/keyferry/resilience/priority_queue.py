"""Whose turn is next: first mounts before refreshes, and nobody waits for ever. [pure]

A refresh is served as if it had come `REFRESH_WAITS` seconds later than it did. So a pod that waits
to start goes first, and a refresh that has waited that long goes before pods that come then.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Generic, TypeVar, assert_never

from keyferry.providers.api import Purpose

if TYPE_CHECKING:
    from collections.abc import Iterator

REFRESH_HEAD_START_SECONDS = 20.0
"""Seconds that refreshes stand back for first mounts, at the most."""

W = TypeVar("W")


@dataclass(slots=True)
class QueueEntry(Generic[W]):
    """One who waits.

    Attributes:
        item: of whom.
        arrived_at: when, in seconds from an arbitrary start.
        purpose: why.
        sequence: tells those apart who came at the same time.
        done: whether they wait no longer.
    """

    item: W
    arrived_at: float
    purpose: Purpose
    sequence: int
    done: bool = False

    @property
    def rank(self) -> tuple[float, int]:
        """Who has the lowest is next."""
        match self.purpose:
            case Purpose.FIRST:
                return self.arrived_at, self.sequence
            case Purpose.REFRESH:
                return self.arrived_at + REFRESH_HEAD_START_SECONDS, self.sequence
            case _:
                assert_never(self.purpose)


class PriorityQueue(Generic[W]):
    """Those who wait for one vault."""

    def __init__(self) -> None:
        self._heap: list[tuple[tuple[float, int], QueueEntry[W]]] = []
        self._sequence = count()

    def __len__(self) -> int:
        """How many wait."""
        return sum(not ticket.done for _, ticket in self._heap)

    def __iter__(self) -> Iterator[QueueEntry[W]]:
        """Those who wait, in no order."""
        return (ticket for _, ticket in self._heap if not ticket.done)

    def enqueue(self, item: W, *, arrived_at: float, purpose: Purpose) -> QueueEntry[W]:
        """Wait from now on; who came earlier may say so, as one who failed and comes back."""
        ticket = QueueEntry(item, arrived_at, purpose, next(self._sequence))
        heappush(self._heap, (ticket.rank, ticket))
        return ticket

    def promote(self, entry: QueueEntry[W]) -> None:
        """What waits as a refresh has become a first mount."""
        if entry.purpose is Purpose.FIRST or entry.done:
            return
        entry.purpose = Purpose.FIRST
        self._heap = [(kept.rank, kept) for _, kept in self._heap if not kept.done]
        heapify(self._heap)

    def peek(self) -> QueueEntry[W] | None:
        """Whose turn is next; None when nobody waits."""
        while self._heap and self._heap[0][1].done:
            heappop(self._heap)
        return self._heap[0][1] if self._heap else None
