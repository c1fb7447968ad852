"""One request to a vault: its turn, its tries, its time."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, assert_never

from keyferry.contract import Purpose
from keyferry.errors import VaultError
from keyferry.retry import GiveUp, TryFailed, Wait, decide

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from keyferry.economy.gate import Gate
    from keyferry.economy.metrics import Outcome
    from keyferry.economy.queue import Ticket
    from keyferry.economy.turn import Turn, Waiter

T = TypeVar("T")

_BRIEF_TRIES = 2
_BRIEF_TRY_SECONDS = 10.0
_BRIEF_SECONDS = 20.0


class Errand:
    """What one caller wants of one vault; its requests take their turns through it.

    Args:
        gate: of the vault.
        purpose: why.
        count: told how each try ended.
    """

    def __init__(self, gate: Gate, purpose: Purpose, count: Callable[[Outcome], None]) -> None:
        self._gate = gate
        self._count = count
        self._waiting: list[Ticket[Waiter]] = []
        self.purpose = purpose

    async def run(self, attempt: Callable[[float], Awaitable[T | TryFailed]]) -> T:
        """Make one request, when its turn comes, as often as it takes.

        A failure is tried again after a pause of its own, a few times; "later" is tried again when
        the vault wants to be asked again, by anybody, as long as there is time.

        Args:
            attempt: makes one try, which may take the seconds given to it.

        Raises:
            VaultUnavailableError: the vault has failed for a while and is left alone.
            VaultThrottledError: it wants no request for longer than this one can wait.
            KeyferryError: the error of the last try; whatever `attempt` raises passes through at
                once.
        """
        clock, settings = self._gate.clock, self._gate.settings
        came = clock.monotonic()
        end = came + settings.patience
        tries = failures = 0
        while True:
            outcome = await self._try(attempt, came, end)
            if not isinstance(outcome, TryFailed):
                return outcome
            tries += 1
            if outcome.is_throttled:
                if self._gate.paused_until >= end:
                    raise _last(outcome, tries) from outcome.cause
                continue
            failures += 1
            left = end - clock.monotonic()
            decision = decide(
                settings.retry, failures=failures, left=left, jitter=self._gate.dice()
            )
            match decision:
                case Wait(seconds):
                    await clock.sleep(seconds)
                case GiveUp():
                    raise _last(outcome, tries) from outcome.cause
                case _:
                    assert_never(decision)

    def briefly(self) -> Errand:
        """For requests that only spare others: two short tries each, and then the others."""
        return _BriefErrand(self._gate, self.purpose, self._count)

    def hurry(self, purpose: Purpose) -> None:
        """Somebody else joined, for `purpose`: a pod that waits to start makes it a first mount."""
        if purpose is Purpose.FIRST and self.purpose is Purpose.REFRESH:
            self.purpose = purpose
            for ticket in self._waiting:
                self._gate.hurry(ticket)

    async def _try(
        self, attempt: Callable[[float], Awaitable[T | TryFailed]], came: float, end: float
    ) -> T | TryFailed:
        turn = self._gate.try_turn(end) or await self._turn(came, end)
        try:
            outcome = await attempt(max(end - self._gate.clock.monotonic(), 0.001))
        except BaseException as error:
            self._gate.raised(turn, error)
            self._count("failed")
            raise
        if isinstance(outcome, TryFailed):
            self._gate.failed(turn, outcome)
            self._count("throttled" if outcome.is_throttled else "failed")
        else:
            self._gate.answered()
            self._count("answered")
        return outcome

    async def _turn(self, came: float, end: float) -> Turn:
        ticket = self._gate.join(came=came, purpose=self.purpose, end=end)
        self._waiting.append(ticket)
        try:
            return await ticket.who.turn
        except BaseException:
            self._gate.leave(ticket)
            raise
        finally:
            self._waiting.remove(ticket)


class _BriefErrand(Errand):
    """See `Errand.briefly`; all its requests together are over after some seconds.

    What fails is one question, such as a list that is too much for the vault. So the last failure
    does not count against the vault as a whole, unless there was no connection.
    """

    def __init__(self, gate: Gate, purpose: Purpose, count: Callable[[Outcome], None]) -> None:
        super().__init__(gate, purpose, count)
        self._ends = gate.clock.monotonic() + _BRIEF_SECONDS

    async def run(self, attempt: Callable[[float], Awaitable[T | TryFailed]]) -> T:
        """See `Errand.run`.

        Raises:
            KeyferryError: as there, after fewer tries; or the time is over.
        """
        failures = 0

        async def short(seconds: float) -> T | TryFailed:
            nonlocal failures
            outcome = await attempt(min(seconds, _BRIEF_TRY_SECONDS))
            if isinstance(outcome, TryFailed) and not outcome.is_throttled:
                failures += 1
                if failures == _BRIEF_TRIES:
                    raise outcome.error from outcome.cause
            return outcome

        if self._gate.clock.monotonic() >= self._ends:
            raise VaultError(
                f"the answers of {self._gate.vault} take more than {_BRIEF_SECONDS:g} s together"
            )
        return await super().run(short)


def _last(outcome: TryFailed, tries: int) -> Exception:
    """The error of the last of several tries."""
    if tries > 1:
        outcome.error.problem += f" ({tries} tries)"
    return outcome.error
