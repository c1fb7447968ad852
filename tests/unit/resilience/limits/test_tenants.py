"""keyferry.resilience.limits.host_limiter: what one tenant does to others, in virtual time."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from keyferry.errors import (
    ConnectionFailedError,
    Stage,
    VaultError,
    VaultThrottledError,
    VaultUnavailableError,
)
from keyferry.net.connection_errors import ConnectionProblem
from keyferry.net.retryable import RetryableFailure
from keyferry.resilience.call_context import CallContext, Caller, Endpoint
from keyferry.resilience.limits import host_limiter, host_limiters
from keyferry.resilience.settings import ResilienceSettings
from tests.fakes.log import captured_log
from tests.fakes.resilience import (
    HOST,
    ScriptedHost,
    broken,
    now,
    scripted_host,
    throttled,
    unavailable,
)
from tests.fakes.virtual_time import virtual_time


async def fail(host: ScriptedHost, tenant: str, times: int = 2) -> None:
    """Send failing requests; two of them open the circuit breaker of a tenant."""
    for _ in range(times):
        with suppress(VaultError):
            await host.request(tenant=tenant)


async def is_rejected(host: ScriptedHost, tenant: str) -> bool:
    """Return whether the circuit breaker rejects a request."""
    before = len(host.sent_at)
    try:
        await host.request(tenant=tenant)
    except VaultUnavailableError:
        return len(host.sent_at) == before
    except VaultError:
        pass
    return False


def bad_certificate() -> ConnectionFailedError:
    return ConnectionProblem(Stage.TLS, "wrong name", "Look.", transient=False).error("read")


# --- circuit breakers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [
        bad_certificate(),
        RetryableFailure(VaultError("status of sys/health"), chosen_by_caller=True),
        RetryableFailure(VaultThrottledError("sys/health"), 30.0, chosen_by_caller=True),
        RetryableFailure(bad_certificate()),
    ],
)
@virtual_time
async def test_failure_that_the_caller_causes_opens_no_circuit_and_pauses_nobody(
    failure: RetryableFailure | ConnectionFailedError,
) -> None:
    """Not even that of the caller."""
    async with scripted_host(failure) as host:
        await fail(host, "evil", times=20)
        assert (0, 0.0) == (host.limiter.open_circuits, host.limiter.backoff_seconds)
        host.responses = ["fine"]
        start = now()
        assert "fine" == await host.request(tenant="shop")
        assert "fine" == await host.request(tenant="evil")
        assert start == now()


@virtual_time
async def test_failures_of_one_tenant_open_only_its_own_circuit() -> None:
    async with scripted_host(unavailable()) as host:
        await fail(host, "evil", times=5)
        assert await is_rejected(host, "evil")
        host.responses = ["fine"]
        start = now()
        assert "fine" == await host.request(tenant="shop")
        assert start == now()
        assert 1 == host.limiter.open_circuits
        assert not host.limiter.is_circuit_open


@virtual_time
async def test_open_circuit_says_what_the_host_did_but_not_to_whom() -> None:
    """The last error may be that of another pod; it is in the log."""
    async with scripted_host(broken()) as host:
        for tenant in ("evil", "shop"):
            error = ConnectionFailedError(f"failed to read secret of {tenant}: it hung up", "Look.")
            error.host_problem = "it hung up"
            host.responses = [RetryableFailure(error)]
            with captured_log() as log:
                await fail(host, tenant)
            assert 1 == log.getvalue().count(
                f'"circuit breaker opened" host="{host.limiter.host}" namespace="{tenant}"'
            )
            assert f"secret of {tenant}" in log.getvalue()
            with pytest.raises(VaultUnavailableError) as caught:
                await host.request(tenant=tenant)
            assert "it hung up; its circuit breaker is open. Look." == str(caught.value)
            await asyncio.sleep(60)
            host.responses = ["fine"]
            with captured_log() as log:
                for _ in range(3):
                    await host.request(tenant=tenant)
            assert 1 == log.getvalue().count(f'circuit breaker closed" host="{host.limiter.host}')


@virtual_time
async def test_outage_of_independent_tenants_opens_the_circuit_of_others_after_one_failure() -> (
    None
):
    """A tenant that has not failed asks for itself, once."""
    async with scripted_host(broken()) as host:
        await fail(host, "a")
        await fail(host, "b")
        assert host.limiter.is_circuit_open
        before = len(host.sent_at)
        with pytest.raises(VaultError):
            await host.request(tenant="c")
        assert await is_rejected(host, "c")
        assert before + 1 == len(host.sent_at)


@virtual_time
async def test_response_for_anybody_ends_the_outage_for_all() -> None:
    async with scripted_host(broken()) as host:
        for tenant in ("a", "b"):
            await fail(host, tenant)
        host.responses = ["fine"]
        start = now()
        for tenant in ("c", "a", "b"):
            assert "fine" == await host.request(tenant=tenant)
        assert start == now()
        assert (0, False) == (host.limiter.open_circuits, host.limiter.is_circuit_open)


@virtual_time
async def test_each_tenant_sends_its_own_probe() -> None:
    """A tenant that asks all the time, with requests that never succeed, takes no other's probe."""
    async with scripted_host(broken()) as host:
        for tenant in ("evil", "shop"):
            await fail(host, tenant)

        async def attack() -> None:
            while True:
                with suppress(VaultError):
                    await host.fetcher.transport.send(
                        hang, CallContext.new(HOST, caller=Caller("evil"))
                    )
                await asyncio.sleep(0.01)

        async def hang(seconds: float) -> RetryableFailure:
            await asyncio.sleep(seconds)
            return broken()

        attacker = asyncio.create_task(attack())
        host.responses = ["fine"]
        await asyncio.sleep(15.0)
        start = now()
        assert "fine" == await host.request(tenant="shop")
        assert start == now()
        attacker.cancel()


@virtual_time
async def test_old_failures_of_another_tenant_do_not_make_an_outage() -> None:
    async with scripted_host(broken()) as host:
        await fail(host, "removed")
        await asyncio.sleep(61.0)
        await fail(host, "evil")
        host.responses = [broken(), "fine"]
        assert "fine" == await host.request(tenant="shop")


@virtual_time
async def test_connections_have_circuits_of_their_own() -> None:
    """With other TLS settings, a tenant may reach another server at the same address."""
    async with scripted_host(broken()) as host:
        await fail(host, "shop")
        own = CallContext.new(HOST, caller=Caller("shop"))
        other = CallContext.new(Endpoint(own.endpoint.authority, 7), caller=Caller("shop"))
        host.responses = ["fine"]
        assert "fine" == await host.send(other)
        assert 1 == len(host.fetcher.limiters())
        assert await is_rejected(host, "shop")


# --- throttling -----------------------------------------------------------------------------------


@virtual_time
async def test_throttling_of_one_tenant_pauses_only_that_tenant() -> None:
    async with scripted_host(throttled(30.0), "fine", settings=ResilienceSettings()) as host:
        evil = host.start_request(tenant="evil")
        await asyncio.sleep(1.0)
        for _ in range(10):
            assert "fine" == await host.request(tenant="shop")
        assert (1.0, 0.0) == (now(), host.limiter.backoff_seconds)
        assert not evil.done()
        assert "fine" == await evil
        assert 30.0 == now()


@virtual_time
async def test_one_tenant_cannot_lower_the_rate_of_others() -> None:
    async with scripted_host(throttled(0.5), settings=ResilienceSettings(qps=10.0)) as host:
        evil = host.start_request(tenant="evil")
        await asyncio.sleep(50.0)
        evil.cancel()
        host.responses, start = ["fine"], now()
        await asyncio.gather(*(host.request(tenant="shop") for _ in range(500)))
        assert start == now()


@virtual_time
async def test_throttling_of_independent_tenants_pauses_all_for_the_shorter_time() -> None:
    async with scripted_host(throttled(500.0), throttled(5.0), "fine") as host:
        with suppress(VaultThrottledError):
            await host.request(tenant="evil")
        shop = host.start_request(tenant="shop")
        await asyncio.sleep(1.0)
        assert "fine" == await host.request(tenant="third")
        assert 5.0 == now()
        assert "fine" == await shop


# --- permits --------------------------------------------------------------------------------------


@virtual_time
async def test_one_request_is_served_soon_beside_thousands_of_another_tenant() -> None:
    limits = ResilienceSettings(qps=100.0, burst=100)
    async with scripted_host(settings=limits, latency=0.02) as host:
        flood = [host.start_request(tenant="evil", identity=str(n % 8)) for n in range(1900)]
        await asyncio.sleep(0.5)
        start = now()
        assert "fine" == await host.request(tenant="shop")
        assert now() - start < 0.1
        for request in flood:
            request.cancel()
        await asyncio.wait(flood)


@virtual_time
async def test_one_tenant_never_has_all_slots() -> None:
    """Even if its requests take long, and it was alone until now."""
    limits = ResilienceSettings(qps=0.0, max_concurrency=8)
    async with scripted_host(settings=limits, latency=15.0) as host:
        flood = [host.start_request(tenant="evil") for _ in range(30)]
        await asyncio.sleep(1.0)
        assert 6 == host.in_flight
        host.latency = 0.1
        assert "fine" == await host.request(tenant="shop")
        assert 1.1 == now()
        await asyncio.gather(*flood)


@virtual_time
async def test_a_mount_of_fifty_objects_waits_for_one_round_trip() -> None:
    """With the default limits, for a tenant that is alone and others that are idle."""
    async with scripted_host(settings=ResilienceSettings(), latency=1.0) as host:
        await asyncio.gather(*[host.start_request(tenant="shop") for _ in range(50)])
    assert 1.0 == now()


@virtual_time
async def test_number_of_waiting_requests_of_a_tenant_is_limited() -> None:
    """For each vault and for all vaults. The error names the namespace and the limit."""
    limits = ResilienceSettings(qps=0.0, max_concurrency=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host_limiter, "MAX_WAITING_PER_TENANT", 5)
        patch.setattr(host_limiter, "MAX_WAITING_PER_TENANT_IN_TOTAL", 8)
        async with scripted_host(settings=limits, latency=1.0) as host:

            def flood(vault: str) -> list[asyncio.Task[str]]:
                context = CallContext.new(vault, caller=Caller("evil"))
                return [asyncio.create_task(host.send(context)) for _ in range(20)]

            first, second = flood("one"), flood("two")
            await asyncio.sleep(0.1)
            assert "fine" == await host.request(tenant="shop")
            results = await asyncio.gather(*first, return_exceptions=True)
            errors = [error for error in results if isinstance(error, VaultThrottledError)]
            assert 20 - 3 - 5 == len(errors)
            assert "too many requests of namespace evil are waiting" in str(errors[0])
            results = await asyncio.gather(*second, return_exceptions=True)
            assert 20 - 3 - 3 == sum(isinstance(r, VaultThrottledError) for r in results)
            assert "fine" == await host.request(tenant="evil")


@virtual_time
async def test_number_of_vaults_of_a_tenant_is_limited() -> None:
    """Vaults that are in use are kept; those of other tenants are never dropped for them."""
    async with scripted_host("fine") as host:

        async def ask(vault: str, tenant: str) -> str:
            return await host.send(CallContext.new(vault, caller=Caller(tenant)))

        await ask("shared", "evil")
        await ask("shared", "shop")
        shared = {limiter.host: limiter for limiter in host.fetcher.limiters()}["shared"]
        for number in range(500):
            await ask(f"evil-{number}", "evil")
        limiters = {limiter.host: limiter for limiter in host.fetcher.limiters()}
        assert host_limiters.MAX_HOSTS_PER_TENANT == len(limiters)
        assert shared is limiters["shared"]
        host.latency = 1.0
        flood = [asyncio.create_task(ask(f"slow-{number}", "evil")) for number in range(100)]
        await asyncio.sleep(0.1)
        assert "fine" == await ask("shop-1", "shop")
        results = await asyncio.gather(*flood, return_exceptions=True)
        errors = [error for error in results if isinstance(error, VaultThrottledError)]
        assert 100 - host_limiters.MAX_HOSTS_PER_TENANT + 1 == len(errors)
        assert "namespace evil use 64 vaults at the same time" in str(errors[0])


@virtual_time
async def test_vault_that_failed_long_ago_is_forgotten() -> None:
    """A namespace may be deleted while the circuit breaker is open, or while it is throttled."""
    async with scripted_host(broken()) as host:
        await fail(host, "removed")
        host.responses = [throttled(30.0)]
        with suppress(VaultError):
            await host.request(tenant="removed too")
        assert not host.limiter.is_unused
        await asyncio.sleep(900.0)
        assert host.limiter.is_unused
