"""Sends one request to a vault, retried until it succeeds, fails for good, or has no time left."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, assert_never

from keyferry.errors import VaultError
from keyferry.net.retryable import RetryableFailure
from keyferry.records import replace
from keyferry.resilience.call_context import BEST_EFFORT_SECONDS
from keyferry.resilience.retry import GiveUp, decide_retry
from keyferry.resilience.retry import Wait as WaitForRetry
from keyferry.resilience.waiting import waiting_for

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from keyferry.resilience.call_context import CallContext
    from keyferry.resilience.limits.host_limiter import HostLimiter
    from keyferry.resilience.limits.host_limiters import HostLimiters
    from keyferry.resilience.waiting import Wait

T = TypeVar("T")

_BEST_EFFORT_TRIES = 2


class RetryingTransport:
    """Sends requests: each attempt needs a permit of its host's `HostLimiter`.

    Args:
        limiters: the limiters of all hosts.
    """

    def __init__(self, limiters: HostLimiters) -> None:
        self._limiters = limiters

    async def send(
        self,
        attempt: Callable[[float], Awaitable[T | RetryableFailure]],
        context: CallContext,
    ) -> T:
        """Send one request and return its response.

        A failed attempt is handled by the first case that applies:

        1. Throttled, and the backoff ends before the deadline: try again after the backoff. This
           does not count as a failure.
        2. Throttled for longer: raise.
        3. Failed fewer times than the retry policy allows, and there is time: try again after a
           random delay.
        4. Otherwise: raise.

        Args:
            attempt: sends the request once, within the seconds that are its argument.
            context: the host, the priority and the deadline.

        Raises:
            VaultUnavailableError: the circuit breaker of the tenant is open.
            VaultThrottledError: the host throttles for longer than the request can wait.
            KeyferryError: the error of the last attempt. Errors that `attempt` raises are not
                retried.
        """
        limiter = self._limiters.get(context.endpoint, context.caller.tenant)
        with waiting_for(context.stage, limiter.host) as wait:
            return await self._send(attempt, context, limiter, wait)

    async def _send(
        self,
        attempt: Callable[[float], Awaitable[T | RetryableFailure]],
        context: CallContext,
        limiter: HostLimiter,
        wait: Wait,
    ) -> T:
        tenant = context.caller.tenant
        clock, settings, policy = limiter.clock, limiter.settings, limiter.settings.retry
        now = arrived_at = clock.monotonic()
        deadline = arrived_at + settings.call_timeout
        if context.deadline is not None:
            if arrived_at >= context.deadline:
                raise VaultError(
                    f"responses of {limiter.host} took more than {BEST_EFFORT_SECONDS:g} s in total"
                )
            policy = replace(policy, tries=min(policy.tries, _BEST_EFFORT_TRIES))
        if context.ignores_circuit:
            policy = replace(policy, tries=1)
        tries = failures = 0
        while True:
            outcome = await limiter.send(
                attempt, context, now=now, arrived_at=arrived_at, deadline=deadline
            )
            if not isinstance(outcome, RetryableFailure):
                return outcome
            tries += 1
            wait.problem = outcome.error.problem
            now = clock.monotonic()
            if outcome.is_throttled:
                if limiter.backoff_until(tenant) >= deadline:
                    raise _final_error(outcome, tries) from outcome.cause
                continue
            failures += 1
            left, jitter = deadline - now, limiter.random()
            decision = decide_retry(policy, failures=failures, time_left=left, jitter=jitter)
            match decision:
                case WaitForRetry(seconds):
                    await clock.sleep(seconds)
                    now = clock.monotonic()
                case GiveUp():
                    raise _final_error(outcome, tries) from outcome.cause
                case _:
                    assert_never(decision)


def _final_error(failure: RetryableFailure, tries: int) -> Exception:
    """Return the error of the last attempt, with the number of attempts as detail."""
    if tries > 1:
        failure.error.add_detail(f"{tries} tries")
    return failure.error
