"""`keyferry.status_page.snapshots`: one read for all visitors."""

from __future__ import annotations

import asyncio

import pytest

from keyferry.status_page.snapshots import Snapshot


async def test_concurrent_visitors_share_one_read() -> None:
    """And later ones get what it returned."""
    reads: list[int] = []
    permit = asyncio.Event()

    async def read() -> str:
        reads.append(1)
        await permit.wait()
        return "facts"

    snapshot = Snapshot(read)
    visitors = [asyncio.create_task(snapshot.get()) for _ in range(5)]
    await asyncio.sleep(0)
    permit.set()
    assert ["facts"] * 5 == await asyncio.gather(*visitors)
    assert "facts" == await snapshot.get()
    assert [1] == reads


async def test_result_is_released_after_its_time() -> None:
    """The next visitor reads again."""
    reads: list[int] = []

    async def read() -> int:
        reads.append(1)
        return len(reads)

    snapshot = Snapshot(read, keep_seconds=0)
    assert 1 == await snapshot.get()
    await asyncio.sleep(0.01)  # longer than the result is kept
    assert 2 == await snapshot.get()


async def test_error_is_not_kept() -> None:
    """The next visitor tries again."""
    results: list[object] = [ValueError("no"), "facts"]

    async def read() -> object:
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    snapshot = Snapshot(read)
    with pytest.raises(ValueError, match="no"):
        await snapshot.get()
    assert "facts" == await snapshot.get()


async def test_visitor_who_leaves_does_not_disturb_the_others() -> None:
    """A browser may close its connection at any time."""
    permit = asyncio.Event()

    async def read() -> str:
        await permit.wait()
        return "facts"

    snapshot = Snapshot(read)
    leaving, staying = (asyncio.create_task(snapshot.get()) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.sleep(0)
    permit.set()
    assert "facts" == await staying
