"""Fuzzes the permit scheduler: no starvation, no lost or doubled permit, all bounds kept."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from keyferry.errors import VaultThrottledError
from keyferry.resilience.call_context import CallContext, Caller, Purpose
from keyferry.resilience.limits.fair_queue import FairQueue, QueueEntry
from keyferry.resilience.limits.permit_scheduler import TENANT_SHARE, PermitScheduler
from keyferry.resilience.limits.rate_limit import RateLimit
from keyferry.resilience.settings import ResilienceSettings
from tests.fakes.virtual_time import LoopClock, max_jitter, run_in_virtual_time

TENANTS = ("", "a", "b", "c")
callers = st.builds(Caller, st.sampled_from(TENANTS), st.sampled_from(("x", "y", "z")))
DEADLINE_SECONDS = 60.0
OF_LOOPS = max(settings().max_examples // 10, 100)
"""Cases that run an event loop."""


# --- the scheduler, with requests that end, are canceled, promoted, throttled ---------------------


@dataclass(frozen=True)
class FakeRequest:
    """One request.

    Attributes:
        delay: seconds after the previous request.
        caller: on whose behalf.
        purpose: its priority.
        seconds: how long its attempt takes.
        cancel_after: seconds after which its caller gives up; None: never.
        promote_after: seconds after which it becomes a first mount; None: never.
        throttled: seconds of a Retry-After that it gets; None: it succeeds.
    """

    delay: float
    caller: Caller
    purpose: Purpose
    seconds: float
    cancel_after: float | None
    promote_after: float | None
    throttled: float | None


requests = st.builds(
    FakeRequest,
    delay=st.sampled_from([0.0, 0.0, 0.0, 0.01, 1.0]),
    caller=callers,
    purpose=st.sampled_from(Purpose),
    seconds=st.sampled_from([0.0, 0.1, 5.0]),
    cancel_after=st.sampled_from([None, None, None, 0.0, 0.05, 3.0]),
    promote_after=st.sampled_from([None, None, 0.0, 1.0]),
    throttled=st.sampled_from([None, None, None, None, 0.5, 20.0]),
)


@dataclass
class Host:
    """A host that counts its requests in flight, by tenant."""

    scheduler: PermitScheduler
    rate: RateLimit
    max_concurrency: int
    in_flight: Counter[str] = field(default_factory=Counter)
    given: int = 0
    ended: Counter[str] = field(default_factory=Counter)

    async def send(self, request: FakeRequest) -> None:
        """Get a permit, use it, and return it."""
        loop, tenant = asyncio.get_running_loop(), request.caller.tenant
        context = CallContext.new("host", request.purpose, caller=request.caller)
        if request.promote_after is not None:
            loop.call_later(request.promote_after, context.priority.promote)
        arrived_at = loop.time()
        sent_at = arrived_at
        if not self.scheduler.acquire(tenant, arrived_at):
            sent_at = await self.scheduler.wait(
                context, arrived_at=arrived_at, deadline=arrived_at + DEADLINE_SECONDS
            )
        try:
            self.given += 1
            self.in_flight[tenant] += 1
            self.check()
            await asyncio.sleep(request.seconds)
            now = loop.time()
            if request.throttled is None:
                self.rate.on_success(tenant, sent_at=sent_at, now=now)
            else:
                self.rate.on_throttled(
                    tenant, sent_at=sent_at, retry_after=request.throttled, now=now
                )
        finally:
            self.in_flight[tenant] -= 1
            self.scheduler.release(tenant)

    def check(self) -> None:
        """Check the bounds on concurrent requests."""
        assert self.in_flight.total() <= self.max_concurrency
        share = max(1, int(self.max_concurrency * TENANT_SHARE))
        assert all(number <= share for tenant, number in self.in_flight.items() if tenant)

    async def run(self, request: FakeRequest) -> None:
        """Send a request, and count how it ended."""
        start = asyncio.get_running_loop().time()
        try:
            await asyncio.wait_for(self.send(request), request.cancel_after)
            self.ended["served"] += 1
        except TimeoutError:
            assert request.cancel_after is not None
            self.ended["canceled"] += 1
        except VaultThrottledError:
            # Checks for expired requests run with the next event, so at most one attempt later.
            waited = asyncio.get_running_loop().time() - start
            assert waited > DEADLINE_SECONDS - 0.001  # floats
            self.ended["expired"] += 1


@settings(deadline=None, max_examples=OF_LOOPS)
@given(
    st.lists(requests, min_size=1, max_size=60),
    st.sampled_from([0.0, 1.0, 20.0]),
    st.integers(1, 5),
    st.integers(1, 8),
)
def test_each_permit_is_given_once_and_returned(
    planned: list[FakeRequest], qps: float, burst: int, max_concurrency: int
) -> None:
    """Whatever the callers do, every request ends, and the scheduler is as new afterwards."""

    async def main() -> None:
        limits = ResilienceSettings(qps=qps, burst=burst, max_concurrency=max_concurrency)
        rate = RateLimit(limits, 0.0, max_jitter)
        scheduler = PermitScheduler(rate, max_concurrency, LoopClock(), VaultThrottledError)
        host = Host(scheduler, rate, max_concurrency)
        tasks = []
        for request in planned:
            await asyncio.sleep(request.delay)
            tasks.append(asyncio.create_task(host.run(request)))
        await asyncio.gather(*tasks)
        assert len(planned) == host.ended.total()
        assert (0, 0, 0) == (len(scheduler), scheduler.in_flight, host.in_flight.total())
        assert not scheduler._in_flight_of
        # Nothing is left that could delay a later request.
        await asyncio.sleep(700.0)
        for tenant in TENANTS:
            assert scheduler.acquire(tenant, asyncio.get_running_loop().time())
            scheduler.release(tenant)
            await asyncio.sleep(2.0)
        await scheduler.close()

    run_in_virtual_time(main())


@settings(deadline=None, max_examples=OF_LOOPS)
@given(
    st.lists(callers, min_size=1, max_size=80),
    st.integers(2, 8),
    st.sampled_from(["a", "b", "c"]),
)
def test_no_tenant_waits_for_the_whole_queue_of_the_others(
    flood: list[Caller], max_concurrency: int, victim: str
) -> None:
    """A tenant without requests in flight is served after one request of each other tenant."""
    others = [caller for caller in flood if caller.tenant != victim]

    async def main() -> None:
        limits = ResilienceSettings(qps=0.0, max_concurrency=max_concurrency)
        scheduler = PermitScheduler(
            RateLimit(limits, 0.0, max_jitter),
            max_concurrency,
            LoopClock(),
            VaultThrottledError,
        )
        order: list[str] = []

        async def one(caller: Caller) -> None:
            context = CallContext.new("host", caller=caller)
            if not scheduler.acquire(caller.tenant, asyncio.get_running_loop().time()):
                await scheduler.wait(context, arrived_at=0.0, deadline=1e6)
            order.append(caller.tenant)
            await asyncio.sleep(1.0)
            scheduler.release(caller.tenant)

        tasks = [asyncio.create_task(one(caller)) for caller in others]
        await asyncio.sleep(0.5)
        before = len(order)
        tasks.append(asyncio.create_task(one(Caller(victim))))
        await asyncio.gather(*tasks)
        overtaking = order[before : order.index(victim, before)]
        assert all(number <= 1 for number in Counter(overtaking).values())

    run_in_virtual_time(main())


# --- the queue ------------------------------------------------------------------------------------


class QueueModel(RuleBasedStateMachine):
    """A queue, and a simple model of it: the waiting entries, and the parked tenants."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[int] = FairQueue()
        self.entries: list[QueueEntry[int]] = []
        self.waiting: dict[int, QueueEntry[int]] = {}
        self.parked: set[str] = set()

    def of_tenant(self, tenant: str) -> list[QueueEntry[int]]:
        return [entry for entry in self.waiting.values() if entry.caller.tenant == tenant]

    @rule(caller=callers, purpose=st.sampled_from(Purpose), arrived_at=st.integers(0, 30))
    def enqueue(self, caller: Caller, purpose: Purpose, arrived_at: int) -> None:
        if not self.of_tenant(caller.tenant):
            self.parked.discard(caller.tenant)
        entry = self.queue.enqueue(
            len(self.entries),
            caller=caller,
            arrived_at=arrived_at,
            deadline=arrived_at + 60.0,
            purpose=purpose,
        )
        self.entries.append(entry)
        self.waiting[entry.item] = entry

    @rule()
    def take(self) -> None:
        head = self.queue.peek()
        if head is None:
            assert {entry.caller.tenant for entry in self.waiting.values()} <= self.parked
            return
        assert head.caller.tenant not in self.parked
        rivals = [entry for entry in self.waiting.values() if entry.caller == head.caller]
        assert head.rank == min(entry.rank for entry in rivals)
        self.queue.take(head)
        del self.waiting[head.item]

    @precondition(lambda self: self.entries)
    @rule(number=st.integers(0, 50))
    def remove(self, number: int) -> None:
        entry = self.entries[number % len(self.entries)]
        self.queue.remove(entry)
        self.waiting.pop(entry.item, None)

    @precondition(lambda self: self.entries)
    @rule(number=st.integers(0, 50))
    def promote(self, number: int) -> None:
        self.queue.promote(self.entries[number % len(self.entries)])

    @rule(tenant=st.sampled_from(TENANTS))
    def park(self, tenant: str) -> None:
        self.queue.park(tenant)
        if self.of_tenant(tenant):
            self.parked.add(tenant)

    @rule(tenant=st.sampled_from(TENANTS))
    def unpark(self, tenant: str) -> None:
        self.queue.unpark(tenant)
        self.parked.discard(tenant)

    @invariant()
    def queue_is_equal_to_the_model(self) -> None:
        assert self.waiting.keys() == {entry.item for entry in self.queue}
        assert len(self.waiting) == len(self.queue)
        for tenant in TENANTS:
            own = len(self.of_tenant(tenant))
            assert own == self.queue.depth(tenant) == len(self.queue.of_tenant(tenant))
        deadlines = [entry.deadline for entry in self.waiting.values()]
        assert min(deadlines, default=float("inf")) == self.queue.next_deadline


TestQueueModel = QueueModel.TestCase
TestQueueModel.settings = settings(deadline=None, max_examples=OF_LOOPS)
