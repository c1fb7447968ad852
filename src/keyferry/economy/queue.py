"""Whose turn is next: first mounts before refreshes, and nobody waits for ever. [pure]

A refresh is served as if it had come `REFRESH_WAITS` seconds later than it did. So a pod that waits
to start goes first, and a refresh that has waited that long goes before pods that come then.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Generic, TypeVar, assert_never

from keyferry.contract import Purpose

if TYPE_CHECKING:
    from collections.abc import Iterator

REFRESH_WAITS = 20.0
"""Seconds that refreshes stand back for first mounts, at the most."""

W = TypeVar("W")


@dataclass(slots=True)
class Ticket(Generic[W]):
    """One who waits.

    Attributes:
        who: of whom.
        came: when, in seconds from an arbitrary start.
        purpose: why.
        number: tells those apart who came at the same time.
        gone: whether they wait no longer.
    """

    who: W
    came: float
    purpose: Purpose
    number: int
    gone: bool = False

    @property
    def rank(self) -> tuple[float, int]:
        """Who has the lowest is next."""
        match self.purpose:
            case Purpose.FIRST:
                return self.came, self.number
            case Purpose.REFRESH:
                return self.came + REFRESH_WAITS, self.number
            case _:
                assert_never(self.purpose)


class TurnQueue(Generic[W]):
    """Those who wait for one vault."""

    def __init__(self) -> None:
        self._heap: list[tuple[tuple[float, int], Ticket[W]]] = []
        self._numbers = count()

    def __len__(self) -> int:
        """How many wait."""
        return sum(not ticket.gone for _, ticket in self._heap)

    def __iter__(self) -> Iterator[Ticket[W]]:
        """Those who wait, in no order."""
        return (ticket for _, ticket in self._heap if not ticket.gone)

    def join(self, who: W, *, came: float, purpose: Purpose) -> Ticket[W]:
        """Wait from now on; who came earlier may say so, as one who failed and comes back."""
        ticket = Ticket(who, came, purpose, next(self._numbers))
        heappush(self._heap, (ticket.rank, ticket))
        return ticket

    def hurry(self, ticket: Ticket[W]) -> None:
        """What waits as a refresh has become a first mount."""
        if ticket.purpose is Purpose.FIRST or ticket.gone:
            return
        ticket.purpose = Purpose.FIRST
        self._heap = [(kept.rank, kept) for _, kept in self._heap if not kept.gone]
        heapify(self._heap)

    def first(self) -> Ticket[W] | None:
        """Whose turn is next; None when nobody waits."""
        while self._heap and self._heap[0][1].gone:
            heappop(self._heap)
        return self._heap[0][1] if self._heap else None
