"""Suppresses repeated notifications: each key at most once per interval. [pure]"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

HOUR = 3600.0
"""Kubernetes deletes an event after an hour."""
UNTIL_FORGOTTEN = inf
"""An interval for conditions that last: a key is notified again only after `forget`."""


class Deduplicator:
    """Decides whether a notification is due.

    Args:
        interval: seconds during which a key is not notified again.
    """

    def __init__(self, interval: float = HOUR) -> None:
        self._interval = interval
        self._notified_at: dict[Hashable, float] = {}

    def __len__(self) -> int:
        """Return the number of remembered keys."""
        return len(self._notified_at)

    def should_notify(self, key: Hashable, now: float) -> bool:
        """Return whether to notify about `key` now; if so, record that it happened.

        Args:
            key: what the notification is about.
            now: seconds of a monotonic clock.
        """
        # In the order of notification, so that expired entries come first.
        while self._notified_at and now - next(iter(self._notified_at.values())) >= self._interval:
            del self._notified_at[next(iter(self._notified_at))]
        if key in self._notified_at:
            return False
        self._notified_at[key] = now
        return True

    def forget(self, key: Hashable) -> None:
        """Notify about `key` again when it occurs next; the condition has ended."""
        self._notified_at.pop(key, None)

    def forget_all(self) -> None:
        """Notify about every key again when it occurs next."""
        self._notified_at.clear()
