"""One request to a vault: its turn, its tries, its time."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, assert_never

from keyferry.errors import VaultError
from keyferry.providers.api import Purpose
from keyferry.resilience.retry import GiveUp, RetryableFailure, Wait, decide_retry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from keyferry.resilience.host_limiter import HostLimiter
    from keyferry.resilience.metrics import RequestOutcome
    from keyferry.resilience.priority_queue import QueueEntry
    from keyferry.resilience.turn import PendingPermit, Permit

T = TypeVar("T")

_SHORT_TRIES = 2
_SHORT_TRY_SECONDS = 10.0
_SHORT_DEADLINE_SECONDS = 20.0


class RetryingCaller:
    """What one caller wants of one vault; its requests take their turns through it.

    Args:
        limiter: of the vault.
        purpose: why.
        count: told how each try ended.
    """

    def __init__(
        self, limiter: HostLimiter, purpose: Purpose, count: Callable[[RequestOutcome], None]
    ) -> None:
        self._limiter = limiter
        self._count = count
        self._pending: list[QueueEntry[PendingPermit]] = []
        self.purpose = purpose

    async def call(self, send: Callable[[float], Awaitable[T | RetryableFailure]]) -> T:
        """Make one request, when its turn comes, as often as it takes.

        A failure is tried again after a pause of its own, a few times; "later" is tried again when
        the vault wants to be asked again, by anybody, as long as there is time.

        Args:
            send: makes one try, which may take the seconds given to it.

        Raises:
            VaultUnavailableError: the vault has failed for a while and is left alone.
            VaultThrottledError: it wants no request for longer than this one can wait.
            KeyferryError: the error of the last try; whatever `send` raises passes through at
                once.
        """
        clock, settings = self._limiter.clock, self._limiter.settings
        came = clock.monotonic()
        end = came + settings.call_timeout
        tries = failures = 0
        while True:
            outcome = await self._try(send, came, end)
            if not isinstance(outcome, RetryableFailure):
                return outcome
            tries += 1
            if outcome.is_throttled:
                if self._limiter.backoff_until >= end:
                    raise _final_error(outcome, tries) from outcome.cause
                continue
            failures += 1
            left = end - clock.monotonic()
            decision = decide_retry(
                settings.retry, failures=failures, time_left=left, jitter=self._limiter.random()
            )
            match decision:
                case Wait(seconds):
                    await clock.sleep(seconds)
                case GiveUp():
                    raise _final_error(outcome, tries) from outcome.cause
                case _:
                    assert_never(decision)

    def with_short_deadline(self) -> RetryingCaller:
        """For requests that only spare others: two short tries each, and then the others."""
        return _ShortDeadlineCaller(self._limiter, self.purpose, self._count)

    def promote(self, purpose: Purpose) -> None:
        """Somebody else joined, for `purpose`: a pod that waits to start makes it a first mount."""
        if purpose is Purpose.FIRST and self.purpose is Purpose.REFRESH:
            self.purpose = purpose
            for ticket in self._pending:
                self._limiter.promote(ticket)

    async def _try(
        self,
        send: Callable[[float], Awaitable[T | RetryableFailure]],
        arrived_at: float,
        deadline: float,
    ) -> T | RetryableFailure:
        turn = self._limiter.try_acquire(deadline) or await self._wait_for_permit(
            arrived_at, deadline
        )
        try:
            outcome = await send(max(deadline - self._limiter.clock.monotonic(), 0.001))
        except BaseException as error:
            self._limiter.on_error(turn, error)
            self._count("failed")
            raise
        if isinstance(outcome, RetryableFailure):
            self._limiter.on_failure(turn, outcome)
            self._count("throttled" if outcome.is_throttled else "failed")
        else:
            self._limiter.on_success()
            self._count("answered")
        return outcome

    async def _wait_for_permit(self, arrived_at: float, deadline: float) -> Permit:
        ticket = self._limiter.enqueue(
            arrived_at=arrived_at, purpose=self.purpose, deadline=deadline
        )
        self._pending.append(ticket)
        try:
            return await ticket.item.permit
        except BaseException:
            self._limiter.cancel(ticket)
            raise
        finally:
            self._pending.remove(ticket)


class _ShortDeadlineCaller(RetryingCaller):
    """See `Errand.briefly`; all its requests together are over after some seconds.

    What fails is one question, such as a list that is too much for the vault. So the last failure
    does not count against the vault as a whole, unless there was no connection.
    """

    def __init__(
        self, limiter: HostLimiter, purpose: Purpose, count: Callable[[RequestOutcome], None]
    ) -> None:
        super().__init__(limiter, purpose, count)
        self._deadline = limiter.clock.monotonic() + _SHORT_DEADLINE_SECONDS

    async def call(self, send: Callable[[float], Awaitable[T | RetryableFailure]]) -> T:
        """See `Errand.run`.

        Raises:
            KeyferryError: as there, after fewer tries; or the time is over.
        """
        failures = 0

        async def short(seconds: float) -> T | RetryableFailure:
            nonlocal failures
            outcome = await send(min(seconds, _SHORT_TRY_SECONDS))
            if isinstance(outcome, RetryableFailure) and not outcome.is_throttled:
                failures += 1
                if failures == _SHORT_TRIES:
                    raise outcome.error from outcome.cause
            return outcome

        if self._limiter.clock.monotonic() >= self._deadline:
            raise VaultError(
                f"the answers of {self._limiter.host} take more than "
                f"{_SHORT_DEADLINE_SECONDS:g} s together"
            )
        return await super().call(short)


def _final_error(outcome: RetryableFailure, tries: int) -> Exception:
    """The error of the last of several tries."""
    if tries > 1:
        outcome.error.problem += f" ({tries} tries)"
    return outcome.error
