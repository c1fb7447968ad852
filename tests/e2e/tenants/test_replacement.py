"""Child processes of the driver that end or hang."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from tests.e2e.tenants.arena import Arena
from tests.e2e.tenants.processes import unprivileged_children
from tests.e2e.tenants.tls_victim import tls_victim


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("which", [0, 1], ids=["worker", "parser"])
async def test_child_that_ends_or_hangs_is_replaced(
    arena: Arena, which: int, number: signal.Signals
) -> None:
    """Twice in a row, with calls in flight: no publish fails."""
    async with arena.attack(victim=tls_victim(arena)):
        for _ in range(2):
            child = unprivileged_children(arena.driver.child.pid)[which]
            for each in child:
                os.kill(each.pid, number)
            await asyncio.sleep(1.3)
        assert unprivileged_children(arena.driver.child.pid)[0]
