"""The way to one vault: who goes when, and what the vault has said to all of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, assert_never

from keyferry.errors import ConnectionFailedError, InternalError, KeyferryError
from keyferry.resilience.circuit_breaker import Allow, AwaitProbe, CircuitBreaker, Reject
from keyferry.resilience.negative_cache import (
    circuit_open_error,
    permit_timeout_error,
    throttled_error,
)
from keyferry.resilience.priority_queue import PriorityQueue, QueueEntry
from keyferry.resilience.token_bucket import TokenBucket
from keyferry.resilience.turn import NotYet, PendingPermit, Permit

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry.aio.clock import Clock
    from keyferry.providers.api import Purpose
    from keyferry.resilience.retry import RetryableFailure
    from keyferry.resilience.settings import ResilienceSettings

_MIN_RETRY_AFTER_SECONDS = 0.1
"""A vault that wants to be asked again so soon has no idea when."""
_MAX_BACKOFF_SECONDS = 600.0
"""A vault that wants a longer pause is asked again then: the wish may be a mistake of a proxy."""
_MIN_SLEEP_SECONDS = 0.001
"""A shorter pause may be none at all: a clock is not that fine."""
_EXPIRY_CHECK_SECONDS = 1.0
"""Between two looks whether somebody has waited too long."""


class HostLimiter:
    """One vault, or one token endpoint.

    Args:
        host: its host, for messages.
        settings: the limits.
        clock: how time passes.
        random: shows a random number from 0 to 1.
    """

    def __init__(
        self, host: str, settings: ResilienceSettings, clock: Clock, random: Callable[[], float]
    ) -> None:
        self.host = host
        self.settings = settings
        self.clock = clock
        self.random = random
        now = clock.monotonic()
        self._bucket = TokenBucket(rate=settings.qps, burst=settings.burst, now=now)
        self._breaker = CircuitBreaker(settings.breaker)
        self._queue: PriorityQueue[PendingPermit] = PriorityQueue()
        self._in_flight = 0
        self._throttle_count = 0
        self._throttled_at = float("-inf")
        self.backoff_until = float("-inf")
        self._slot_released = asyncio.Event()
        self._dispatcher: asyncio.Task[None] | None = None

    # --- for the one who asks -----------------------------------------------------------------

    def try_acquire(self, deadline: float) -> Permit | None:
        """A turn at once, if nobody is before; else None.

        Args:
            deadline: when whoever asks has no time left.

        Raises:
            VaultUnavailableError: the vault is left alone because it fails.
            VaultThrottledError: it wants to be left alone until after `deadline`.
        """
        now = self.clock.monotonic()
        if self.backoff_until >= deadline:
            raise throttled_error(self.host, until=self._to_epoch(self.backoff_until))
        if self._queue.peek() is not None:
            return None
        found = self._acquire(now)
        return found if isinstance(found, Permit) else None

    def enqueue(
        self, *, arrived_at: float, purpose: Purpose, deadline: float
    ) -> QueueEntry[PendingPermit]:
        """Wait for a turn: `ticket.who.turn`, which fails as `try_turn` does, or for want of time.

        Args:
            arrived_at: since when.
            purpose: why.
            deadline: when whoever waits has no time left.
        """
        waiter = PendingPermit(asyncio.get_running_loop().create_future(), deadline)
        ticket = self._queue.enqueue(waiter, arrived_at=arrived_at, purpose=purpose)
        if self._dispatcher is None or self._dispatcher.done():
            self._dispatcher = asyncio.create_task(self._dispatch())
            self._dispatcher.add_done_callback(self._fail_waiters)
        return ticket

    def cancel(self, entry: QueueEntry[PendingPermit]) -> None:
        """Whoever waited has gone, perhaps with a turn already."""
        entry.done = True
        turn = entry.item.permit
        if turn.done() and not turn.cancelled() and turn.exception() is None:
            self._bucket.refund()
            self.release(turn.result())
        turn.cancel()

    def promote(self, entry: QueueEntry[PendingPermit]) -> None:
        """A pod waits to start for what was a refresh."""
        self._queue.promote(entry)

    # --- what became of a turn ----------------------------------------------------------------

    def on_success(self) -> None:
        """The vault gave an answer."""
        self._throttle_count = 0
        self._breaker.on_success()
        self._release_slot()

    def on_failure(self, permit: Permit, failure: RetryableFailure) -> None:
        """It gave none, or "later"."""
        now = self.clock.monotonic()
        if failure.is_throttled:
            self._breaker.on_success()
            self._back_off(permit, failure.retry_after, now)
        elif failure.host_fault:
            self._record_failure(permit, failure.error)
        else:
            self._breaker.on_success()
        self._release_slot()

    def on_error(self, permit: Permit, error: BaseException) -> None:
        """The request ended in an error that no other try can mend."""
        if isinstance(error, ConnectionFailedError):
            self._record_failure(permit, error)
            self._release_slot()
        elif isinstance(error, KeyferryError):
            self.on_success()
        else:
            self.release(permit)

    def release(self, permit: Permit) -> None:
        """Whoever had the turn has left it."""
        if permit.probe:
            self._breaker.probe_abandoned()
        self._release_slot()

    # --- for the metrics ----------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether nothing would be lost if it were made anew."""
        quiet = not self._in_flight and self._queue.peek() is None
        return quiet and not self._breaker.is_open and self.backoff_until <= self.clock.monotonic()

    @property
    def queue_depth(self) -> int:
        """How many wait for their turn."""
        return len(self._queue)

    @property
    def rate_limit_tokens(self) -> float:
        """How many requests may go at once."""
        return self._bucket.available(self.clock.monotonic())

    @property
    def is_circuit_open(self) -> bool:
        """Whether the vault is left alone because it fails, and somebody wants to ask it."""
        return self._breaker.is_reported_open(self.clock.monotonic())

    async def close(self) -> None:
        """Serve nobody any more."""
        if self._dispatcher is not None:
            self._dispatcher.cancel()
            await asyncio.wait((self._dispatcher,))

    # --- inside -------------------------------------------------------------------------------

    def _acquire(self, now: float) -> Permit | NotYet:
        verdict = self._breaker.verdict(now)
        match verdict:
            case Allow():
                if self._in_flight >= self.settings.max_concurrency:
                    return NotYet(None)
                wait = max(self._bucket.delay(now), self.backoff_until - now)
                if wait > 0:
                    return NotYet(wait)
                self._breaker.on_sent(verdict)
                self._bucket.take(now)
                self._in_flight += 1
                return Permit(now, verdict.probe)
            case AwaitProbe():
                return NotYet(None)
            case Reject(since, probe, last):
                raise circuit_open_error(
                    self.host,
                    failing_since=self._to_epoch(since),
                    next_probe_at=self._to_epoch(probe),
                    last_error=last,
                )
            case _:
                assert_never(verdict)

    async def _dispatch(self) -> None:
        """Give turns until nobody waits."""
        looked = self.clock.monotonic()
        while (ticket := self._queue.peek()) is not None:
            now = self.clock.monotonic()
            if now - looked >= _EXPIRY_CHECK_SECONDS:
                looked = now
                self._expire_waiters(now)
            if ticket.item.permit.done():
                ticket.done = True  # cancelled; it has not come to say so yet
                continue
            if ticket.item.deadline <= now:
                self._expire_waiters(now)
                continue
            self._slot_released.clear()
            try:
                found = self._acquire(now)
            except KeyferryError as error:
                ticket.done = True
                ticket.item.permit.set_exception(error)
                continue
            if isinstance(found, Permit):
                ticket.done = True
                ticket.item.permit.set_result(found)
            elif found.retry_in is None:
                await self._slot_released.wait()
            else:
                await self.clock.sleep(self._sleep_seconds(found.retry_in, now))
                if found.retry_in > _EXPIRY_CHECK_SECONDS:
                    self._expire_waiters(self.clock.monotonic())

    def _fail_waiters(self, dispatcher: asyncio.Task[None]) -> None:
        """Whoever still waits when nobody serves any more is sent away."""
        if dispatcher is not self._dispatcher:
            return  # who came since it had nobody left is served by another one
        error = None if dispatcher.cancelled() else dispatcher.exception()
        for ticket in list(self._queue):
            ticket.done = True
            if error is None:
                ticket.item.permit.cancel()
            elif not ticket.item.permit.done():
                defect = InternalError(f"the queue of {self.host} broke down")
                defect.__cause__ = error
                ticket.item.permit.set_exception(defect)

    def _sleep_seconds(self, seconds: float, now: float) -> float:
        """The pause until the next turn, or until somebody has no time left."""
        if seconds > _EXPIRY_CHECK_SECONDS:
            ends = (ticket.item.deadline for ticket in self._queue)
            seconds = min(seconds, min(ends, default=now) - now)
        return max(seconds, _MIN_SLEEP_SECONDS)

    def _expire_waiters(self, now: float) -> None:
        """Tell those who have no time left."""
        settings, others = self.settings, len(self._queue) - 1
        for ticket in list(self._queue):
            if ticket.item.deadline <= now and not ticket.item.permit.done():
                ticket.done = True
                error = permit_timeout_error(
                    self.host, settings.call_timeout, others=others, qps=settings.qps
                )
                ticket.item.permit.set_exception(error)

    def _back_off(self, permit: Permit, retry_after: float | None, now: float) -> None:
        if permit.sent_at >= self._throttled_at:
            self._throttled_at = now
            self._throttle_count += 1
        if retry_after is None or retry_after < _MIN_RETRY_AFTER_SECONDS:
            # "Later, at once" would be a request after the other without an end.
            retry_after = self.settings.retry.max_delay(self._throttle_count) * self.random()
        retry_after = min(retry_after, _MAX_BACKOFF_SECONDS)
        self.backoff_until = max(self.backoff_until, now + retry_after)
        self._bucket.throttle(sent_at=permit.sent_at, now=now, until=self.backoff_until)

    def _record_failure(self, permit: Permit, error: KeyferryError) -> None:
        now, jitter = self.clock.monotonic(), self.random()
        self._breaker.on_failure(error, now=now, jitter=jitter, probe=permit.probe)

    def _release_slot(self) -> None:
        self._in_flight -= 1
        self._slot_released.set()

    def _to_epoch(self, monotonic: float) -> float:
        """`monotonic` as seconds since 1970."""
        return self.clock.wall().timestamp() + monotonic - self.clock.monotonic()
