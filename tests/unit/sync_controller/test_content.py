"""What is fetched for a SecretSync: with which tokens, and how mistakes are reported."""

from __future__ import annotations

from typing import Any

import pytest

from keyferry.content import SecretFile
from keyferry.errors import ClassInvalidError, IdentityError, ProviderReportedError
from keyferry.kubernetes.syncs.sync_errors import TokenRequestError
from keyferry.providers.known_fields.attributes import SERVICE_ACCOUNT_TOKENS
from keyferry.records import replace
from keyferry.sync_controller.content import FetchedContent, SyncContent
from keyferry.sync_controller.settings import TokenSettings
from keyferry.sync_controller.tokens import ServiceAccountTokens, TokenKey
from keyferry.telemetry.audit import NullAuditLog
from tests.fakes.secret_syncs import POD, SyncWorld, content, secret_sync, sync_class

AZURE = "api://AzureADTokenExchange"
WORKLOAD_IDENTITY = {
    "clientID": "22222222-0000-4000-8000-000000000000",
    "tenantId": "11111111-0000-4000-8000-000000000000",
    "keyvaultName": "contoso",
    "objects": "array: []",
}
BASIC: dict[str, Any] = {"provider": "azure", "parameters": WORKLOAD_IDENTITY}


def sync_content(world: SyncWorld, *audiences: str) -> SyncContent:
    return SyncContent(
        providers=world.providers,
        tokens=ServiceAccountTokens(world.issuer, TokenSettings(audiences), world.clock),
        credentials=world.credentials,
        jobs=world.jobs,
        audit_log=NullAuditLog(),
        clock=world.clock,
        pod=POD,
    )


async def fetch(world: SyncWorld, *audiences: str, **spc: Any) -> FetchedContent:
    """Fetch the content of a SecretProviderClass."""
    fetching = sync_content(world, *audiences)
    return await fetching.fetch(secret_sync(), sync_class(**spc), interval=60.0, not_before=7.0)


async def test_workload_identity_needs_one_token(world: SyncWorld) -> None:
    """Whatever else is permitted."""
    await fetch(world, "vault", AZURE, **BASIC)
    assert [TokenKey("shop", "web", AZURE)] == world.issuer.requests
    assert AZURE in world.provider.calls[0].attributes[SERVICE_ACCOUNT_TOKENS]


async def test_managed_identity_needs_no_token(world: SyncWorld) -> None:
    """Nor does the service account exist for it."""
    parameters = {**WORKLOAD_IDENTITY, "useVMManagedIdentity": "true"}
    del parameters["clientID"]
    await fetch(world, AZURE, provider="azure", parameters=parameters)
    assert [] == world.issuer.requests
    assert SERVICE_ACCOUNT_TOKENS not in world.provider.calls[0].attributes


async def test_audience_that_is_not_permitted_is_refused(world: SyncWorld) -> None:
    """Before the provider is called."""
    with pytest.raises(TokenRequestError, match=rf"for the audience {AZURE}, and only"):
        await fetch(world, "vault", **BASIC)
    assert [] == world.provider.calls


async def test_external_provider_gets_all_tokens_and_no_versions(world: SyncWorld) -> None:
    """As with upstream's controller."""
    world.providers.is_external = True
    fetched = await fetch(world, "vault", AZURE)
    (call,) = world.provider.calls
    assert fetched.is_external
    assert "vault" in call.attributes[SERVICE_ACCOUNT_TOKENS]
    assert AZURE in call.attributes[SERVICE_ACCOUNT_TOKENS]
    assert ({}, "/mnt/secrets-store", ()) == (call.secrets, call.target_path, call.current_versions)


async def test_freshness_is_passed_on(world: SyncWorld) -> None:
    """A request asks for newer content than that of the cache."""
    fetched = await fetch(world)
    (call,) = world.provider.calls
    assert (60, 7) == (call.refresh_interval, call.not_before)
    assert [SecretFile("password", 0o644, b"canary-1")] == list(fetched.files)
    assert not fetched.is_external


async def test_files_are_made_from_others(world: SyncWorld) -> None:
    """A SecretSync may name them, too."""
    world.provider.returns(content({"user": "me", "password": "canary"}))
    templates = "- path: url\n  template: 'db://{{ user }}:{{ password }}@db'\n"
    fetched = await fetch(world, parameters={"objects": "some", "templates": templates})
    assert b"db://me:canary@db" == {each.path: each.contents for each in fetched.files}["url"]


async def test_pod_identity_is_refused(world: SyncWorld) -> None:
    """A SecretSync has no pod."""
    parameters = {**WORKLOAD_IDENTITY, "usePodIdentity": "true"}
    with pytest.raises(ClassInvalidError, match="a SecretSync has no pod"):
        await fetch(world, provider="azure", parameters=parameters)


async def test_remedy_of_a_provider_names_the_annotation(world: SyncWorld) -> None:
    """Providers speak of the volume of a pod."""
    world.provider.fails(IdentityError("nodePublishSecretRef is not set", "Set it."))
    with pytest.raises(IdentityError) as caught:
        await fetch(world)
    assert "the annotation keyferry.dev/credentials-secret instead" in caught.value.remedy


async def test_provider_that_writes_files_is_refused(world: SyncWorld) -> None:
    """Nothing is mounted."""
    world.providers.is_external = True
    world.provider.returns(replace(content({"a": "1"}), files=()))
    with pytest.raises(ProviderReportedError, match="returned no files: it writes them into"):
        await fetch(world)
