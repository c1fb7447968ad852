"""Queue of distinct keys, each processed by one task at a time and retried with backoff.

queue = WorkQueue(reconcile, group_of=namespace_of, clock=clock, name="Secrets")
queue.add(key)                  # process it soon
await queue.run_and_wait(key)   # wait for a run that starts now or later
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

from msgspec import Struct, field

from keyferry.aio.backoff import exponential_backoff
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Hashable

    from keyferry.aio.clock import Clock

K = TypeVar("K", bound="Hashable")

WORKERS = 16
WORKERS_PER_GROUP = 8
MAX_URGENT_IN_A_ROW = 3
"""Urgent keys that are processed before another key gets its turn."""
MIN_DELAY_SECONDS = 0.1
"""The shortest delay of `After`, so that no key is processed in a busy loop."""

_log = get_logger("queue")


class After(Struct, frozen=True):
    """A key is done for now, and must be processed again later.

    Attributes:
        seconds: until then, unless it is added earlier.
    """

    seconds: float


class _KeyState(Struct):
    failures: int = 0
    queued: bool = False
    running: bool = False
    dirty: bool = False
    """It was added while it was processed."""
    urgent: bool = False
    """It was then added as urgent."""
    timer: asyncio.Task[None] | None = None
    waiters: list[asyncio.Future[None]] = field(default_factory=list)

    @property
    def idle(self) -> bool:
        return not (self.queued or self.running or self.timer or self.failures)


class _Turns(Generic[K]):
    """Keys in the order of their arrival, whose groups take turns."""

    def __init__(self) -> None:
        self._queues: OrderedDict[Hashable, OrderedDict[K, None]] = OrderedDict()

    def put(self, group: Hashable, key: K) -> None:
        """Add a key."""
        self._queues.setdefault(group, OrderedDict())[key] = None

    def remove(self, group: Hashable, key: K) -> bool:
        """Remove a key; return False if it is not there."""
        queue = self._queues.get(group)
        if queue is None or key not in queue:
            return False
        del queue[key]
        if not queue:
            del self._queues[group]
        return True

    def take(self, running: Counter[Hashable]) -> K | None:
        """Remove and return the next key whose group may run another one; None without one."""
        for group, queue in self._queues.items():
            if running[group] < WORKERS_PER_GROUP:
                key, _ = queue.popitem(last=False)
                if queue:
                    self._queues.move_to_end(group)  # behind all others
                else:
                    del self._queues[group]
                return key
        return None


class _ReadyKeys(Generic[K]):
    """The keys that are ready. Their groups take turns, and none gets all workers.

    Urgent keys go first, but a group with ever more of them delays the other keys only for a while.
    """

    def __init__(self, group_of: Callable[[K], Hashable]) -> None:
        self._group_of = group_of
        self._urgent: _Turns[K] = _Turns()
        self._ordinary: _Turns[K] = _Turns()
        self._urgent_in_a_row = 0
        self._running: Counter[Hashable] = Counter()
        self._wake = asyncio.Event()

    def put(self, key: K, *, urgent: bool = False) -> None:
        """Add a key."""
        turns = self._urgent if urgent else self._ordinary
        turns.put(self._group_of(key), key)
        self._wake.set()

    def promote(self, key: K) -> None:
        """Make a key urgent; no-op if it is."""
        if self._ordinary.remove(self._group_of(key), key):
            self.put(key, urgent=True)

    async def get(self) -> K:
        """Wait for the next key; the caller must call `finished` for it."""
        while True:
            key = self._take()
            if key is not None:
                self._running[self._group_of(key)] += 1
                return key
            self._wake.clear()
            await self._wake.wait()

    def finished(self, key: K) -> None:
        """Let the next key of the same group run."""
        group = self._group_of(key)
        self._running[group] -= 1
        if not self._running[group]:
            del self._running[group]
        self._wake.set()

    def _take(self) -> K | None:
        if self._urgent_in_a_row < MAX_URGENT_IN_A_ROW:
            key = self._urgent.take(self._running)
            if key is not None:
                self._urgent_in_a_row += 1
                return key
        self._urgent_in_a_row = 0
        key = self._ordinary.take(self._running)
        return self._urgent.take(self._running) if key is None else key


class WorkQueue(Generic[K]):
    """Work queue, as that of client-go, in which groups of keys take turns.

    Args:
        work: processes a key; returns False to be retried with backoff, and `After` to be called
            again later.
        group_of: returns the group of a key, such as its namespace; one group cannot delay the
            others for long.
        clock: measures the delays.
        name: of the keys, for the log.
        backoff: returns the seconds to wait after `n` consecutive failures.
    """

    def __init__(
        self,
        work: Callable[[K], Awaitable[bool | After]],
        *,
        group_of: Callable[[K], Hashable],
        clock: Clock,
        name: str,
        backoff: Callable[[int], float] = exponential_backoff,
    ) -> None:
        self._work = work
        self._clock = clock
        self._name = name
        self._backoff = backoff
        self._entries: dict[K, _KeyState] = {}
        self._ready = _ReadyKeys(group_of)

    def __len__(self) -> int:
        """Number of keys in progress, queued, or waiting for a retry."""
        return sum(
            entry.queued or entry.running or (entry.timer is not None and entry.failures > 0)
            for entry in self._entries.values()
        )

    def add(self, key: K, *, after: float = 0.0, urgent: bool = False) -> None:
        """Process `key` soon, or after a delay unless it is added again earlier.

        Args:
            key: what to process.
            after: seconds.
            urgent: whether it goes before most keys that are queued. Groups still share the
                workers.
        """
        entry = self._entries.setdefault(key, _KeyState())
        if entry.running:
            entry.dirty = True
            entry.urgent |= urgent
        elif after > 0:
            if not entry.queued and entry.timer is None:
                entry.timer = asyncio.create_task(self._add_later(key, after))
        elif not entry.queued:
            self._enqueue(key, entry, urgent=urgent)
        elif urgent:
            self._ready.promote(key)

    def retry_failed(self) -> None:
        """Retry all failed keys at once: their cause may have ended."""
        for key, entry in list(self._entries.items()):
            if entry.failures:
                self.add(key)

    async def run_and_wait(self, key: K) -> None:
        """Wait for a run for `key` that starts after this call, whether it succeeds or not.

        The run continues if the caller is cancelled.
        """
        self.add(key)
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._entries[key].waiters.append(ended)
        await ended

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Process keys while the block runs, then cancel those in progress."""
        workers = [asyncio.create_task(self._run()) for _ in range(WORKERS)]
        try:
            yield
        finally:
            timers = [entry.timer for entry in self._entries.values() if entry.timer]
            for task in (*workers, *timers):
                task.cancel()
            await asyncio.gather(*workers, *timers, return_exceptions=True)

    def _enqueue(self, key: K, entry: _KeyState, *, urgent: bool = False) -> None:
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
        entry.queued = True
        self._ready.put(key, urgent=urgent)

    async def _add_later(self, key: K, seconds: float) -> None:
        await self._clock.sleep(seconds)
        entry = self._entries[key]
        entry.timer = None
        self._enqueue(key, entry)

    async def _run(self) -> None:
        while True:
            key = await self._ready.get()
            try:
                await self._process(key)
            finally:
                self._ready.finished(key)

    async def _process(self, key: K) -> None:
        entry = self._entries[key]
        entry.queued, entry.running = False, True
        waiters, entry.waiters = entry.waiters, []
        try:
            result = await self._work(key)
        except Exception as error:  # noqa: BLE001 - one key must not stop the others
            _log.error("internal error", what=self._name, type=type(error).__name__)
            result = False
        finally:
            entry.running = False
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
        entry.failures = entry.failures + 1 if result is False else 0
        if entry.dirty:
            urgent = entry.urgent
            entry.dirty = entry.urgent = False
            self._enqueue(key, entry, urgent=urgent)
        elif isinstance(result, After):
            self.add(key, after=max(result.seconds, MIN_DELAY_SECONDS))
        elif not result:
            self.add(key, after=self._backoff(entry.failures))
        elif entry.idle:
            del self._entries[key]
