"""keyferry.resilience.metrics: the state on a scrape, bounded labels, no identities."""

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
from tests.fakes.resilience import HOST
from tests.fakes.virtual_time import LoopClock, max_jitter, virtual_time

LIMITS = ResilienceSettings(
    qps=10.0, burst=5, refresh_interval=60.0, tracks_volumes=True, call_timeout=100.0
)


def sample(metrics: ResilienceMetrics, name: str, **labels: str) -> float | None:
    """Return the value of one series."""
    return metrics.registry.get_sample_value(name, labels)


@virtual_time
async def test_scrape_reports_requests_and_the_state_of_the_fetcher() -> None:
    metrics = ResilienceMetrics()
    fetcher = Fetcher(LIMITS, LoopClock(), metrics, max_jitter)
    key = CacheKey(HOST, IdentityKey("WorkloadIdentity", ("canary",)), ("read", "db"))

    async def succeed(seconds: float) -> str:
        return "canary"

    async def throttle(seconds: float) -> str | RetryableFailure:
        return RetryableFailure(VaultThrottledError("throttles"), 30.0)

    async def load(context: CallContext) -> str:
        return await fetcher.transport.send(succeed, context)

    for _ in range(2):
        await fetcher.fetch(key, load, size_of=len, volume="pod")
    labels = {"vault": HOST, "identity": "WorkloadIdentity"}
    assert 1.0 == sample(metrics, "keyferry_vault_requests_total", outcome="answered", **labels)
    assert 1.0 == sample(metrics, "keyferry_object_requests_total", result="hit", **labels)
    assert 4.0 == sample(metrics, "keyferry_vault_rate_limit_tokens", vault=HOST)
    assert 6.0 == sample(metrics, "keyferry_cache_bytes")
    assert LIMITS.cache_max_bytes == sample(metrics, "keyferry_cache_max_bytes")
    assert 0.0 == sample(metrics, "keyferry_cache_evictions_total")
    await asyncio.sleep(7.0)
    assert 7.0 == sample(metrics, "keyferry_oldest_content_age_seconds")

    waiting = [
        asyncio.create_task(fetcher.transport.send(throttle, CallContext.new(HOST)))
        for _ in range(3)
    ]
    await asyncio.sleep(10.0)
    assert 3.0 == sample(metrics, "keyferry_vault_queue_depth", vault=HOST)
    assert 20.0 == sample(metrics, "keyferry_vault_backoff_seconds", vault=HOST)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    await fetcher.close()
    assert b"canary" not in generate_latest(metrics.registry)


@virtual_time
async def test_wait_of_the_oldest_queued_request_is_reported() -> None:
    """It shows that permits starve before requests reach their deadline."""
    metrics = ResilienceMetrics()
    limits = ResilienceSettings(qps=0.0, max_concurrency=1)
    fetcher = Fetcher(limits, LoopClock(), metrics, max_jitter)

    async def answer(seconds: float) -> str:
        await asyncio.sleep(20.0)
        return "x"

    def request() -> asyncio.Task[str]:
        return asyncio.create_task(fetcher.transport.send(answer, CallContext.new(HOST)))

    requests = [request()]
    await asyncio.sleep(1.0)
    assert 0.0 == sample(metrics, "keyferry_vault_queue_wait_seconds", vault=HOST)
    requests.append(request())
    await asyncio.sleep(5.0)
    requests.append(request())
    await asyncio.sleep(2.0)
    assert 7.0 == sample(metrics, "keyferry_vault_queue_wait_seconds", vault=HOST)
    await asyncio.gather(*requests)
    assert 0.0 == sample(metrics, "keyferry_vault_queue_wait_seconds", vault=HOST)
    await fetcher.close()


@virtual_time
async def test_open_circuit_breaker_is_reported_until_five_minutes_after_the_last_request() -> None:
    metrics = ResilienceMetrics()
    fetcher = Fetcher(LIMITS, LoopClock(), metrics, max_jitter)

    async def fail(seconds: float) -> str | RetryableFailure:
        return RetryableFailure(ConnectionFailedError("failed to connect"))

    requests = [fetcher.transport.send(fail, CallContext.new(HOST)) for _ in range(2)]
    await asyncio.gather(*requests, return_exceptions=True)
    assert 1.0 == sample(metrics, "keyferry_vault_circuit_breaker_open", vault=HOST)
    await asyncio.sleep(300.0)
    assert 1.0 == sample(metrics, "keyferry_vault_circuit_breaker_open", vault=HOST)
    await asyncio.sleep(10.0)
    assert 0.0 == sample(metrics, "keyferry_vault_circuit_breaker_open", vault=HOST)
    await fetcher.close()


def test_further_vaults_share_one_series() -> None:
    """SecretProviderClasses can name any number of vaults."""
    metrics = ResilienceMetrics(CollectorRegistry())
    for number in range(MAX_VAULT_SERIES + 50):
        metrics.count_object_request(f"vault-{number}", "Mode", "miss")
    labels = {"identity": "Mode", "result": "miss"}
    assert 50.0 == sample(metrics, "keyferry_object_requests_total", vault="other", **labels)
    assert 1.0 == sample(metrics, "keyferry_object_requests_total", vault="vault-99", **labels)


def test_one_tenant_cannot_use_up_the_series() -> None:
    metrics = ResilienceMetrics(CollectorRegistry())
    for number in range(MAX_VAULT_SERIES + 50):
        metrics.count_request(f"evil-{number}", "Mode", "answered", tenant="evil")
    metrics.count_request("shop", "Mode", "answered", tenant="shop")
    labels = {"identity": "Mode", "outcome": "answered"}
    name = "keyferry_vault_requests_total"
    assert 1.0 == sample(metrics, name, vault="shop", **labels)
    assert 130.0 == sample(metrics, name, vault="other", **labels)
