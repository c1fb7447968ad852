"""The leave to make one request to a vault, and who waits for it. [pure]"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


@dataclass(frozen=True, slots=True)
class Turn:
    """The leave to make one request.

    Attributes:
        sent: when it was given, in seconds from an arbitrary start.
        probe: whether the others wait for what becomes of it.
    """

    sent: float
    probe: bool


@dataclass(frozen=True, slots=True)
class Later:
    """Not yet: in so many seconds; None: when something changes."""

    seconds: float | None


@dataclass(slots=True)
class Waiter:
    """Who waits for a turn.

    Attributes:
        turn: where they wait.
        end: when they have no time left, in seconds from an arbitrary start.
    """

    turn: asyncio.Future[Turn]
    end: float
