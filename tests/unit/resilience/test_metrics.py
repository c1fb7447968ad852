"""keyferry.resilience.metrics: what is shown, and that it neither grows nor names anybody."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry, generate_latest

from keyferry.errors import ConnectionFailedError, VaultThrottledError
from keyferry.net.retryable import RetryableFailure
from keyferry.resilience.cache_key import CacheKey, IdentityKey
from keyferry.resilience.call_context import CallContext
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.metrics import MAX_VAULT_SERIES, ResilienceMetrics
from keyferry.resilience.settings import ResilienceSettings
from tests.fakes.virtual_time import LoopClock, max_jitter, run_in_virtual_time

LIMITS = ResilienceSettings(
    qps=10.0, burst=5, refresh_interval=60.0, tracks_volumes=True, call_timeout=100.0
)


def shown(metrics: ResilienceMetrics, name: str, **labels: str) -> float | None:
    """The value of one series."""
    return metrics.registry.get_sample_value(name, labels)


def test_how_things_stand_is_read_when_somebody_looks() -> None:
    """Those who wait, the budget, a pause, the bytes held, the age of the oldest content."""

    async def story() -> None:
        metrics = ResilienceMetrics()
        economy = Fetcher(LIMITS, LoopClock(), metrics, max_jitter)
        key = CacheKey("contoso", IdentityKey("WorkloadIdentity", ("canary",)), ("read", "db"))

        async def call(context: CallContext) -> str:
            async def attempt(seconds: float) -> str:
                return "canary"

            return await economy.transport.send(attempt, context)

        for _ in range(2):
            await economy.fetch(key, call, size_of=len, volume="pod")
        assert (1.0, 1.0) == (
            shown(
                metrics,
                "keyferry_vault_requests_total",
                vault="contoso",
                identity="WorkloadIdentity",
                outcome="answered",
            ),
            shown(
                metrics,
                "keyferry_object_requests_total",
                vault="contoso",
                identity="WorkloadIdentity",
                result="hit",
            ),
        )
        assert 4.0 == shown(metrics, "keyferry_vault_rate_limit_tokens", vault="contoso")
        assert 6.0 == shown(metrics, "keyferry_cache_bytes")
        await asyncio.sleep(7.0)
        assert 7.0 == shown(metrics, "keyferry_oldest_content_age_seconds")

        async def throttled(seconds: float) -> str | RetryableFailure:
            return RetryableFailure(VaultThrottledError("later"), 30.0)

        waiting = [
            asyncio.create_task(economy.transport.send(throttled, CallContext.new("contoso")))
            for _ in range(3)
        ]
        await asyncio.sleep(10.0)
        assert 3.0 == shown(metrics, "keyferry_vault_queue_depth", vault="contoso")
        assert 20.0 == shown(metrics, "keyferry_vault_backoff_seconds", vault="contoso")
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        await economy.close()
        assert b"canary" not in generate_latest(metrics.registry)

    run_in_virtual_time(story())


def test_a_vault_that_is_left_alone_is_shown() -> None:
    """For an alert; which ends some minutes after the last who wanted something of it."""

    async def story() -> None:
        metrics = ResilienceMetrics()
        economy = Fetcher(LIMITS, LoopClock(), metrics, max_jitter)

        async def broken(seconds: float) -> str | RetryableFailure:
            return RetryableFailure(ConnectionFailedError("failed to connect"))

        asks = [economy.transport.send(broken, CallContext.new("contoso")) for _ in range(2)]
        await asyncio.gather(*asks, return_exceptions=True)
        assert 1.0 == shown(metrics, "keyferry_vault_circuit_breaker_open", vault="contoso")
        await asyncio.sleep(300.0)
        assert 1.0 == shown(metrics, "keyferry_vault_circuit_breaker_open", vault="contoso")
        await asyncio.sleep(10.0)
        assert 0.0 == shown(metrics, "keyferry_vault_circuit_breaker_open", vault="contoso")
        await economy.close()

    run_in_virtual_time(story())


def test_classes_can_name_any_number_of_vaults() -> None:
    """The series of all beyond a hundred are one."""
    metrics = ResilienceMetrics(CollectorRegistry())
    for number in range(MAX_VAULT_SERIES + 50):
        metrics.count_object_request(f"vault-{number}", "Mode", "miss")
    labels = {"identity": "Mode", "result": "miss"}
    assert 50.0 == shown(metrics, "keyferry_object_requests_total", vault="other", **labels)
    assert 1.0 == shown(metrics, "keyferry_object_requests_total", vault="vault-99", **labels)
