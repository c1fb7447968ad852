"""Drops held answers that are too old, asked for again or not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyferry.clocks import Clock
    from keyferry.economy.held import HeldAnswers

_SWEEP_SECONDS = 1.0
"""What is too old is dropped so much later, at the most."""


class Sweeper:
    """Sweeps when something may be too old, and sleeps while nothing is held.

    Args:
        held: what is swept.
        clock: how time passes.
    """

    def __init__(self, held: HeldAnswers, clock: Clock) -> None:
        self._held = held
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._due = 0.0

    def sweep_by(self, moment: float) -> None:
        """Sweeps at `moment` at the latest."""
        if self._task is not None and not self._task.done():
            if self._due <= moment:
                return
            self._task.cancel()
        self._due = moment
        self._task = asyncio.create_task(self._run())

    def sweep(self) -> None:
        """Sweeps now, and again when the next answer is too old."""
        end = self._held.sweep(self._clock.monotonic())
        if end is not None:
            self.sweep_by(end)

    def stop(self) -> None:
        """Sweeps no more."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            await self._clock.sleep(max(_SWEEP_SECONDS, self._due - self._clock.monotonic()))
            end = self._held.sweep(self._clock.monotonic())
            if end is None:
                return
            self._due = end
