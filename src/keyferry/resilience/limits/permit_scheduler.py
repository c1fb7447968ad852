"""Gives permits for requests to one host in turn: concurrency, rate limit, a fair queue."""

from __future__ import annotations

import asyncio
from functools import partial
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.errors import InternalError
from keyferry.resilience.limits.fair_queue import FairQueue, QueueEntry

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry.aio.clock import Clock
    from keyferry.errors import KeyferryError
    from keyferry.resilience.call_context import CallContext, Caller, Purpose
    from keyferry.resilience.limits.rate_limit import RateLimit

TENANT_SHARE = 0.8
"""The share of the concurrent requests to one host that one tenant may have. The rest stays free,
so that another tenant need not wait until requests of the first one end."""
_MIN_SLEEP_SECONDS = 0.001
"""The resolution of the clock: a shorter sleep may not advance the time."""


class HostBusy(Struct, frozen=True):
    """No tenant gets a permit now.

    Attributes:
        retry_in: seconds until one may be available; None: when a permit is released.
    """

    retry_in: float | None


class TenantBusy(Struct, frozen=True):
    """This tenant gets no permit now.

    Attributes:
        retry_in: seconds until one may be available; None: when the tenant releases a permit.
    """

    retry_in: float | None


Busy = HostBusy | TenantBusy


class Waiter(Struct, frozen=True):
    """A request that waits for a permit.

    Attributes:
        permit: resolves to the time at which the permit was given, or fails with the reason.
        connection: as in `Endpoint`.
    """

    permit: asyncio.Future[float]
    connection: int


class PermitScheduler:
    """Gives permits for requests to one host.

    Tenants without a name (outside a cluster, and Keyferry itself) have no limit of their own.

    Args:
        rate: the rate limit of the host.
        max_concurrency: the number of permits that are given at the same time.
        clock: the time.
        expired_error: returns the error for a tenant whose request waited until its deadline.
    """

    def __init__(
        self,
        rate: RateLimit,
        max_concurrency: int,
        clock: Clock,
        expired_error: Callable[[str], KeyferryError],
    ) -> None:
        self._rate = rate
        self._max_concurrency = max_concurrency
        self._max_of_tenant = max(1, int(max_concurrency * TENANT_SHARE))
        self._clock = clock
        self._expired_error = expired_error
        self._queue: FairQueue[Waiter] = FairQueue()
        self._in_flight_of: dict[str, int] = {}
        self._parked_until: list[tuple[float, str]] = []
        self._timer: asyncio.Task[None] | None = None
        self._wake_at = float("inf")
        self.in_flight = 0

    def __len__(self) -> int:
        """Return the number of waiting requests."""
        return len(self._queue)

    def longest_wait(self, now: float) -> float:
        """Return how long the oldest waiting request has waited, in seconds; 0 without one."""
        return max((now - entry.arrived_at for entry in self._queue), default=0.0)

    def acquire(self, tenant: str, now: float) -> bool:
        """Take a permit, if one is available and no request waits that should have it."""
        if self._queue.has_turns or self._queue.depth(tenant):
            return False
        return self._acquire(tenant, now) is None

    async def wait(self, context: CallContext, *, arrived_at: float, deadline: float) -> float:
        """Wait for a permit in the queue, and return when it was given.

        Args:
            context: of the call. If it is promoted, so is the waiting request.
            arrived_at: when the request first asked, in seconds of the clock.
            deadline: when the request gives up, in seconds of the clock.

        Raises:
            KeyferryError: the deadline has passed, or what `fail` was given.
        """
        entry = self.enqueue(
            context.caller,
            connection=context.endpoint.connection,
            arrived_at=arrived_at,
            deadline=deadline,
            purpose=context.purpose,
        )
        promote = partial(self._queue.promote, entry)
        context.priority.subscribe(promote)
        try:
            return await entry.item.permit
        except BaseException:
            self.cancel(entry)
            raise
        finally:
            context.priority.unsubscribe(promote)

    def enqueue(
        self,
        caller: Caller,
        *,
        arrived_at: float,
        deadline: float,
        purpose: Purpose,
        connection: int = 0,
    ) -> QueueEntry[Waiter]:
        """Add a request to the queue; `entry.item.permit` resolves to its permit or an error."""
        # While a tenant waits for its turn, the host is busy, and a released permit or the timer
        # continues.
        is_busy = self._queue.has_turns and self._queue.next_deadline <= deadline
        waiter = Waiter(asyncio.get_running_loop().create_future(), connection)
        entry = self._queue.enqueue(
            waiter, caller=caller, arrived_at=arrived_at, deadline=deadline, purpose=purpose
        )
        if not is_busy:
            self._give_permits()
        return entry

    def cancel(self, entry: QueueEntry[Waiter]) -> None:
        """Remove a request from the queue and return the permit that it may already have."""
        self._queue.remove(entry)
        permit = entry.item.permit
        if permit.done() and not permit.cancelled() and permit.exception() is None:
            self._rate.refund(entry.caller.tenant)
            self.release(entry.caller.tenant)
        permit.cancel()
        if not len(self._queue):
            self._stop_timer()

    def release(self, tenant: str) -> None:
        """Return a permit."""
        self.in_flight -= 1
        in_flight = self._in_flight_of.pop(tenant) - 1
        if in_flight:
            self._in_flight_of[tenant] = in_flight
        if len(self._queue):
            self._queue.unpark(tenant)
            self._give_permits()

    def fail(self, tenant: str, connection: int, new_error: Callable[[], KeyferryError]) -> None:
        """Fail the waiting requests of a tenant over one kind of connection."""
        for entry in self._queue.of_tenant(tenant):
            if entry.item.connection == connection:
                self._fail(entry, new_error())

    async def close(self) -> None:
        """Cancel all waiting requests."""
        self._stop_timer()
        for entry in list(self._queue):
            self._queue.remove(entry)
            entry.item.permit.cancel()

    # --- scheduling ---------------------------------------------------------------------------

    def _acquire(self, tenant: str, now: float) -> Busy | None:
        """Take a permit and return None. The first case that applies decides:

        1. The tenant has its share of requests in flight: wait until it releases a permit.
        2. The host throttles this tenant: wait for that time.
        3. The maximum number of requests is in flight: wait for a released permit.
        4. The host throttles all tenants, or the token bucket is empty: wait for that time.
        5. Otherwise: take a token and a permit.
        """
        in_flight = self._in_flight_of.get(tenant, 0)
        if tenant and in_flight >= self._max_of_tenant:
            return TenantBusy(None)
        if (wait := self._rate.tenant_wait(tenant, now)) > 0:
            return TenantBusy(wait)
        if self.in_flight >= self._max_concurrency:
            return HostBusy(None)
        if (wait := self._rate.shared_wait(now)) > 0:
            return HostBusy(wait)
        self._rate.take(tenant, now)
        self.in_flight += 1
        self._in_flight_of[tenant] = in_flight + 1
        return None

    def _give_permits(self) -> None:
        """Give permits to waiting requests until none may be sent, and continue when one may."""
        try:
            now = self._clock.monotonic()
            self._expire(now)
            while self._parked_until and self._parked_until[0][0] <= now:
                self._queue.unpark(heappop(self._parked_until)[1])
            busy = self._serve_queue(now)
            self._set_timer(busy.retry_in if busy else None, now)
        except Exception as error:  # noqa: BLE001 - requests must not wait forever
            self._fail_all(error)

    def _serve_queue(self, now: float) -> HostBusy | None:
        """Serve the queue until it is empty, all tenants are parked, or the host is busy.

        In each round the first case that applies decides about the request whose turn it is:

        1. It was canceled: remove it.
        2. A permit is available: give it.
        3. The tenant may not send now: park the tenant, and go on with the next one.
        4. The host may not be called now: stop.
        """
        while (head := self._queue.peek()) is not None:
            if head.item.permit.done():
                self._queue.remove(head)
                continue
            busy = self._acquire(head.caller.tenant, now)
            match busy:
                case None:
                    self._queue.take(head)
                    head.item.permit.set_result(now)
                case TenantBusy(retry_in):
                    self._queue.park(head.caller.tenant)
                    if retry_in is not None:
                        until = now + max(retry_in, _MIN_SLEEP_SECONDS)
                        heappush(self._parked_until, (until, head.caller.tenant))
                case HostBusy():
                    return busy
        return None

    def _expire(self, now: float) -> None:
        """Fail the waiting requests whose deadline has passed."""
        while (entry := self._queue.overdue(now)) is not None:
            self._fail(entry, self._expired_error(entry.caller.tenant))

    def _fail(self, entry: QueueEntry[Waiter], error: KeyferryError) -> None:
        self._queue.remove(entry)
        if not entry.item.permit.done():
            entry.item.permit.set_exception(error)

    def _fail_all(self, cause: Exception) -> None:
        """Fail the requests that still wait when the scheduler broke down."""
        for entry in list(self._queue):
            error = InternalError("the queue of requests to a vault broke down")
            error.__cause__ = cause
            self._fail(entry, error)

    def _set_timer(self, retry_in: float | None, now: float) -> None:
        """Continue in `retry_in` seconds, or when a parked tenant may send again."""
        if not len(self._queue):
            self._parked_until.clear()
            self._stop_timer()
            return
        if self._parked_until:
            parked = self._parked_until[0][0] - now
            retry_in = parked if retry_in is None else min(retry_in, parked)
        if retry_in is None:
            return  # a released permit continues
        seconds = max(min(retry_in, self._queue.next_deadline - now), _MIN_SLEEP_SECONDS)
        if self._timer is not None and self._wake_at <= now + seconds:
            return
        self._stop_timer()
        self._wake_at = now + seconds
        self._timer = asyncio.create_task(self._continue_in(seconds))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _continue_in(self, seconds: float) -> None:
        try:
            await self._clock.sleep(seconds)
        except Exception as error:  # noqa: BLE001 - as in _give_permits
            self._fail_all(error)
        self._timer = None
        self._give_permits()
