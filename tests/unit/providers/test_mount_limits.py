"""keyferry.providers.mount_limits and file_limit: what one tenant may fetch and hold."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from keyferry.content import FileLimit, SecretFile
from keyferry.errors import Code, MountLimitError
from keyferry.providers.mount_limits import MAX_CONCURRENT_MOUNTS, MountLimits

MIB = 1024 * 1024


async def turns() -> None:
    """Let every task run as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_mounts_of_one_tenant_wait_in_order_and_delay_no_other_tenant() -> None:
    """At most sixteen run at once; the rest run in the order of their calls."""
    limits, release, running = MountLimits(), asyncio.Event(), list[int]()

    async def mount(number: int) -> None:
        async with limits.mounting("evil"):
            running.append(number)
            await release.wait()

    tasks = [asyncio.create_task(mount(number)) for number in range(MAX_CONCURRENT_MOUNTS + 3)]
    await turns()
    assert list(range(MAX_CONCURRENT_MOUNTS)) == running
    async with limits.mounting("victim"):
        assert {"evil", "victim"} == limits.tenants
    tasks[-2].cancel()
    release.set()
    await asyncio.wait(tasks)
    last = MAX_CONCURRENT_MOUNTS + 2
    assert [*range(MAX_CONCURRENT_MOUNTS + 1), last] == running
    assert frozenset() == limits.tenants


async def test_volume_that_is_too_large_ends_while_its_objects_are_fetched() -> None:
    """The error names the flag, the sum and the limit."""
    async with MountLimits(MIB).mounting("shop") as budget:
        for _ in range(5):
            budget.keep(object(), content_bytes=MIB, memory_bytes=MIB)
        with pytest.raises(MountLimitError, match=f"so far have {6 * MIB} bytes") as caught:
            budget.keep(object(), content_bytes=MIB, memory_bytes=MIB)
    assert f"--max-call-recv-msg-size limits a volume to {MIB} bytes" in str(caught.value)
    assert "maxCallRecvMsgSize" in caught.value.remedy
    assert Code.RESOURCE_EXHAUSTED == caught.value.code


async def test_tenant_holds_a_bounded_number_of_bytes_in_all_its_mounts() -> None:
    """What a mount received is released when it ends; other tenants have their own bytes."""
    limits = MountLimits(MIB)
    async with AsyncExitStack() as stack:
        budgets = [await stack.enter_async_context(limits.mounting("evil")) for _ in range(4)]
        for budget in budgets:
            budget.keep(object(), content_bytes=0, memory_bytes=5 * MIB)
        with pytest.raises(MountLimitError, match="namespace 'evil' hold more than"):
            budgets[0].keep(object(), content_bytes=0, memory_bytes=1)
        async with limits.mounting("victim") as budget:
            budget.keep(object(), content_bytes=0, memory_bytes=20 * MIB)
        budgets[1].close()
        budgets[2].keep(object(), content_bytes=0, memory_bytes=5 * MIB)


async def test_responses_count_while_they_arrive() -> None:
    """Also of responses that are never complete; afterwards they no longer count."""
    limits = MountLimits(MIB)
    async with limits.mounting("evil") as budget:
        for _ in range(10):
            with budget.receiving() as count:
                count(15 * MIB)
        with budget.receiving() as first, budget.receiving() as second:
            first(15 * MIB)
            with pytest.raises(MountLimitError):
                second(6 * MIB)
        budget.keep(object(), content_bytes=0, memory_bytes=20 * MIB)


async def test_request_that_another_mount_spoils_is_repeated() -> None:
    """Mounts of one identity share requests; the limits of one are not those of the other."""
    limits = MountLimits(MIB)
    calls = 0

    async def spoiled_twice() -> str:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise MountLimitError("of another mount")
        return "content"

    async with limits.mounting("shop") as budget:
        assert "content" == await budget.fetch(spoiled_twice)
        with pytest.raises(MountLimitError):
            budget.keep(object(), content_bytes=9 * MIB, memory_bytes=0)
        calls = 0
        with pytest.raises(MountLimitError, match="of another mount"):
            await budget.fetch(spoiled_twice)
        assert 1 == calls


async def test_response_that_mounts_share_counts_once_for_their_tenant() -> None:
    """As replicas of one Deployment do; each of them counts it for its own volume."""
    limits, shared = MountLimits(MIB), object()
    async with AsyncExitStack() as stack:
        budgets = [await stack.enter_async_context(limits.mounting("shop")) for _ in range(4)]
        for budget in budgets * 2:
            budget.keep(shared, content_bytes=MIB, memory_bytes=15 * MIB)
        budgets[0].close()
        with pytest.raises(MountLimitError, match="hold more than"):
            budgets[1].keep(object(), content_bytes=0, memory_bytes=6 * MIB)
    async with limits.mounting("shop") as budget:
        budget.keep(object(), content_bytes=0, memory_bytes=20 * MIB)


async def test_request_is_not_repeated_when_the_tenant_holds_much() -> None:
    """It would fail again, and take more memory meanwhile."""
    limits, calls = MountLimits(MIB), 0

    async def spoiled() -> None:
        nonlocal calls
        calls += 1
        raise MountLimitError("of another mount")

    async with limits.mounting("shop") as large, limits.mounting("shop") as budget:
        large.keep(object(), content_bytes=0, memory_bytes=15 * MIB)
        with pytest.raises(MountLimitError):
            await budget.fetch(spoiled)
    assert 1 == calls


def test_files_are_counted_with_their_paths() -> None:
    """Exactly the limit passes; the file that exceeds it is named by its position."""
    limit = FileLimit(10)
    file = SecretFile("ab", 0o644, b"xyz")
    assert limit.add(file) is file
    limit.add(file)
    with pytest.raises(MountLimitError, match="its first 3 files have 11 bytes"):
        limit.add(SecretFile("a", 0o644, b""))
