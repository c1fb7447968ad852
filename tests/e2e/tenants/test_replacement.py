"""Child processes of the driver that end or hang."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Set
from contextlib import suppress

import pytest

from tests.e2e.children import PATIENCE_SECONDS
from tests.e2e.tenants.arena import Arena
from tests.e2e.tenants.processes import unprivileged_children
from tests.e2e.tenants.tls_victim import tls_victim


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("which", [0, 1], ids=["worker", "parser"])
async def test_child_that_ends_or_hangs_is_replaced(
    arena: Arena, which: int, number: signal.Signals
) -> None:
    """Twice in a row, with calls in flight: no publish fails."""
    async with arena.attack(victim=tls_victim(arena)) as record:
        for _ in range(2):
            async with asyncio.timeout(PATIENCE_SECONDS):
                children = await _new_children(arena, which, frozenset())
                for pid in children:
                    with suppress(ProcessLookupError):
                        os.kill(pid, number)
                await _new_children(arena, which, children)
                served = len(record.waits) + 2
                while len(record.waits) < served:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)


async def _new_children(arena: Arena, which: int, known: Set[int]) -> Set[int]:
    """Wait for children that are not `known`; return their IDs."""
    while True:
        children = unprivileged_children(arena.driver.child.pid)[which]
        if new := {child.pid for child in children} - known:
            return new
        await asyncio.sleep(0.05)
