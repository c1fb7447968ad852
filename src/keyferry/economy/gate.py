"""The way to one vault: who goes when, and what the vault has said to all of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, assert_never

from keyferry.economy.breaker import Breaker, Go, Hold, Refuse
from keyferry.economy.budget import Budget
from keyferry.economy.queue import Ticket, TurnQueue
from keyferry.economy.refusals import no_turn, paused_too_long, unavailable
from keyferry.economy.turn import Later, Turn, Waiter
from keyferry.errors import ConnectionFailedError, InternalError, KeyferryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry.clocks import Clock
    from keyferry.contract import Purpose
    from keyferry.economy.settings import EconomySettings
    from keyferry.retry import TryFailed

_AT_ONCE_SECONDS = 0.1
"""A vault that wants to be asked again so soon has no idea when."""
_LONGEST_PAUSE_SECONDS = 600.0
"""A vault that wants a longer pause is asked again then: the wish may be a mistake of a proxy."""
_SHORTEST_SECONDS = 0.001
"""A shorter pause may be none at all: a clock is not that fine."""
_LOOK_SECONDS = 1.0
"""Between two looks whether somebody has waited too long."""


class Gate:
    """One vault, or one token endpoint.

    Args:
        vault: its host, for messages.
        settings: the limits.
        clock: how time passes.
        dice: shows a random number from 0 to 1.
    """

    def __init__(
        self, vault: str, settings: EconomySettings, clock: Clock, dice: Callable[[], float]
    ) -> None:
        self.vault = vault
        self.settings = settings
        self.clock = clock
        self.dice = dice
        now = clock.monotonic()
        self._budget = Budget(rate=settings.rate, burst=settings.burst, now=now)
        self._breaker = Breaker(settings.breaker)
        self._queue: TurnQueue[Waiter] = TurnQueue()
        self._under_way = 0
        self._throttles = 0
        self._throttled = float("-inf")
        self.paused_until = float("-inf")
        self._changed = asyncio.Event()
        self._server: asyncio.Task[None] | None = None

    # --- for the one who asks -----------------------------------------------------------------

    def try_turn(self, end: float) -> Turn | None:
        """A turn at once, if nobody is before; else None.

        Args:
            end: when whoever asks has no time left.

        Raises:
            VaultUnavailableError: the vault is left alone because it fails.
            VaultThrottledError: it wants to be left alone until after `end`.
        """
        now = self.clock.monotonic()
        if self.paused_until >= end:
            raise paused_too_long(self.vault, until=self._wall(self.paused_until))
        if self._queue.first() is not None:
            return None
        found = self._admit(now)
        return found if isinstance(found, Turn) else None

    def join(self, *, came: float, purpose: Purpose, end: float) -> Ticket[Waiter]:
        """Wait for a turn: `ticket.who.turn`, which fails as `try_turn` does, or for want of time.

        Args:
            came: since when.
            purpose: why.
            end: when whoever waits has no time left.
        """
        waiter = Waiter(asyncio.get_running_loop().create_future(), end)
        ticket = self._queue.join(waiter, came=came, purpose=purpose)
        if self._server is None or self._server.done():
            self._server = asyncio.create_task(self._serve())
            self._server.add_done_callback(self._leave_nobody)
        return ticket

    def leave(self, ticket: Ticket[Waiter]) -> None:
        """Whoever waited has gone, perhaps with a turn already."""
        ticket.gone = True
        turn = ticket.who.turn
        if turn.done() and not turn.cancelled() and turn.exception() is None:
            self._budget.give_back()
            self.gone(turn.result())
        turn.cancel()

    def hurry(self, ticket: Ticket[Waiter]) -> None:
        """A pod waits to start for what was a refresh."""
        self._queue.hurry(ticket)

    # --- what became of a turn ----------------------------------------------------------------

    def answered(self) -> None:
        """The vault gave an answer."""
        self._throttles = 0
        self._breaker.answered()
        self._free()

    def failed(self, turn: Turn, failure: TryFailed) -> None:
        """It gave none, or "later"."""
        now = self.clock.monotonic()
        if failure.is_throttled:
            self._breaker.answered()
            self._pause(turn, failure.retry_after, now)
        elif failure.of_server:
            self._fail(turn, failure.error)
        else:
            self._breaker.answered()
        self._free()

    def raised(self, turn: Turn, error: BaseException) -> None:
        """The request ended in an error that no other try can mend."""
        if isinstance(error, ConnectionFailedError):
            self._fail(turn, error)
            self._free()
        elif isinstance(error, KeyferryError):
            self.answered()
        else:
            self.gone(turn)

    def gone(self, turn: Turn) -> None:
        """Whoever had the turn has left it."""
        if turn.probe:
            self._breaker.given_up()
        self._free()

    # --- for the metrics ----------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether nothing would be lost if it were made anew."""
        quiet = not self._under_way and self._queue.first() is None
        return quiet and not self._breaker.is_open and self.paused_until <= self.clock.monotonic()

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._queue)

    @property
    def budget_left(self) -> float:
        """How many requests may go at once."""
        return self._budget.left(self.clock.monotonic())

    @property
    def is_left_alone(self) -> bool:
        """Whether the vault is left alone because it fails, and somebody wants to ask it."""
        return self._breaker.is_left_alone(self.clock.monotonic())

    async def close(self) -> None:
        """Serve nobody any more."""
        if self._server is not None:
            self._server.cancel()
            await asyncio.wait((self._server,))

    # --- inside -------------------------------------------------------------------------------

    def _admit(self, now: float) -> Turn | Later:
        verdict = self._breaker.verdict(now)
        match verdict:
            case Go():
                if self._under_way >= self.settings.at_once:
                    return Later(None)
                wait = max(self._budget.wait(now), self.paused_until - now)
                if wait > 0:
                    return Later(wait)
                self._breaker.go(verdict)
                self._budget.take(now)
                self._under_way += 1
                return Turn(now, verdict.probe)
            case Hold():
                return Later(None)
            case Refuse(since, probe, last):
                raise unavailable(
                    self.vault, since=self._wall(since), probe=self._wall(probe), last=last
                )
            case _:
                assert_never(verdict)

    async def _serve(self) -> None:
        """Give turns until nobody waits."""
        looked = self.clock.monotonic()
        while (ticket := self._queue.first()) is not None:
            now = self.clock.monotonic()
            if now - looked >= _LOOK_SECONDS:
                looked = now
                self._send_away(now)
            if ticket.who.turn.done():
                ticket.gone = True  # cancelled; it has not come to say so yet
                continue
            if ticket.who.end <= now:
                self._send_away(now)
                continue
            self._changed.clear()
            try:
                found = self._admit(now)
            except KeyferryError as error:
                ticket.gone = True
                ticket.who.turn.set_exception(error)
                continue
            if isinstance(found, Turn):
                ticket.gone = True
                ticket.who.turn.set_result(found)
            elif found.seconds is None:
                await self._changed.wait()
            else:
                await self.clock.sleep(self._bounded(found.seconds, now))
                if found.seconds > _LOOK_SECONDS:
                    self._send_away(self.clock.monotonic())

    def _leave_nobody(self, server: asyncio.Task[None]) -> None:
        """Whoever still waits when nobody serves any more is sent away."""
        if server is not self._server:
            return  # who came since it had nobody left is served by another one
        error = None if server.cancelled() else server.exception()
        for ticket in list(self._queue):
            ticket.gone = True
            if error is None:
                ticket.who.turn.cancel()
            elif not ticket.who.turn.done():
                defect = InternalError(f"the queue of {self.vault} broke down")
                defect.__cause__ = error
                ticket.who.turn.set_exception(defect)

    def _bounded(self, seconds: float, now: float) -> float:
        """The pause until the next turn, or until somebody has no time left."""
        if seconds > _LOOK_SECONDS:
            ends = (ticket.who.end for ticket in self._queue)
            seconds = min(seconds, min(ends, default=now) - now)
        return max(seconds, _SHORTEST_SECONDS)

    def _send_away(self, now: float) -> None:
        """Tell those who have no time left."""
        settings, others = self.settings, len(self._queue) - 1
        for ticket in list(self._queue):
            if ticket.who.end <= now and not ticket.who.turn.done():
                ticket.gone = True
                error = no_turn(self.vault, settings.patience, others=others, rate=settings.rate)
                ticket.who.turn.set_exception(error)

    def _pause(self, turn: Turn, retry_after: float | None, now: float) -> None:
        if turn.sent >= self._throttled:
            self._throttled = now
            self._throttles += 1
        if retry_after is None or retry_after < _AT_ONCE_SECONDS:
            # "Later, at once" would be a request after the other without an end.
            retry_after = self.settings.retry.longest(self._throttles) * self.dice()
        retry_after = min(retry_after, _LONGEST_PAUSE_SECONDS)
        self.paused_until = max(self.paused_until, now + retry_after)
        self._budget.slow_down(sent=turn.sent, now=now, until=self.paused_until)

    def _fail(self, turn: Turn, error: KeyferryError) -> None:
        now, jitter = self.clock.monotonic(), self.dice()
        self._breaker.failed(error, now=now, jitter=jitter, probe=turn.probe)

    def _free(self) -> None:
        self._under_way -= 1
        self._changed.set()

    def _wall(self, moment: float) -> float:
        """`moment` as seconds since 1970."""
        return self.clock.wall().timestamp() + moment - self.clock.monotonic()
