"""Managed identities of a machine, from IMDS."""

from __future__ import annotations

import pytest

from keyferry.providers.azure.provider import AzureProvider
from tests.fakes.azure_mounts import call, mount_error
from tests.fakes.devvault import DevVault
from tests.integration.azure_identities.calls import APP, MI, VALUE, value


async def test_managed_identity_by_each_kind_of_id(
    vault: DevVault, provider: AzureProvider
) -> None:
    """Client ID, object ID, resource ID; the last also where upstream expects a client ID."""
    identity = vault.data.identities.get(MI)
    for parameters in (
        {"userAssignedIdentityID": identity.client_id},
        {"userAssignedIdentityID": identity.resource_id},
        {"userAssignedIdentityObjectID": identity.object_id},
        {"userAssignedIdentityResourceID": identity.resource_id},
    ):
        wanted = call({"useVMManagedIdentity": "true"} | parameters)
        assert await value(provider, wanted) == VALUE.encode()
    assert {record.principal for record in vault.requests} == {MI}


async def test_the_environment_does_not_redirect_a_managed_identity(
    provider: AzureProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other clients obey these variables; authors of a SecretProviderClass do not know them."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:1/elsewhere")
    monkeypatch.setenv("IDENTITY_HEADER", "canary")
    assert await value(provider, call({"useVMManagedIdentity": "true"})) == VALUE.encode()


async def test_unknown_object_id_is_named_as_an_object_id(provider: AzureProvider) -> None:
    """It could be mistaken for a client ID."""
    wanted = {"useVMManagedIdentity": "true", "userAssignedIdentityObjectID": APP}
    error = await mount_error(provider, call(wanted))
    assert f"the managed identity with object ID {APP} is not assigned" in error.problem
