"""keyferry.resilience.limits.host_limiter: backoff from a host that throttles, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from keyferry.errors import VaultThrottledError
from keyferry.resilience.settings import ResilienceSettings
from tests.fakes.resilience import now, scripted_host, throttled
from tests.fakes.virtual_time import virtual_time


@virtual_time
async def test_retry_after_holds_for_all_requests() -> None:
    """Then one request is sent at once, and the others at half the rate, which grows."""
    async with scripted_host(throttled(7.0), "fine", settings=ResilienceSettings(qps=10.0)) as host:
        first = host.start_request()
        await asyncio.sleep(1)
        others = [host.start_request() for _ in range(4)]
        await asyncio.gather(first, *others)
        assert [0.0, 7.0] == pytest.approx(host.sent_at[:2])
        assert all(7.0 < sent_at < 7.9 for sent_at in host.sent_at[2:])
        assert 6 == len(host.sent_at)


@virtual_time
async def test_backoff_without_retry_after_is_exponential() -> None:
    """A Retry-After of zero is ignored."""
    async with scripted_host(throttled(), throttled(0.0), throttled(), "fine") as host:
        await host.request()
        assert [0.0, 0.8, 2.4, 5.6] == pytest.approx(host.sent_at)


@virtual_time
async def test_backoff_without_retry_after_has_full_jitter() -> None:
    async with scripted_host(throttled(), throttled(), "fine", jitter=0.5) as host:
        await host.request()
        assert [0.0, 0.4, 1.2] == pytest.approx(host.sent_at)


@virtual_time
async def test_requests_in_flight_together_lengthen_the_backoff_once() -> None:
    async with scripted_host(*[throttled()] * 10, "fine", latency=1.0) as host:
        await asyncio.gather(*(host.request() for _ in range(10)))
        assert [0.0] * 10 == host.sent_at[:10]
        assert 1.0 + 0.8 == pytest.approx(host.sent_at[10])


@virtual_time
async def test_throttled_request_is_retried_until_its_deadline() -> None:
    """Throttling is not a failure, so the number of attempts is not limited."""
    async with scripted_host(*[throttled(5.0)] * 9, "fine") as host:
        await host.request()
        assert 10 == len(host.sent_at)


@virtual_time
async def test_backoff_beyond_the_deadline_fails_all_requests_at_once() -> None:
    async with scripted_host(throttled(300.0), "fine") as host:
        with pytest.raises(VaultThrottledError, match="failed to read: throttles"):
            await host.request()
        with pytest.raises(VaultThrottledError, match=r"throttles \(429 Too Many Requests\)\."):
            await host.request()
        assert (0.0, [0.0]) == (now(), host.sent_at)
        await asyncio.sleep(250)
        assert "fine" == await host.request()
        assert [0.0, 300.0] == host.sent_at


@pytest.mark.parametrize("seconds", [601.0, 86_400.0, 999_999_999_999.0])
@virtual_time
async def test_retry_after_is_limited_to_ten_minutes(seconds: float) -> None:
    """A longer one may be a mistake of a proxy."""
    async with scripted_host(throttled(seconds), throttled(seconds), "fine") as host:
        for _ in range(2):
            with pytest.raises(VaultThrottledError, match="failed to read: throttles"):
                await host.request()
            with pytest.raises(VaultThrottledError, match="throttles"):
                await host.request()
            await asyncio.sleep(590)
        assert "fine" == await host.request()
        assert [0.0, 600.0] == pytest.approx(host.sent_at[:2], abs=11)
        assert 3 == len(host.sent_at)
