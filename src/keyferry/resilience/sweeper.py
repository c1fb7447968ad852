"""Drops held answers that are too old, asked for again or not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyferry.aio.clock import Clock
    from keyferry.resilience.response_cache import ResponseCache

_SWEEP_SECONDS = 1.0
"""What is too old is dropped so much later, at the most."""


class ExpirySweeper:
    """Sweeps when something may be too old, and sleeps while nothing is held.

    Args:
        cache: what is swept.
        clock: how time passes.
    """

    def __init__(self, cache: ResponseCache, clock: Clock) -> None:
        self._cache = cache
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._next_sweep_at = 0.0

    def schedule_sweep(self, latest: float) -> None:
        """Sweeps at `latest` at the latest."""
        if self._task is not None and not self._task.done():
            if self._next_sweep_at <= latest:
                return
            self._task.cancel()
        self._next_sweep_at = latest
        self._task = asyncio.create_task(self._run())

    def sweep(self) -> None:
        """Sweeps now, and again when the next answer is too old."""
        end = self._cache.sweep(self._clock.monotonic())
        if end is not None:
            self.schedule_sweep(end)

    def stop(self) -> None:
        """Sweeps no more."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            await self._clock.sleep(
                max(_SWEEP_SECONDS, self._next_sweep_at - self._clock.monotonic())
            )
            end = self._cache.sweep(self._clock.monotonic())
            if end is None:
                return
            self._next_sweep_at = end
