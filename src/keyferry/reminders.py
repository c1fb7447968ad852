"""Tells again what still holds, but not with every chance to do so."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

HOUR = 3600.0
"""Kubernetes forgets an event after an hour."""


class Reminders:
    """Says what is due to be told.

    Args:
        every: seconds for which something that was told is not told again.
        clock: seconds from an arbitrary start.
    """

    def __init__(self, every: float = HOUR, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._every = every
        self._clock = clock
        self._told: dict[Hashable, float] = {}

    def due(self, what: Hashable) -> bool:
        """Whether to tell `what` now; if so, it counts as told."""
        now = self._clock()
        # In the order of telling, so that the old ones are in front.
        while self._told and now - next(iter(self._told.values())) >= self._every:
            del self._told[next(iter(self._told))]
        if what in self._told:
            return False
        self._told[what] = now
        return True
