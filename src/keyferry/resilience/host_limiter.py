"""Limits the requests to one host: rate, concurrency, backoff when throttled, circuit breaker."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar, assert_never

from keyferry.errors import (
    ConnectionFailedError,
    InternalError,
    KeyferryError,
    VaultThrottledError,
    VaultUnavailableError,
)
from keyferry.net.retryable import RetryableFailure
from keyferry.resilience.circuit_breaker import Allow, AwaitProbe, CircuitBreaker, Reject
from keyferry.resilience.priority_queue import PriorityQueue, QueueEntry
from keyferry.resilience.token_bucket import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from keyferry.aio.clock import Clock
    from keyferry.resilience.call_context import CallContext, Purpose
    from keyferry.resilience.metrics import RequestOutcome, ResilienceMetrics
    from keyferry.resilience.settings import CallLimits, ResilienceSettings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Permit:
    """Allows one attempt. Its holder must report the outcome or release it.

    Attributes:
        sent_at: when the permit was given, in seconds of the limiter's clock.
        probe: whether this attempt is the probe of a half-open circuit breaker.
    """

    sent_at: float
    probe: bool


@dataclass(frozen=True, slots=True)
class NotYet:
    """No permit now.

    Attributes:
        retry_in: seconds until one may be available; None: when a slot is released.
    """

    retry_in: float | None


@dataclass(slots=True)
class PendingPermit:
    """A request that waits for a permit.

    Attributes:
        permit: resolves to the permit, or fails with the reason.
        deadline: when the request gives up, in seconds of the limiter's clock.
    """

    permit: asyncio.Future[Permit]
    deadline: float


_MIN_RETRY_AFTER_SECONDS = 0.1
"""A shorter Retry-After is replaced by a backoff of our own."""
_MAX_BACKOFF_SECONDS = 600.0
"""A longer Retry-After is cut, because it may be a mistake of a proxy."""
_MIN_SLEEP_SECONDS = 0.001
"""The resolution of the clock: a shorter sleep may not advance the time."""
_MIN_ATTEMPT_SECONDS = 0.001
"""An attempt whose permit came at the deadline still gets a positive time limit."""
_BEST_EFFORT_ATTEMPT_SECONDS = 10.0
"""The time limit of one attempt of a best-effort call."""
_EXPIRY_CHECK_SECONDS = 1.0
"""Between two checks for pending requests whose deadline has passed."""


class HostLimiter:
    """Gives permits for requests to one vault or token endpoint.

    Args:
        host: shown in messages and metrics.
        settings: the limits.
        clock: the time.
        random: returns a number from 0 to 1, for jitter.
        metrics: counts attempts.
    """

    def __init__(
        self,
        host: str,
        settings: ResilienceSettings,
        clock: Clock,
        random: Callable[[], float],
        metrics: ResilienceMetrics,
    ) -> None:
        self.host = host
        self.settings = settings
        self.clock = clock
        self.random = random
        self._metrics = metrics
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

    # --- requests -----------------------------------------------------------------------------

    async def send(
        self,
        attempt: Callable[[float], Awaitable[T | RetryableFailure]],
        context: CallContext,
        *,
        now: float,
        arrived_at: float,
        deadline: float,
    ) -> T | RetryableFailure:
        """Wait for a permit, make one attempt, and learn from its outcome.

        Args:
            attempt: sends the request once, within the seconds that are its argument.
            context: of the call.
            now: the time in seconds of the clock.
            arrived_at: when the request first asked for a permit, in seconds of the clock. A retry
                keeps its place in the queue.
            deadline: when the request gives up.

        Raises:
            VaultUnavailableError: the circuit breaker is open.
            VaultThrottledError: no permit before the deadline.
            Exception: whatever `attempt` raises.
        """
        permit = self._try_acquire(now, deadline) or await self._wait_for_permit(
            context, arrived_at, deadline
        )
        left = max(deadline - permit.sent_at, _MIN_ATTEMPT_SECONDS)
        if context.deadline is not None:
            left = min(left, _BEST_EFFORT_ATTEMPT_SECONDS)
        try:
            outcome = await attempt(left)
        except BaseException as error:
            self._on_error(permit, error)
            self._metrics.count_request(self.host, context.mode, "failed")
            raise
        if isinstance(outcome, RetryableFailure):
            self._on_failure(permit, outcome, best_effort=context.deadline is not None)
            result: RequestOutcome = "throttled" if outcome.is_throttled else "failed"
        else:
            self._on_success()
            result = "answered"
        self._metrics.count_request(self.host, context.mode, result)
        return outcome

    def enqueue(
        self, *, arrived_at: float, purpose: Purpose, deadline: float
    ) -> QueueEntry[PendingPermit]:
        """Add a request to the queue; `entry.item.permit` resolves to its permit or an error.

        Args:
            arrived_at: when the request first asked, in seconds of the clock.
            purpose: the priority.
            deadline: when the request gives up, in seconds of the clock.
        """
        waiter = PendingPermit(asyncio.get_running_loop().create_future(), deadline)
        entry = self._queue.enqueue(waiter, arrived_at=arrived_at, purpose=purpose)
        if self._dispatcher is None or self._dispatcher.done():
            self._dispatcher = asyncio.create_task(self._dispatch())
            self._dispatcher.add_done_callback(self._fail_waiters)
        return entry

    def cancel(self, entry: QueueEntry[PendingPermit]) -> None:
        """Remove a request from the queue and return the permit that it may already have."""
        entry.done = True
        permit = entry.item.permit
        if permit.done() and not permit.cancelled() and permit.exception() is None:
            self._bucket.refund()
            self.release(permit.result())
        permit.cancel()

    def release(self, permit: Permit) -> None:
        """Return a permit without an outcome."""
        if permit.probe:
            self._breaker.probe_abandoned()
        self._release_slot()

    # --- state for the metrics ----------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether the limiter has no state that a new one would lack."""
        quiet = not self._in_flight and self._queue.peek() is None
        return quiet and not self._breaker.is_open and self.backoff_seconds == 0

    @property
    def queue_depth(self) -> int:
        """The number of requests that wait for a permit."""
        return len(self._queue)

    @property
    def rate_limit_tokens(self) -> float:
        """The number of requests that the rate limit allows now."""
        return self._bucket.available(self.clock.monotonic())

    @property
    def backoff_seconds(self) -> float:
        """Seconds until the host may be called again after it throttled; 0 when it may be now."""
        return max(0.0, self.backoff_until - self.clock.monotonic())

    @property
    def is_circuit_open(self) -> bool:
        """Whether the circuit breaker is open and the host was used recently."""
        return self._breaker.is_reported_open(self.clock.monotonic())

    async def close(self) -> None:
        """Cancel all pending requests."""
        if self._dispatcher is not None:
            self._dispatcher.cancel()
            await asyncio.wait((self._dispatcher,))

    # --- permits ------------------------------------------------------------------------------

    def _try_acquire(self, now: float, deadline: float) -> Permit | None:
        """Return a permit if one is available and no other request waits."""
        if self.backoff_until >= deadline:
            raise VaultThrottledError(
                f"{self.host} throttles (429 Too Many Requests); rate limited until "
                f"{self._wall_time(self.backoff_until)}",
                "Request fewer objects from this vault, or spread them over several vaults.",
            )
        if self._queue.peek() is not None:
            return None
        permit = self._acquire(now)
        return permit if isinstance(permit, Permit) else None

    async def _wait_for_permit(
        self, context: CallContext, arrived_at: float, deadline: float
    ) -> Permit:
        entry = self.enqueue(arrived_at=arrived_at, purpose=context.purpose, deadline=deadline)
        promote = partial(self._queue.promote, entry)
        context.priority.subscribe(promote)
        try:
            return await entry.item.permit
        except BaseException:
            self.cancel(entry)
            raise
        finally:
            context.priority.unsubscribe(promote)

    def _acquire(self, now: float) -> Permit | NotYet:
        """Take a permit. The first case that applies decides:

        1. The circuit breaker is open: raise.
        2. A probe of the circuit breaker is in flight: wait for its outcome.
        3. The maximum number of requests is in flight: wait for a released slot.
        4. The host throttles or the token bucket is empty: wait for that time.
        5. Otherwise: take a token and a slot.
        """
        verdict = self._breaker.verdict(now)
        match verdict:
            case Allow():
                if self._in_flight >= self.settings.max_concurrency:
                    return NotYet(None)
                wait = max(self._bucket.delay(now), self.backoff_until - now)
                if wait > 0:
                    return NotYet(wait)
                self._bucket.take(now)
                if verdict.probe:
                    self._breaker.probe_sent()
                self._in_flight += 1
                return Permit(now, verdict.probe)
            case AwaitProbe():
                return NotYet(None)
            case Reject(since, probe, last):
                raise VaultUnavailableError(
                    f"{self.host} has not responded since {self._wall_time(since)}; circuit "
                    f"breaker open until {self._wall_time(probe)}. Last error: {last.problem}",
                    last.remedy,
                    stage=last.stage,
                )
            case _:
                assert_never(verdict)

    async def _dispatch(self) -> None:
        """Give permits to pending requests in order of priority until the queue is empty.

        In each round the first case that applies decides about the head of the queue:

        1. It was cancelled: remove it.
        2. Its deadline has passed: fail it, and all others whose deadline has passed.
        3. A permit is available: give it.
        4. The circuit breaker is open: fail the request with the reason.
        5. Too many requests are in flight, or a probe is: sleep until a slot is released.
        6. The host throttles or the rate limit is reached: sleep until then, or until the earliest
           deadline if that comes first.
        """
        checked_at = self.clock.monotonic()
        while (head := self._queue.peek()) is not None:
            now = self.clock.monotonic()
            if now - checked_at >= _EXPIRY_CHECK_SECONDS:
                checked_at = now
                self._expire_waiters(now)
            if head.item.permit.done():
                head.done = True
                continue
            if head.item.deadline <= now:
                self._expire_waiters(now)
                continue
            self._slot_released.clear()
            try:
                permit = self._acquire(now)
            except KeyferryError as error:
                head.done = True
                head.item.permit.set_exception(error)
                continue
            if isinstance(permit, Permit):
                head.done = True
                head.item.permit.set_result(permit)
            elif permit.retry_in is None:
                await self._slot_released.wait()
            else:
                await self.clock.sleep(self._sleep_seconds(permit.retry_in, now))
                if permit.retry_in > _EXPIRY_CHECK_SECONDS:
                    self._expire_waiters(self.clock.monotonic())

    def _fail_waiters(self, dispatcher: asyncio.Task[None]) -> None:
        """Fail the requests that still wait when the dispatcher was cancelled or broke down."""
        if dispatcher is not self._dispatcher:
            return  # a newer dispatcher serves the queue
        error = None if dispatcher.cancelled() else dispatcher.exception()
        for entry in list(self._queue):
            entry.done = True
            if error is None:
                entry.item.permit.cancel()
            elif not entry.item.permit.done():
                failure = InternalError(f"the queue of {self.host} broke down")
                failure.__cause__ = error
                entry.item.permit.set_exception(failure)

    def _sleep_seconds(self, seconds: float, now: float) -> float:
        """Return `seconds`, or the time to the earliest deadline if that is shorter."""
        if seconds > _EXPIRY_CHECK_SECONDS:
            deadlines = (entry.item.deadline for entry in self._queue)
            seconds = min(seconds, min(deadlines, default=now) - now)
        return max(seconds, _MIN_SLEEP_SECONDS)

    def _expire_waiters(self, now: float) -> None:
        """Fail the pending requests whose deadline has passed."""
        settings, others = self.settings, len(self._queue) - 1
        for entry in list(self._queue):
            if entry.item.deadline <= now and not entry.item.permit.done():
                entry.done = True
                error = VaultThrottledError(
                    f"a request to {self.host} waited {settings.call_timeout:g} s for the rate "
                    f"limit; {others} other requests are waiting",
                    f"The limit is {settings.qps:g} requests per second to one vault "
                    "(--vault-qps), and less while the vault throttles. Request fewer objects, or "
                    "spread them over several vaults.",
                )
                entry.item.permit.set_exception(error)

    # --- outcomes -----------------------------------------------------------------------------

    def _on_success(self) -> None:
        """The host responded."""
        self._throttle_count = 0
        self._release_slot()
        self._breaker.on_success()

    def _on_failure(self, permit: Permit, failure: RetryableFailure, *, best_effort: bool) -> None:
        """The host throttled, or did not respond.

        A best-effort request may simply be too expensive, so its failure says nothing about the
        host unless there was no connection.
        """
        if failure.is_throttled:
            self._breaker.on_success()
            self._back_off(permit, failure.retry_after)
        elif failure.host_fault and (
            not best_effort or isinstance(failure.error, ConnectionFailedError)
        ):
            self._record_failure(permit, failure.error)
        else:
            self._breaker.on_success()
        self._release_slot()

    def _on_error(self, permit: Permit, error: BaseException) -> None:
        """The attempt raised an error that is not retried."""
        if isinstance(error, ConnectionFailedError):
            self._record_failure(permit, error)
            self._release_slot()
        elif isinstance(error, KeyferryError):
            self._on_success()
        else:
            self.release(permit)

    def _back_off(self, permit: Permit, retry_after: float | None) -> None:
        now = self.clock.monotonic()
        if permit.sent_at >= self._throttled_at:
            self._throttled_at = now
            self._throttle_count += 1
        if retry_after is None or retry_after < _MIN_RETRY_AFTER_SECONDS:
            # A Retry-After of zero would cause requests in a tight loop.
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

    def _wall_time(self, monotonic: float) -> str:
        """Return a time of the clock as text, for messages."""
        epoch = self.clock.wall().timestamp() + monotonic - self.clock.monotonic()
        return datetime.fromtimestamp(epoch, UTC).strftime("%H:%M:%S UTC")


# --- The limiters of all hosts --------------------------------------------------------------------

_MAX_HOSTS = 1000
"""The number of limiters that are kept; SecretProviderClasses can name any number of hosts."""


class HostLimiters:
    """One limiter for each host. When there are too many, idle ones are dropped.

    Args:
        settings: the limits of hosts without limits of their own.
        clock: the time.
        random: returns a number from 0 to 1, for jitter.
        metrics: counts attempts.
    """

    def __init__(
        self,
        settings: ResilienceSettings,
        clock: Clock,
        random: Callable[[], float],
        metrics: ResilienceMetrics,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._random = random
        self._metrics = metrics
        self._limiters: dict[str, HostLimiter] = {}

    def get(self, host: str) -> HostLimiter:
        """Return the limiter of a host."""
        return self._limiters.get(host) or self._create(host, self._settings)

    def configure(self, host: str, limits: CallLimits) -> None:
        """Set limits for one host. No effect after the first request to the host."""
        if host not in self._limiters:
            self._create(host, self._settings.with_limits(limits))

    def all(self) -> list[HostLimiter]:
        """Return the limiters of all known hosts."""
        return list(self._limiters.values())

    async def close(self) -> None:
        """Cancel all pending requests."""
        for limiter in self._limiters.values():
            await limiter.close()

    def _create(self, host: str, settings: ResilienceSettings) -> HostLimiter:
        if len(self._limiters) >= _MAX_HOSTS:
            for name in [name for name, limiter in self._limiters.items() if limiter.is_idle]:
                del self._limiters[name]
        limiter = HostLimiter(host, settings, self._clock, self._random, self._metrics)
        self._limiters[host] = limiter
        return limiter
