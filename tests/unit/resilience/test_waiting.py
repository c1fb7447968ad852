"""What a mount waits for."""

from __future__ import annotations

import asyncio

from keyferry.errors import Stage
from keyferry.resilience.waiting import Wait, reporting_slow_wait, waiting_for, watching


async def test_the_oldest_request_of_the_block_and_its_tasks_is_current() -> None:
    started, finish = asyncio.Event(), asyncio.Event()

    async def request() -> None:
        with waiting_for(Stage.VAULT, "b"):
            started.set()
            await finish.wait()

    with watching() as monitor:
        assert monitor.current() is None
        with waiting_for(Stage.IDENTITY, "a"):
            task = asyncio.create_task(request())
            await started.wait()
            assert "a token from a" == str(monitor.current())
        assert "b" == str(monitor.current())
        finish.set()
        await task
        assert monitor.current() is None


async def test_a_slow_block_is_reported_once() -> None:
    reports: list[Wait | None] = []
    with reporting_slow_wait(reports.append, 0.0), waiting_for(Stage.VAULT, "contoso") as wait:
        await asyncio.sleep(0.02)
    assert [wait] == reports


async def test_a_fast_block_is_not_reported() -> None:
    reports: list[Wait | None] = []
    with reporting_slow_wait(reports.append, 60.0):
        await asyncio.sleep(0)
    assert [] == reports


async def test_an_outer_watcher_reports_instead() -> None:
    """`keyferry mount` shows progress itself."""
    reports: list[Wait | None] = []
    with (
        watching() as monitor,
        reporting_slow_wait(reports.append, 0.0),
        waiting_for(Stage.VAULT, "contoso"),
    ):
        await asyncio.sleep(0.02)
        assert "contoso" == str(monitor.current())
    assert [] == reports


def test_a_request_outside_of_a_mount_is_not_watched() -> None:
    with waiting_for(Stage.VAULT, "contoso") as wait:
        assert "contoso" == str(wait)
