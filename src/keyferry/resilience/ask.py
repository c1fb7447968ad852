"""How a vault is asked for one thing, and what is under way. [pure]"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from keyferry.aio.single_flight import SharedCall
    from keyferry.resilience.metrics import CacheResult
    from keyferry.resilience.retrying_caller import RetryingCaller


@dataclass(frozen=True, slots=True)
class InFlight:
    """A flight, and the errand that can be hurried."""

    call: SharedCall[Any]
    caller: RetryingCaller


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """How the vault is asked.

    Attributes:
        load: for the answer.
        size_of: the bytes of an answer that is held; None: none is.
        revalidate: for the proof that an answer still holds; None: there is none.
        count: told how the answer was got.
    """

    load: Callable[[RetryingCaller], Coroutine[Any, Any, Any]]
    size_of: Callable[[Any], int | None] | None
    revalidate: Callable[[Any, RetryingCaller], Awaitable[bool]] | None
    count: Callable[[CacheResult], None]
