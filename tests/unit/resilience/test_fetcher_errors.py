"""keyferry.resilience.fetcher: the negative cache, and stale content during an outage."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from unittest.mock import Mock

import pytest
from aiohttp import ClientConnectorCertificateError

from keyferry.errors import (
    AccessDeniedError,
    ConnectionFailedError,
    IdentityError,
    InternalError,
    KeyferryError,
    ObjectNotFoundError,
    ObjectUnusableError,
    VaultError,
    VaultUnavailableError,
)
from keyferry.net.connection_errors import connection_problem
from keyferry.net.retryable import RetryableFailure
from keyferry.records import replace
from keyferry.resilience.call_context import Caller, Purpose
from tests.fakes.resilience import (
    ROTATING,
    broken,
    now,
    number_vault,
    object_key,
    throttled,
    unavailable,
)
from tests.fakes.virtual_time import virtual_time

R = Purpose.REFRESH
SHOP = Caller("shop")

# --- negative cache -------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ObjectNotFoundError("not found"), AccessDeniedError("denied")])
@virtual_time
async def test_refusal_is_cached_for_five_seconds(error: KeyferryError) -> None:
    """Each caller gets its own copy of the error."""
    async with number_vault() as vault:
        vault.error = error
        raised = []
        for _ in range(3):
            with pytest.raises(type(error)) as caught:
                await vault.get()
            raised.append(caught.value)
        assert (1, 2.0) == (vault.reads, vault.served("negative_hit"))
        assert 3 == len({id(one) for one in raised})
        vault.error = None
        await asyncio.sleep(5.0)
        assert 1 == await vault.get()


@virtual_time
async def test_refusal_is_cached_for_one_identity_only() -> None:
    async with number_vault() as vault:
        vault.error = AccessDeniedError("denied")
        with pytest.raises(AccessDeniedError):
            await vault.get(identity="a")
        vault.error = None
        assert 1 == await vault.get(identity="b")


@virtual_time
async def test_negative_cache_is_bounded() -> None:
    """SecretProviderClasses can name any number of objects; the oldest entries are evicted."""
    async with number_vault() as vault:
        vault.error = ObjectNotFoundError("not found")
        for number in range(5000):
            with pytest.raises(ObjectNotFoundError):
                await vault.get(identity=str(number))
        with pytest.raises(ObjectNotFoundError):
            await vault.get(identity="4999")
        assert 5000 == vault.reads
        with pytest.raises(ObjectNotFoundError):
            await vault.get(identity="0")
        assert 5001 == vault.reads


@virtual_time
async def test_other_failures_are_not_cached() -> None:
    async with number_vault() as vault:
        vault.error = VaultError("failed with status 503")
        for _ in range(2):
            with pytest.raises(VaultError):
                await vault.get()
        assert 2 == vault.reads


@virtual_time
async def test_denied_request_drops_cached_content() -> None:
    async with number_vault() as vault:
        await vault.get()
        vault.error = AccessDeniedError("denied")
        with pytest.raises(AccessDeniedError):
            await vault.get(max_age=0.0)
        with pytest.raises(AccessDeniedError):
            await vault.get()
        assert 0 == vault.fetcher.cache_bytes


# --- stale content during an outage ---------------------------------------------------------------


@pytest.mark.parametrize("failure", [unavailable(), broken()])
@virtual_time
async def test_starting_pod_gets_stale_content_during_an_outage(failure: RetryableFailure) -> None:
    """Only content that running pods of the same identity use; a refresh fails."""
    async with number_vault() as vault:
        await vault.get(volume="running")
        await asyncio.sleep(100.0)
        vault.failure = failure
        stale = await vault.fetch(volume="starting")
        assert (1, 100.0, "stale") == (stale.value, stale.age, stale.result)
        assert (5, 1.0) == (vault.reads, vault.served("stale"))
        vault.fetcher.release("running")
        assert (vault.fetcher.oldest_content_age or 0.0) > 100.0
        with pytest.raises(VaultError):
            await vault.get(identity="b")
        await asyncio.sleep(21.0)
        with pytest.raises(VaultError):
            await vault.get(R, volume="starting")
        assert 1 == await vault.get(volume="starting")
        await asyncio.sleep(120.0)
        with pytest.raises(VaultError):
            await vault.get(volume="late")


@pytest.mark.parametrize(
    "failure",
    [
        RetryableFailure(VaultError("status 503 of sys/health"), chosen_by_caller=True),
        RetryableFailure(VaultError("status 500 of a broken backend"), host_fault=False),
        throttled(90.0),
    ],
)
@virtual_time
async def test_starting_pod_gets_no_stale_content_for_failures_that_it_can_cause(
    failure: RetryableFailure,
) -> None:
    async with number_vault() as vault:
        await vault.get()
        await asyncio.sleep(100.0)
        vault.failure = failure
        with pytest.raises(VaultError):
            await vault.get()


@virtual_time
async def test_wrong_certificate_is_no_outage() -> None:
    """The server may be an impostor."""
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = 20
    key = Mock(host="vault", port=443, ssl=True)
    problem = connection_problem(ClientConnectorCertificateError(key, error), host="vault")
    async with number_vault() as vault:
        await vault.get()
        await asyncio.sleep(100.0)
        vault.error = problem.error("read")
        for _ in range(20):
            with pytest.raises(ConnectionFailedError, match="certificate"):
                await vault.get()
            await asyncio.sleep(1.0)


@virtual_time
async def test_vault_is_asked_although_the_tenant_has_opened_its_circuit_breaker() -> None:
    """Otherwise a revoked identity could keep its content by failing on purpose."""
    async with number_vault() as vault:
        await vault.get(caller=SHOP)
        await asyncio.sleep(100.0)
        vault.failure = broken()
        for _ in range(3):
            assert 1 == await vault.get(caller=SHOP)
        assert 1 == vault.fetcher.limiters()[0].open_circuits
        vault.failure, vault.error = None, AccessDeniedError("revoked")
        with pytest.raises(AccessDeniedError):
            await vault.get(caller=SHOP)


@virtual_time
async def test_vault_that_answers_anybody_is_no_outage() -> None:
    async with number_vault() as vault:
        await vault.get(caller=SHOP)
        await asyncio.sleep(100.0)
        vault.failure = broken()
        request = asyncio.create_task(vault.get(caller=SHOP))
        await asyncio.sleep(1.0)
        vault.failure = None
        await vault.get(caller=Caller("other"), identity="b")
        vault.failure = broken()
        with pytest.raises(ConnectionFailedError):
            await request


@virtual_time
async def test_stale_content_is_used_at_once_when_independent_tenants_fail() -> None:
    async with number_vault() as vault:
        await vault.get(caller=SHOP)
        await asyncio.sleep(100.0)
        vault.failure = broken()
        for tenant in ("a", "b", "shop"):
            for _ in range(2):
                with suppress(VaultError):
                    await vault.get(caller=Caller(tenant), identity=tenant)
        reads = vault.reads
        assert 1 == await vault.get(caller=SHOP)
        assert reads == vault.reads


@virtual_time
async def test_tenants_do_not_join_calls_of_each_other() -> None:
    """Two tenants may share an identity, but not the turn in the queue or the circuit breaker."""
    async with number_vault() as vault:
        vault.failure = broken()
        for _ in range(2):
            with pytest.raises(VaultError):
                await vault.get(caller=Caller("evil"))
        vault.failure, vault.latency = None, 1.0
        rejected = asyncio.create_task(vault.get(caller=Caller("evil")))
        accepted = asyncio.create_task(vault.get(caller=SHOP))
        assert 1 == await accepted
        with pytest.raises(VaultUnavailableError):
            await rejected


@virtual_time
async def test_tenant_does_not_wait_in_the_queue_of_another_one() -> None:
    limits = replace(ROTATING, max_concurrency=4)
    async with number_vault(limits) as vault:
        vault.latency = 10.0
        flood = [
            asyncio.create_task(vault.get(caller=Caller("evil"), identity=str(number)))
            for number in range(50)
        ]
        await asyncio.sleep(1.0)
        vault.latency = 0.1
        assert 1 == await vault.get(caller=SHOP, identity="49")
        assert 1.1 == now()
        for request in flood:
            request.cancel()
        await asyncio.wait(flood)


@pytest.mark.parametrize(
    "error",
    [
        IdentityError("no token"),
        AccessDeniedError("denied"),
        ObjectNotFoundError("not found"),
        ObjectUnusableError("not usable"),
        InternalError("internal error"),
    ],
)
@virtual_time
async def test_starting_pod_gets_no_stale_content_after_a_refusal(error: KeyferryError) -> None:
    async with number_vault() as vault:
        await vault.get()
        await asyncio.sleep(100.0)
        vault.error = error
        with pytest.raises(type(error)):
            await vault.get()


@virtual_time
async def test_zero_cache_ttl_disables_stale_content() -> None:
    async with number_vault(replace(ROTATING, cache_ttl=0.0)) as vault:
        await vault.get()
        vault.failure = unavailable()
        with pytest.raises(VaultError):
            await vault.get()


@virtual_time
async def test_content_that_was_only_revalidated_for_an_hour_is_not_served_stale() -> None:
    async with number_vault() as vault:
        await vault.get()
        for _ in range(30):
            await asyncio.sleep(120.0)
            vault.fetcher.mark_validated([object_key()], validated_at=vault.fetcher.now())
        await asyncio.sleep(20.0)
        vault.failure = unavailable()
        with pytest.raises(VaultError):
            await vault.get()
