"""The clock: injected wherever code reads or waits for time, so that tests control it."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Reads the time, and waits."""

    def monotonic(self) -> float:
        """Return the seconds since an arbitrary start; never decreases."""

    def wall(self) -> datetime:
        """Return the current date and time, with a time zone."""

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds`."""


class SystemClock:
    """Implements `Clock` with the clocks of the machine."""

    # Read several times per request, so without a Python frame of its own.
    monotonic = staticmethod(time.monotonic)

    def wall(self) -> datetime:
        """Return the current date and time in UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds`."""
        await asyncio.sleep(seconds)
