"""The way of requests to one vault: their turns, their tries, their time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar, assert_never

from keyferry.contract import Purpose
from keyferry.retry import GiveUp, TryFailed, Wait, decide

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from keyferry.economy.settings import EconomySettings
    from keyferry.pace import Pace

T = TypeVar("T")


class Gate:
    """One vault, or one token endpoint.

    Args:
        settings: the limits.
        pace: how time passes.
    """

    def __init__(self, settings: EconomySettings, pace: Pace) -> None:
        self._settings = settings
        self._pace = pace
        self._turns = asyncio.Semaphore(settings.at_once)

    async def run(self, attempt: Callable[[float], Awaitable[T | TryFailed]]) -> T:
        """See `Errand.run`."""
        end = self._pace.now() + self._settings.patience
        failures = 0
        while True:
            async with self._turns:
                left = end - self._pace.now()
                outcome = await attempt(max(left, 0.001))
            if not isinstance(outcome, TryFailed):
                return outcome
            failures += 1
            decision = decide(
                self._settings.retry,
                failures=failures,
                left=end - self._pace.now(),
                retry_after=outcome.retry_after,
                jitter=self._pace.jitter(),
            )
            match decision:
                case Wait(seconds):
                    await self._pace.sleep(seconds)
                case GiveUp():
                    if failures > 1:
                        outcome.error.problem += f" ({failures} tries)"
                    raise outcome.error from outcome.cause
                case _:
                    assert_never(decision)


class Errand:
    """What one caller wants of one vault; its requests take their turns through it.

    Args:
        gate: of the vault.
        purpose: why.
    """

    def __init__(self, gate: Gate, purpose: Purpose) -> None:
        self._gate = gate
        self.purpose = purpose

    async def run(self, attempt: Callable[[float], Awaitable[T | TryFailed]]) -> T:
        """Make one request, when its turn comes, as often as it takes.

        Args:
            attempt: makes one try, which may take the seconds given to it.

        Raises:
            KeyferryError: the error of the last try; whatever `attempt` raises passes through at
                once.
        """
        return await self._gate.run(attempt)

    def hurry(self, purpose: Purpose) -> None:
        """Somebody else joined, for `purpose`: a pod that waits to start makes it a first mount."""
        if purpose is Purpose.FIRST:
            self.purpose = purpose
