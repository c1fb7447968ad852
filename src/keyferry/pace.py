"""The clocks, the pause and the dice of a process; a test puts its own in their places."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@dataclass(frozen=True, slots=True)
class Pace:
    """How time passes for whatever waits, tries again or grows old."""

    now: Callable[[], float] = time.monotonic
    """Seconds from an arbitrary start."""
    wall: Callable[[], float] = time.time
    """Seconds since the epoch."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    """Pause for so many seconds."""
    jitter: Callable[[], float] = random.random
    """A random number from 0 to 1."""
