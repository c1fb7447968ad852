"""Tokens of keyferry.providers.azure: who shares one, and when another is asked for."""

from __future__ import annotations

import asyncio

from keyferry.net.http_client import HttpsClient
from keyferry.providers.api import MountResult
from keyferry.providers.azure.auth.identity import ServicePrincipal, VmManagedIdentity
from keyferry.providers.azure.auth.token_cache import AccessTokenRequest, TokenCache
from keyferry.providers.azure.clouds import CLOUDS
from keyferry.providers.azure.provider import AzureProvider
from keyferry.providers.known_fields.attributes import SERVICE_ACCOUNT
from keyferry_devvault.http_types import RequestKind
from tests.fakes.azure_mounts import call, entry, mount_error
from tests.fakes.devvault import DEFAULT_TENANT, DevVault, RespondStatus
from tests.fakes.resilience import uncached_fetcher
from tests.integration.azure.calls import (
    APP,
    CLIENT_SECRET,
    MI,
    PRINCIPAL,
    STRANGER,
    VAULT,
    workload,
)


async def test_concurrent_mounts_of_one_identity_share_a_token_request(
    vault: DevVault, provider: AzureProvider
) -> None:
    """Later mounts use the cached token."""
    await asyncio.gather(*(provider.mount(call({}, secrets=PRINCIPAL)) for _ in range(20)))
    await provider.mount(call({}, secrets=PRINCIPAL))
    assert vault.count(RequestKind.TOKEN) == 1


async def test_pods_of_one_service_account_share_one_token(
    vault: DevVault, provider: AzureProvider
) -> None:
    """Each pod has a service-account token of its own."""
    for lifetime in (3600, 3700, 3800):
        await provider.mount(call(workload(vault, lifetime=lifetime)))
    assert vault.count(RequestKind.TOKEN) == 1


async def test_pods_of_two_service_accounts_never_share_a_token(
    vault: DevVault, provider: AzureProvider
) -> None:
    """The second is refused although a token of the same client is cached."""
    await provider.mount(call(workload(vault)))
    other = workload(vault, "system:serviceaccount:shop:other")
    error = await mount_error(provider, call(other | {SERVICE_ACCOUNT: "other"}))
    assert "(AADSTS700213)" in error.problem


async def test_wrong_client_secret_never_gets_the_cached_token(
    vault: DevVault, provider: AzureProvider
) -> None:
    """The secret is part of the identity."""
    await provider.mount(call({}, secrets=PRINCIPAL))
    error = await mount_error(provider, call({}, secrets=PRINCIPAL | {"clientsecret": "canary-x"}))
    assert "(AADSTS7000215)" in error.problem


async def test_changed_client_secret_takes_effect_immediately(
    vault: DevVault, provider: AzureProvider
) -> None:
    """Errors are not cached for it."""
    await mount_error(provider, call({}, secrets=PRINCIPAL | {"clientsecret": "canary-new"}))
    vault.add_app(APP, secret="canary-new")
    await provider.mount(call({}, secrets=PRINCIPAL | {"clientsecret": "canary-new"}))


async def test_mounts_that_share_a_refusal_get_separate_errors(
    vault: DevVault, provider: AzureProvider
) -> None:
    """One request failed for all; each message has its prefix once."""
    wanted = call({}, secrets=PRINCIPAL | {"clientsecret": "canary-x"})
    errors = await asyncio.gather(*(mount_error(provider, wanted) for _ in range(3)))
    assert vault.count(RequestKind.TOKEN) == 1
    assert {error.full_problem.count("failed to mount objects") for error in errors} == {1}


async def test_least_recently_used_token_is_evicted(vault: DevVault) -> None:
    """The number of cached identities is limited."""
    client = HttpsClient(vault.emulator.https)
    credentials = TokenCache(client, uncached_fetcher().transport, max_entries=2)
    app, machine = ServicePrincipal(APP, CLIENT_SECRET), VmManagedIdentity(MI)
    vault.add_app(STRANGER, secret=CLIENT_SECRET)
    stranger = ServicePrincipal(STRANGER, CLIENT_SECRET)
    try:
        for identity in (app, machine, app, stranger, app, machine):
            await credentials.token_provider(
                AccessTokenRequest(identity, DEFAULT_TENANT, CLOUDS[0])
            ).get_token()
    finally:
        await credentials.close()
        await client.close()
    assert (vault.count(RequestKind.TOKEN), vault.count(RequestKind.IMDS)) == (2, 2)


async def test_new_service_account_token_is_used_immediately(
    vault: DevVault, provider: AzureProvider
) -> None:
    """The expired token of another pod does not fail the mount."""
    stale, fresh = call(workload(vault, lifetime=-60)), call(workload(vault))
    error = await mount_error(provider, stale)
    assert "(AADSTS700024)" in error.problem
    results = await asyncio.gather(
        provider.mount(stale), provider.mount(fresh), return_exceptions=True
    )
    assert isinstance(results[1], MountResult)


async def test_token_rejected_by_the_vault_is_renewed_once(
    vault: DevVault, provider: AzureProvider
) -> None:
    """The cached token may have been revoked."""
    await provider.mount(call({}, secrets=PRINCIPAL))
    vault.add_fault(VAULT, RespondStatus(401))
    await provider.mount(call({}, secrets=PRINCIPAL))
    assert vault.count(RequestKind.TOKEN) == 2


async def test_concurrent_rejections_renew_the_token_once(
    vault: DevVault, provider: AzureProvider
) -> None:
    """Ten objects receive the same 401."""
    names = [f"s{number}" for number in range(10)]
    for name in names:
        vault.set_secret("contoso", name, "x")
    await provider.mount(call({}, secrets=PRINCIPAL))
    vault.tune(latency_seconds=0.02)
    vault.add_fault(VAULT, RespondStatus(401), times=10)
    await provider.mount(call({}, *map(entry, names), secrets=PRINCIPAL))
    await provider.mount(call({}, secrets=PRINCIPAL))
    assert vault.count(RequestKind.TOKEN) == 2


async def test_cancelled_mount_does_not_cancel_a_shared_token_request(
    vault: DevVault, provider: AzureProvider
) -> None:
    """The first mount sent it, the second waits for it."""
    vault.tune(latency_seconds=0.05)
    first = asyncio.create_task(provider.mount(call({}, secrets=PRINCIPAL)))
    second = asyncio.create_task(provider.mount(call({}, secrets=PRINCIPAL)))
    await asyncio.sleep(0)
    first.cancel()
    assert isinstance(await second, MountResult)
    assert first.cancelled()
    assert vault.count(RequestKind.TOKEN) == 1
