"""A dict of bounded size that evicts the entry that was not used for the longest time. [pure]"""

from __future__ import annotations

from collections import Counter, OrderedDict
from itertools import islice
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

K = TypeVar("K")
V = TypeVar("V")

_BATCH_DIVISOR = 64
"""A dict with at least this many entries evicts a part of them at once."""


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
        if excess > 0:
            for oldest in self._oldest(excess):
                del self[oldest]

    def _oldest(self, count: int) -> list[K]:
        """Return the keys of up to `count` entries to evict."""
        return list(islice((key for key, value in self.items() if self._may_evict(value)), count))

    def _may_evict(self, value: V) -> bool:
        return self._is_evictable is None or self._is_evictable(value)

    def touch(self, key: K) -> V | None:
        """Return the value of `key` and make it the most recently used; None if it is missing."""
        if key in self:
            self.move_to_end(key)
        return self.get(key)


class FairBoundedDict(BoundedDict[K, V]):
    """A bounded dict that tenants share: the tenant with the most entries loses its oldest ones.

    So a tenant with many entries evicts none of others. Entries are written with `put`.
    """

    def __init__(
        self, max_entries: int, *, is_evictable: Callable[[V], bool] | None = None
    ) -> None:
        super().__init__(max_entries, is_evictable=is_evictable)
        self._tenants: dict[K, str] = {}

    def put(self, key: K, value: V, *, tenant: str) -> None:
        """Write the newest entry; an existing one keeps its tenant."""
        if key not in self:
            self._tenants[key] = tenant
        self[key] = value

    def _oldest(self, count: int) -> list[K]:
        # Several at once in a large dict, because each call looks at all entries.
        count = max(count, self.max_entries // _BATCH_DIVISOR)
        self._tenants = {key: self._tenants.get(key, "") for key in self}
        numbers = Counter(self._tenants.values())
        evictable = {tenant: self._evictable_of(tenant) for tenant in numbers}
        chosen: list[K] = []
        while len(chosen) < count and numbers:
            ((tenant, _),) = numbers.most_common(1)
            for key in islice(evictable[tenant], 1):
                chosen.append(key)
                numbers[tenant] -= 1
                break
            else:
                del numbers[tenant]
        return chosen

    def _evictable_of(self, tenant: str) -> Iterator[K]:
        """Yield the keys of a tenant that may be evicted, the oldest first."""
        for key, value in self.items():
            if self._tenants[key] == tenant and self._may_evict(value):
                yield key
