"""Background work gives way to calls, but not for ever."""

from __future__ import annotations

import asyncio

from keyferry.aio.foreground import MAX_POSTPONED_SECONDS, PAUSE_SECONDS, Foreground
from tests.fakes.resilience import now
from tests.fakes.virtual_time import virtual_time


@virtual_time
async def test_work_starts_at_once_without_calls() -> None:
    foreground = Foreground()
    assert foreground.is_pausing
    await foreground.wait_for_pause()
    assert 0.0 == now()


@virtual_time
async def test_work_waits_for_the_end_of_all_calls() -> None:
    """And for a pause after them, because a client may make one call after the other."""
    foreground = Foreground()

    async def calls() -> None:
        with foreground.call():
            for _ in range(5):
                with foreground.call():
                    await asyncio.sleep(PAUSE_SECONDS)
                await asyncio.sleep(PAUSE_SECONDS / 2)

    calling = asyncio.create_task(calls())
    await asyncio.sleep(0)
    await foreground.wait_for_pause()
    assert calling.done()
    assert foreground.is_pausing
    ended = 5 * 1.5 * PAUSE_SECONDS
    assert ended + PAUSE_SECONDS <= now() <= ended + 2 * PAUSE_SECONDS + 0.001


@virtual_time
async def test_a_failed_call_has_ended() -> None:
    foreground = Foreground()
    try:
        with foreground.call():
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert not foreground.is_pausing
    await asyncio.sleep(PAUSE_SECONDS)
    assert foreground.is_pausing


@virtual_time
async def test_work_does_not_wait_for_a_call_that_hangs() -> None:
    foreground = Foreground()
    with foreground.call():
        await foreground.wait_for_pause()
        assert not foreground.is_pausing
    assert MAX_POSTPONED_SECONDS <= now() < MAX_POSTPONED_SECONDS + 0.001
