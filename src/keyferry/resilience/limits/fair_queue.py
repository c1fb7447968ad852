"""A queue that is fair between tenants, and serves first mounts before refreshes. [pure]

1. Tenants take turns: one request each.
2. The identities of a tenant take turns in the same way.
3. The requests of an identity are served in the order of their arrival. A refresh is ordered as if
   it had arrived `REFRESH_DELAY_SECONDS` later. So pending pods are served first, and a refresh
   that has waited that long is served before pods that arrive later.

A tenant that may send nothing at the moment is parked: it has no turn until it is unparked. Each
operation takes at most O(log n).

Times are seconds of any monotonic clock.
"""

from __future__ import annotations

from collections import OrderedDict
from heapq import heapify, heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Generic, TypeVar

from msgspec import Struct, field

from keyferry.resilience.call_context import Caller, Purpose

if TYPE_CHECKING:
    from collections.abc import Iterator

REFRESH_DELAY_SECONDS = 20.0
"""How long a refresh yields to first mounts, at most."""
_MIN_STALE_RECORDS = 16
"""A heap with fewer records of removed entries is not cleaned."""

W = TypeVar("W")
_Rank = tuple[float, int]


class QueueEntry(Struct, Generic[W]):
    """A waiting item.

    Attributes:
        item: what waits.
        caller: on whose behalf.
        arrived_at: when it first arrived.
        deadline: when it gives up.
        purpose: its priority.
        sequence: breaks ties between items that arrived at the same time.
        done: whether it no longer waits.
    """

    item: W
    caller: Caller
    arrived_at: float
    deadline: float
    purpose: Purpose
    sequence: int
    done: bool = False

    @property
    def rank(self) -> _Rank:
        """The sort key among the entries of its identity; the lowest is next."""
        delay = 0.0 if self.purpose is Purpose.FIRST else REFRESH_DELAY_SECONDS
        return self.arrived_at + delay, self.sequence


class _Heap(Generic[W]):
    """A heap of entries. Entries that are done, or have another rank by now, are skipped.

    They are removed at the latest when they outnumber the others.
    """

    __slots__ = ("_records", "length")

    def __init__(self) -> None:
        self._records: list[tuple[_Rank, QueueEntry[W]]] = []
        self.length = 0

    def push(self, rank: _Rank, entry: QueueEntry[W]) -> None:
        """Add an entry that was not counted before."""
        self.length += 1
        heappush(self._records, (rank, entry))

    def push_again(self, entry: QueueEntry[W]) -> None:
        """Order an entry by its new rank."""
        heappush(self._records, (entry.rank, entry))

    def first(self) -> QueueEntry[W]:
        """Return the first entry; there must be one."""
        while self._records[0][1].done:
            heappop(self._records)
        return self._records[0][1]

    def discount(self) -> None:
        """Record that one of the entries is done."""
        self.length -= 1
        if len(self._records) > 2 * self.length + _MIN_STALE_RECORDS:
            self._records = [record for record in self._records if not record[1].done]
            heapify(self._records)

    def __iter__(self) -> Iterator[QueueEntry[W]]:
        """Return the entries in no particular order."""
        entries = {entry.sequence: entry for _, entry in self._records if not entry.done}
        return iter(entries.values())


class _TenantQueue(Struct, Generic[W]):
    """The entries of one tenant, by identity in the order of their turns."""

    identities: OrderedDict[str, _Heap[W]] = field(default_factory=OrderedDict)
    length: int = 0


class FairQueue(Generic[W]):
    """The items that wait for one host."""

    def __init__(self) -> None:
        self._tenants: dict[str, _TenantQueue[W]] = {}
        self._turns: OrderedDict[str, None] = OrderedDict()
        self._deadlines: _Heap[W] = _Heap()
        self._sequence = count()

    def __len__(self) -> int:
        """Return the number of waiting items."""
        return self._deadlines.length

    def __iter__(self) -> Iterator[QueueEntry[W]]:
        """Return the waiting items in no particular order."""
        return iter(self._deadlines)

    @property
    def next_deadline(self) -> float:
        """The earliest deadline; infinity if nothing waits."""
        return self._deadlines.first().deadline if len(self) else float("inf")

    def overdue(self, now: float) -> QueueEntry[W] | None:
        """Return an item whose deadline has passed; None without one."""
        entry = self._deadlines.first() if len(self) else None
        return entry if entry is not None and entry.deadline <= now else None

    @property
    def has_turns(self) -> bool:
        """Whether an item of a tenant waits that is not parked."""
        return bool(self._turns)

    def depth(self, tenant: str) -> int:
        """Return the number of waiting items of one tenant."""
        queue = self._tenants.get(tenant)
        return queue.length if queue else 0

    def of_tenant(self, tenant: str) -> list[QueueEntry[W]]:
        """Return the waiting items of one tenant in no particular order."""
        queue = self._tenants.get(tenant)
        return [entry for heap in queue.identities.values() for entry in heap] if queue else []

    def enqueue(
        self, item: W, *, caller: Caller, arrived_at: float, deadline: float, purpose: Purpose
    ) -> QueueEntry[W]:
        """Add an item. A retried request passes its first arrival and so keeps its place."""
        entry = QueueEntry(item, caller, arrived_at, deadline, purpose, next(self._sequence))
        tenant = self._tenants.get(caller.tenant)
        if tenant is None:
            tenant = self._tenants[caller.tenant] = _TenantQueue()
            self._turns[caller.tenant] = None
        heap = tenant.identities.get(caller.identity)
        if heap is None:
            heap = tenant.identities[caller.identity] = _Heap()
        heap.push(entry.rank, entry)
        tenant.length += 1
        self._deadlines.push((deadline, entry.sequence), entry)
        return entry

    def promote(self, entry: QueueEntry[W]) -> None:
        """Turn a waiting refresh into a first mount."""
        if entry.purpose is Purpose.FIRST or entry.done:
            return
        entry.purpose = Purpose.FIRST
        self._tenants[entry.caller.tenant].identities[entry.caller.identity].push_again(entry)

    def peek(self) -> QueueEntry[W] | None:
        """Return the item whose turn it is; None if all tenants with waiting items are parked."""
        for name in self._turns:
            for heap in self._tenants[name].identities.values():
                return heap.first()
        return None

    def take(self, entry: QueueEntry[W]) -> None:
        """Remove the item whose turn it is, and let the next tenant have its turn."""
        name, identity = entry.caller.tenant, entry.caller.identity
        self.remove(entry)
        if name in self._turns:
            self._turns.move_to_end(name)
            identities = self._tenants[name].identities
            if identity in identities:
                identities.move_to_end(identity)

    def remove(self, entry: QueueEntry[W]) -> None:
        """Remove an item, if it still waits."""
        if entry.done:
            return
        entry.done = True
        self._deadlines.discount()
        name, identity = entry.caller.tenant, entry.caller.identity
        tenant = self._tenants[name]
        heap = tenant.identities[identity]
        heap.discount()
        tenant.length -= 1
        if not heap.length:
            del tenant.identities[identity]
        if not tenant.length:
            del self._tenants[name]
            self._turns.pop(name, None)

    def park(self, tenant: str) -> None:
        """Give a tenant no turn until `unpark`."""
        self._turns.pop(tenant, None)

    def unpark(self, tenant: str) -> None:
        """Give a tenant turns again, after the others."""
        if tenant in self._tenants and tenant not in self._turns:
            self._turns[tenant] = None
