"""keyferry.resilience.limits.host_limiter: rate, concurrency, priorities and cancellation."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyferry.errors import InternalError, ObjectNotFoundError, VaultError, VaultThrottledError
from keyferry.resilience.call_context import KEYFERRY, CallContext, Purpose
from keyferry.resilience.settings import ResilienceSettings
from tests.fakes.resilience import (
    HOST,
    Response,
    ScriptedHost,
    broken,
    now,
    scripted_host,
    throttled,
)
from tests.fakes.virtual_time import run_in_virtual_time, virtual_time

ONE_PER_SECOND = ResilienceSettings(qps=1.0, burst=1)


@virtual_time
async def test_concurrent_requests_are_limited() -> None:
    limits = ResilienceSettings(qps=0.0, max_concurrency=3)
    async with scripted_host(settings=limits, latency=1.0) as host:
        await asyncio.gather(*(host.request() for _ in range(10)))
        assert (3, 4.0) == (host.max_in_flight, now())


@virtual_time
async def test_first_mounts_are_sent_before_refreshes() -> None:
    async with scripted_host(settings=ONE_PER_SECOND) as host:
        order: list[str] = []

        async def request(name: str, purpose: Purpose) -> None:
            await host.request(purpose)
            order.append(name)

        requests = [
            asyncio.create_task(request(f"{purpose.value}{number}", purpose))
            for purpose in (Purpose.REFRESH, Purpose.FIRST)
            for number in range(3)
        ]
        await asyncio.gather(*requests)
        # The first request found an empty queue.
        assert ["refresh0", "first0", "first1", "first2", "refresh1", "refresh2"] == order


@virtual_time
async def test_refreshes_do_not_starve() -> None:
    async with scripted_host(settings=ONE_PER_SECOND) as host:
        await host.request()
        refresh = host.start_request(Purpose.REFRESH)
        first_mounts = []
        while not refresh.done():
            first_mounts.append(host.start_request())
            await asyncio.sleep(0.5)
        assert now() < 45
        for request in first_mounts:
            request.cancel()
        await asyncio.wait(first_mounts)


@virtual_time
async def test_promoted_refresh_is_sent_before_other_refreshes() -> None:
    async with scripted_host(settings=ONE_PER_SECOND) as host:
        await host.request()
        others = [host.start_request(Purpose.REFRESH) for _ in range(5)]
        context = CallContext.new(HOST, Purpose.REFRESH)
        promoted = asyncio.create_task(host.send(context))
        await asyncio.sleep(0.5)
        context.priority.promote()
        await promoted
        assert [False] * 5 == [other.done() for other in others]
        await asyncio.gather(*others)


@virtual_time
async def test_request_without_a_permit_before_its_deadline_names_the_flag() -> None:
    limits = ResilienceSettings(qps=1.0, burst=1, call_timeout=10.0)
    async with scripted_host(settings=limits) as host:
        results = await asyncio.gather(*(host.request() for _ in range(20)), return_exceptions=True)
        errors = [error for error in results if isinstance(error, VaultThrottledError)]
        assert 10 == len(errors)
        assert "a request to contoso waited 10 s for the rate limit" in errors[0].problem
        assert "--vault-qps" in errors[0].remedy
        assert 10.0 <= now() <= 12.0


@virtual_time
async def test_canceled_request_uses_no_token_and_no_slot() -> None:
    limits = ResilienceSettings(qps=1.0, burst=1, max_concurrency=1)
    async with scripted_host(settings=limits) as host:
        first = host.start_request()
        await asyncio.sleep(0)
        waiting = [host.start_request() for _ in range(3)]
        await asyncio.sleep(0.1)
        for request in waiting[:2]:
            request.cancel()
        await asyncio.gather(first, waiting[2])
        assert [0.0, 1.0] == host.sent_at


@virtual_time
async def test_request_that_arrives_when_the_queue_has_just_emptied_gets_a_permit() -> None:
    """The queue is served when the request arrives, not only when a permit is released."""
    async with scripted_host() as host:
        await host.request()
        scheduler, enqueue = (
            host.limiter.scheduler,
            partial(
                host.limiter.scheduler.enqueue,
                KEYFERRY,
                arrived_at=now(),
                deadline=60.0,
                purpose=Purpose.FIRST,
            ),
        )
        await enqueue().item.permit
        entry = enqueue()
        scheduler.release("")
        await entry.item.permit
        scheduler.release("")


@virtual_time
async def test_permit_of_a_request_that_is_canceled_at_once_is_returned() -> None:
    """The permit is given, and the request is canceled before it can use the permit."""
    limits = ResilienceSettings(qps=1.0, burst=1, max_concurrency=1)
    async with scripted_host(settings=limits) as host:
        await host.request()
        scheduler = host.limiter.scheduler
        entry = scheduler.enqueue(KEYFERRY, arrived_at=now(), purpose=Purpose.FIRST, deadline=60.0)
        await asyncio.wait((entry.item.permit,))
        scheduler.cancel(entry)
        start = now()
        assert "fine" == await host.request()
        assert (start, True) == (now(), host.limiter.is_quiet)


@virtual_time
async def test_requests_fail_when_the_scheduler_breaks_down() -> None:
    """They must not wait forever."""
    limits = ResilienceSettings(qps=1.0, burst=1)
    async with scripted_host(settings=limits) as host:
        await host.request()
        waiting = [host.start_request() for _ in range(3)]
        await asyncio.sleep(0.1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(host.limiter._rate, "shared_wait", None)
            results = await asyncio.gather(*waiting, return_exceptions=True)
        assert {InternalError} == {type(result) for result in results}
        await asyncio.sleep(1.0)
        assert "fine" == await host.request()


# --- all cases mixed ------------------------------------------------------------------------------

RESPONSES: dict[str, Response] = {
    "fine": "fine",
    "not found": ObjectNotFoundError("not found"),
    "bug": ValueError("a bug of Keyferry"),
}


def response(name: str) -> Response:
    match name:
        case "broken":
            return broken()
        case "throttled":
            return throttled()
        case "retry after":
            return throttled(3.0)
        case _:
            return RESPONSES[name]


@settings(deadline=None)
@given(
    names=st.lists(
        st.sampled_from([*RESPONSES, "broken", "throttled", "retry after"]),
        min_size=1,
        max_size=30,
    ),
    requests=st.lists(
        st.tuples(st.floats(0, 3), st.sampled_from(Purpose), st.none() | st.floats(0, 20)),
        min_size=1,
        max_size=30,
    ),
    qps=st.sampled_from([0.0, 5.0]),
    max_concurrency=st.integers(1, 4),
)
def test_every_request_ends_in_time_and_returns_its_permit(
    names: list[str],
    requests: list[tuple[float, Purpose, float | None]],
    qps: float,
    max_concurrency: int,
) -> None:
    """With failures, throttling and canceled requests in any order."""
    limits = ResilienceSettings(qps=qps, burst=2, max_concurrency=max_concurrency)

    async def one(host: ScriptedHost, purpose: Purpose, cancel_after: float | None) -> None:
        start = now()
        try:
            await asyncio.wait_for(host.request(purpose), cancel_after)
        except TimeoutError:
            assert cancel_after is not None
        except (VaultError, ValueError):
            pass
        assert now() - start <= limits.call_timeout + 2.0

    async def all_requests() -> None:
        async with scripted_host(*map(response, names), settings=limits, latency=0.25) as host:
            tasks: list[asyncio.Task[None]] = []
            for delay, purpose, cancel_after in requests:
                await asyncio.sleep(delay)
                tasks.append(asyncio.create_task(one(host, purpose, cancel_after)))
            await asyncio.gather(*tasks)
            assert host.max_in_flight <= max_concurrency
            host.responses = ["fine"]
            await asyncio.sleep(120)
            assert "fine" == await host.request()
            assert (0, True) == (host.limiter.queue_depth, host.limiter.is_quiet)

    run_in_virtual_time(all_requests())
