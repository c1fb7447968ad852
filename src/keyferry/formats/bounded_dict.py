"""A dict of bounded size that evicts the entry that was not used for the longest time. [pure]"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

K = TypeVar("K")
V = TypeVar("V")


class BoundedDict(OrderedDict[K, V], Generic[K, V]):
    """At most `max_entries` entries, least recently written or touched first.

    Args:
        max_entries: the limit. With 0, an entry is evicted as soon as it is written.
        is_evictable: whether a value may be evicted; entries that may not be can exceed the limit.
    """

    def __init__(
        self, max_entries: int, *, is_evictable: Callable[[V], bool] | None = None
    ) -> None:
        super().__init__()
        self.max_entries = max_entries
        self._is_evictable = is_evictable

    def __setitem__(self, key: K, value: V) -> None:
        """Write the newest entry and evict the oldest ones beyond the limit."""
        super().__setitem__(key, value)
        self.move_to_end(key)
        excess = len(self) - self.max_entries
        if excess <= 0:
            return
        evictable = (k for k, v in self.items() if not self._is_evictable or self._is_evictable(v))
        for oldest in list(islice(evictable, excess)):
            del self[oldest]

    def touch(self, key: K) -> V | None:
        """Return the value of `key` and make it the most recently used; None if it is missing."""
        if key in self:
            self.move_to_end(key)
        return self.get(key)
