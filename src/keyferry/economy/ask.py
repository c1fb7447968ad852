"""How a vault is asked for one thing, and what is under way. [pure]"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from keyferry.economy.errand import Errand
    from keyferry.economy.flights import Flight
    from keyferry.economy.metrics import How


@dataclass(frozen=True, slots=True)
class Underway:
    """A flight, and the errand that can be hurried."""

    flight: Flight[Any]
    errand: Errand


@dataclass(frozen=True, slots=True)
class Ask:
    """How the vault is asked.

    Attributes:
        call: for the answer.
        weigh: the bytes of an answer that is held; None: none is.
        unchanged: for the proof that an answer still holds; None: there is none.
        count: told how the answer was got.
    """

    call: Callable[[Errand], Coroutine[Any, Any, Any]]
    weigh: Callable[[Any], int | None] | None
    unchanged: Callable[[Any, Errand], Awaitable[bool]] | None
    count: Callable[[How], None]
