"""Lets background work give way to calls that somebody waits for.

A node that starts its pods gets many calls at once. What nobody waits for, such as the writes of
pod statuses, would delay those that come next, so it is done at the next pause.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PAUSE_SECONDS = 0.02
"""A pause begins after this time without a call in flight. Clients that make one call after the
other need less between two of them."""
MAX_POSTPONED_SECONDS = 1.0
"""The longest time for which work gives way, for example while a call waits for a slow vault."""


class Foreground:
    """The calls in flight that somebody waits for. Used on one event loop."""

    def __init__(self) -> None:
        self._in_flight = 0
        self._ended_at = float("-inf")

    @contextmanager
    def call(self) -> Iterator[None]:
        """Count a call while the block runs."""
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1
            self._ended_at = asyncio.get_running_loop().time()

    @property
    def is_pausing(self) -> bool:
        """Whether background work need not wait."""
        now = asyncio.get_running_loop().time()
        return not self._in_flight and now - self._ended_at >= PAUSE_SECONDS

    async def wait_for_pause(self) -> None:
        """Return when calls pause, or after `MAX_POSTPONED_SECONDS`."""
        loop = asyncio.get_running_loop()
        latest = loop.time() + MAX_POSTPONED_SECONDS
        # Polling costs less than an event that each call would set.
        while not self.is_pausing and (left := latest - loop.time()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(min(PAUSE_SECONDS, left))
