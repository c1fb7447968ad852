"""keyferry.resilience.transport: retries, deadlines and best-effort calls, in virtual time."""

from __future__ import annotations

import pytest

from keyferry.errors import ConnectionFailedError, ObjectNotFoundError, VaultError
from keyferry.net.retryable import RetryableFailure
from keyferry.resilience.call_context import CallContext
from tests.fakes.resilience import HOST, ScriptedHost, broken, now, scripted_host, throttled
from tests.fakes.virtual_time import virtual_time


def best_effort() -> CallContext:
    return CallContext.new(HOST).best_effort(now())


@virtual_time
async def test_failure_is_retried_with_exponential_backoff_and_jitter() -> None:
    async with scripted_host(broken(), broken(), "fine", jitter=0.5) as host:
        assert "fine" == await host.request()
        assert [0.0, 0.4, 1.2] == pytest.approx(host.sent_at)


@virtual_time
async def test_error_of_the_last_attempt_has_the_number_of_attempts_as_detail() -> None:
    async with scripted_host(broken(), broken(), broken(), broken()) as host:
        with pytest.raises(ConnectionFailedError, match="failed to connect") as caught:
            await host.request()
        assert "4 tries" == caught.value.detail
        assert 4 == len(host.sent_at)


@virtual_time
async def test_permanent_error_is_not_retried() -> None:
    async with scripted_host(ObjectNotFoundError("not found")) as host:
        with pytest.raises(ObjectNotFoundError):
            await host.request()
        assert [0.0] == host.sent_at


def attempts(host: ScriptedHost) -> dict[str, float | None]:
    """Return the number of attempts by outcome."""
    registry = host.fetcher.metrics.registry
    counts = {}
    for outcome in ("answered", "throttled", "failed"):
        labels = {"vault": HOST, "identity": "", "outcome": outcome}
        counts[outcome] = registry.get_sample_value("keyferry_vault_requests_total", labels)
    return counts


@virtual_time
async def test_each_attempt_is_counted_by_its_outcome() -> None:
    error = VaultError("the response is too large")
    async with scripted_host(throttled(), broken(), throttled(1.0), "fine", error) as host:
        await host.request()
        assert {"answered": 1.0, "throttled": 2.0, "failed": 1.0} == attempts(host)
        with pytest.raises(VaultError):
            await host.request()
        assert {"answered": 1.0, "throttled": 2.0, "failed": 2.0} == attempts(host)


# --- best-effort calls ----------------------------------------------------------------------------


@virtual_time
async def test_best_effort_call_makes_two_attempts_and_does_not_open_the_circuit() -> None:
    """The request may be too expensive; this says nothing about the host."""
    async with scripted_host(RetryableFailure(VaultError("busy"))) as host:
        for _ in range(10):
            with pytest.raises(VaultError, match="busy"):
                await host.send(best_effort())
        assert 20 == len(host.sent_at)
        assert (False, True) == (host.limiter.is_circuit_open, host.limiter.is_quiet)


@virtual_time
async def test_best_effort_call_waits_while_the_host_throttles() -> None:
    async with scripted_host(throttled(5.0), throttled(5.0), throttled(5.0), "fine") as host:
        assert "fine" == await host.send(best_effort())
        assert [0.0, 5.0, 10.0, 15.0] == pytest.approx(host.sent_at)


@virtual_time
async def test_best_effort_call_starts_no_request_after_its_deadline() -> None:
    """Each attempt gets 10 seconds, all requests of the call together 20."""
    async with scripted_host(latency=7.0) as host:
        context = best_effort()
        for _ in range(3):
            assert "fine" == await host.send(context)
        with pytest.raises(VaultError, match="took more than 20 s in total"):
            await host.send(context)
        assert [10.0] * 3 == host.time_limits
