"""keyferry.resilience.limits.host_limiter: open and half-open circuit breakers, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from keyferry.errors import ConnectionFailedError, Stage, VaultError, VaultUnavailableError
from keyferry.net.retryable import RetryableFailure
from keyferry.resilience.settings import ResilienceSettings
from tests.fakes.resilience import ScriptedHost, broken, now, scripted_host
from tests.fakes.virtual_time import virtual_time


def outage() -> list[RetryableFailure]:
    return [broken() for _ in range(20)]


async def open_circuit(host: ScriptedHost) -> None:
    """Send requests until the circuit breaker opens."""
    with pytest.raises(ConnectionFailedError):
        await host.request()
    with pytest.raises(VaultUnavailableError):
        await host.request()


@virtual_time
async def test_open_circuit_fails_requests_with_a_message_that_does_not_change() -> None:
    async with scripted_host(*outage()) as host:
        await open_circuit(host)
        before = len(host.sent_at)
        with pytest.raises(VaultUnavailableError) as caught:
            await host.request()
        assert before == len(host.sent_at)
        assert "contoso does not respond; its circuit breaker is open" == caught.value.problem
        assert "since 22:13:20 UTC" == caught.value.detail
        assert Stage.CONNECT is caught.value.stage


@virtual_time
async def test_one_probe_is_sent_and_the_other_requests_wait_for_it() -> None:
    async with scripted_host(*outage(), latency=1.0) as host:
        await open_circuit(host)
        host.responses, host.sent_at = ["fine"], []
        await asyncio.sleep(10)
        start = now()
        assert ["fine"] * 20 == await asyncio.gather(*(host.request() for _ in range(20)))
        assert [start] + [start + 1.0] * 19 == host.sent_at


@virtual_time
async def test_waiting_request_becomes_the_probe_when_the_probe_is_canceled() -> None:
    async with scripted_host(*outage(), latency=1.0) as host:
        await open_circuit(host)
        host.responses = ["fine"]
        await asyncio.sleep(10)
        probe = host.start_request()
        await asyncio.sleep(0.1)
        other = host.start_request()
        await asyncio.sleep(0.1)
        probe.cancel()
        assert "fine" == await other


@virtual_time
async def test_probe_that_is_canceled_in_the_queue_is_sent_by_the_next_request() -> None:
    async with scripted_host(*outage(), settings=ResilienceSettings(qps=1.0, burst=1)) as host:
        await open_circuit(host)
        host.responses = ["fine"]
        await asyncio.sleep(10)
        host.limiter.scheduler.acquire("", now())
        probe = host.start_request()
        await asyncio.sleep(0.1)
        assert 1 == host.limiter.queue_depth
        probe.cancel()
        assert "fine" == await host.request()


@virtual_time
async def test_many_failures_at_one_moment_do_not_open_the_circuit() -> None:
    async with scripted_host(*[broken() for _ in range(50)], "fine") as host:
        assert ["fine"] * 50 == await asyncio.gather(*(host.request() for _ in range(50)))


@virtual_time
async def test_failures_of_one_identity_do_not_open_the_circuit_of_a_token_endpoint() -> None:
    """IMDS may not know one identity yet, and still serve the others."""
    failures = [RetryableFailure(VaultError("not yet"), host_fault=False) for _ in range(30)]
    async with scripted_host(*failures) as host:
        for _ in range(4):
            with pytest.raises(VaultError) as caught:
                await host.request()
            assert "4 tries" == caught.value.detail
