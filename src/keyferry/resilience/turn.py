"""The leave to make one request to a vault, and who waits for it. [pure]"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


@dataclass(frozen=True, slots=True)
class Permit:
    """The leave to make one request.

    Attributes:
        sent_at: when it was given, in seconds from an arbitrary start.
        probe: whether the others wait for what becomes of it.
    """

    sent_at: float
    probe: bool


@dataclass(frozen=True, slots=True)
class NotYet:
    """Not yet: in so many seconds; None: when something changes."""

    retry_in: float | None


@dataclass(slots=True)
class PendingPermit:
    """Who waits for a turn.

    Attributes:
        permit: where they wait.
        deadline: when they have no time left, in seconds from an arbitrary start.
    """

    permit: asyncio.Future[Permit]
    deadline: float
