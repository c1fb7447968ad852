"""What a vault wants of a token: the resource and the tenant that it names in its challenge."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from keyferry.errors import AccessDeniedError
from keyferry.net.http_client import HttpsClient
from keyferry.providers.azure.auth.identity import ServicePrincipal, VmManagedIdentity
from keyferry.providers.azure.auth.token_cache import AccessTokenRequest, TokenCache
from keyferry.providers.azure.clouds import CLOUDS
from keyferry.providers.azure.keyvault import KeyVault, KeyVaultTransport
from keyferry.providers.azure.keyvault_errors import RequestContext
from keyferry.providers.azure.objects import ObjectRef, ObjectType
from keyferry.providers.azure.responses import KeyVaultSecret
from keyferry.resilience.call_context import CallContext
from tests.fakes.devvault import DEFAULT_TENANT, DevVault
from tests.fakes.resilience import uncached_fetcher
from tests.integration.azure_identities.calls import APP, HSM, MI, VALUE


@asynccontextmanager
async def reader(vault: DevVault, login: AccessTokenRequest, host: str) -> AsyncIterator[KeyVault]:
    """The vault at `host`, read as `login`."""
    client = HttpsClient(vault.emulator.https)
    credentials = TokenCache(client, uncached_fetcher().transport)
    asked = RequestContext("contoso", login.tenant, login.cloud.authority, login.identity)
    try:
        yield KeyVault(
            KeyVaultTransport(client, uncached_fetcher().transport),
            credentials.token_provider(login, host=host),
            context=asked,
            netloc=host,
        )
    finally:
        await credentials.close()
        await client.close()


SECRET = ObjectRef(ObjectType.SECRET, "db-password", "")


async def test_resource_of_a_challenge_is_used(vault: DevVault) -> None:
    """A managed HSM requires tokens for managed HSMs."""
    login = AccessTokenRequest(VmManagedIdentity(MI), DEFAULT_TENANT, CLOUDS[0])
    async with reader(vault, login, HSM) as opened:
        found = await opened.read(SECRET, CallContext.new(HSM))
    assert isinstance(found, KeyVaultSecret)
    assert found.value == VALUE
    assert [record.status for record in vault.requests] == [200, 401, 200, 200]


async def test_a_managed_hsm_of_a_known_cloud_needs_no_challenge(vault: DevVault) -> None:
    """Its resource is derived from its host name."""
    resource = CLOUDS[0].token_resource(HSM)
    login = AccessTokenRequest(VmManagedIdentity(MI), DEFAULT_TENANT, CLOUDS[0], resource)
    async with reader(vault, login, HSM) as opened:
        await opened.read(SECRET, CallContext.new(HSM))
    assert [record.status for record in vault.requests] == [200, 200]


async def test_redirect_of_a_vault_is_remembered(vault: DevVault) -> None:
    """The next mount saves the round trip."""
    client = HttpsClient(vault.emulator.https)
    credentials = TokenCache(client, uncached_fetcher().transport)
    transport = KeyVaultTransport(client, uncached_fetcher().transport)
    login = AccessTokenRequest(VmManagedIdentity(MI), DEFAULT_TENANT, CLOUDS[0])
    asked = RequestContext("contoso", login.tenant, login.cloud.authority, login.identity)
    try:
        for _ in range(2):
            tokens = credentials.token_provider(login, host=HSM)
            await KeyVault(transport, tokens, context=asked, netloc=HSM).read(
                SECRET, CallContext.new(HSM)
            )
    finally:
        await credentials.close()
        await client.close()
    assert [record.status for record in vault.requests] == [200, 401, 200, 200, 200]


async def test_identity_of_another_tenant_is_refused_with_both_tenants(
    vault: DevVault,
) -> None:
    """The vault's tenant is tried too: an application may be registered in both."""
    other = "99999999-2222-4333-8444-555555555555"
    vault.add_app(APP, tenant=other, secret="s3cret-canary")
    login = AccessTokenRequest(ServicePrincipal(APP, "s3cret-canary"), other, CLOUDS[0])
    async with reader(vault, login, "contoso.vault.azure.net") as opened:
        with pytest.raises(AccessDeniedError) as caught:
            await opened.read(SECRET, CallContext.new(HSM))
    for tenant in (other, DEFAULT_TENANT):
        assert f"https://login.microsoftonline.com/{tenant}" in caught.value.problem
    assert "canary" not in str(caught.value)
