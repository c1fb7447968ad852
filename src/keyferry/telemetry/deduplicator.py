"""Tells again what still holds, but not with every chance to do so."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

HOUR = 3600.0
"""Kubernetes forgets an event after an hour."""


class Deduplicator:
    """Says what is due to be told.

    Args:
        interval: seconds for which something that was told is not told again.
        clock: seconds from an arbitrary start.
    """

    def __init__(
        self, interval: float = HOUR, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval = interval
        self._clock = clock
        self._notified_at: dict[Hashable, float] = {}

    def should_notify(self, key: Hashable) -> bool:
        """Whether to tell `key` now; if so, it counts as told."""
        now = self._clock()
        # In the order of telling, so that the old ones are in front.
        while self._notified_at and now - next(iter(self._notified_at.values())) >= self._interval:
            del self._notified_at[next(iter(self._notified_at))]
        if key in self._notified_at:
            return False
        self._notified_at[key] = now
        return True
