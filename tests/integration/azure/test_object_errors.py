"""Objects that cannot be delivered, and their messages."""

from __future__ import annotations

from keyferry.errors import AccessDeniedError, ObjectNotFoundError, ObjectUnusableError, Stage
from keyferry.providers.azure.provider import AzureProvider
from keyferry.providers.azure.versions import ObjectDisabledError
from tests.fakes.azure_mounts import call, entry, mount_error
from tests.fakes.devvault import DEFAULT_TENANT, DevVault
from tests.integration.azure.calls import CLIENT_SECRET, ENTRA, MI, STRANGER, VM


async def test_every_missing_object_is_named(vault: DevVault, provider: AzureProvider) -> None:
    """The first with upstream's text, the others by name; nothing is delivered."""
    error = await mount_error(provider, call(VM, entry("a"), entry(), entry("b"), entry("c")))
    assert isinstance(error, ObjectNotFoundError)
    assert error.full_problem == (
        "failed to mount objects, error: failed to get objectType:secret, objectName:a, "
        "objectVersion:: secret a does not exist in vault contoso; also failed: secret b, secret c"
    )


async def test_long_list_of_failures_is_shortened(provider: AzureProvider) -> None:
    """The message stays readable."""
    error = await mount_error(provider, call(VM, *(entry(f"s{n}") for n in range(20))))
    assert error.problem.endswith("secret s9, secret s10 and 9 more")


async def test_missing_version_is_an_error(provider: AzureProvider) -> None:
    """The message names the version."""
    error = await mount_error(provider, call(VM, entry(objectVersion="f" * 32)))
    assert isinstance(error, ObjectNotFoundError)
    assert f"secret db-password version {'f' * 32} does not exist" in error.problem


async def test_disabled_version_has_its_own_error(vault: DevVault, provider: AzureProvider) -> None:
    """A 403 like a missing permission, with another remedy."""
    vault.disable("contoso", "db-password")
    error = await mount_error(provider, call(VM))
    assert (type(error), error.stage) == (ObjectDisabledError, Stage.OBJECT)
    assert "is disabled in vault contoso" in error.problem


async def test_missing_permission_names_client_and_command(
    vault: DevVault, provider: AzureProvider
) -> None:
    """The command that grants it."""
    vault.revoke("contoso", MI)
    error = await mount_error(provider, call(VM))
    assert isinstance(error, AccessDeniedError)
    assert f"does not let client ID {MI} read secret db-password (403)" in error.problem
    assert "az keyvault set-policy --name contoso" in error.remedy


async def test_token_of_the_wrong_tenant_names_both_tenants(
    vault: DevVault, provider: AzureProvider
) -> None:
    """The SecretProviderClass names a tenant that the vault does not trust."""
    other = "99999999-2222-4333-8444-555555555555"
    vault.add_app(STRANGER, tenant=other, secret=CLIENT_SECRET)
    secrets = {"clientid": STRANGER, "clientsecret": CLIENT_SECRET}
    error = await mount_error(provider, call({"tenantID": other}, secrets=secrets))
    assert isinstance(error, AccessDeniedError)
    assert f"it trusts https://{ENTRA}/{DEFAULT_TENANT}" in error.problem
    assert f"comes from https://{ENTRA}/{other}" in error.problem


async def test_unknown_vault_is_an_error(provider: AzureProvider) -> None:
    """In Azure, its host name would not resolve."""
    error = await mount_error(provider, call(VM | {"keyvaultName": "fabrikam"}))
    assert "there is no vault fabrikam" in error.problem


async def test_value_with_the_wrong_encoding_is_not_delivered(
    vault: DevVault, provider: AzureProvider
) -> None:
    """The message names the object and does not quote the value."""
    error = await mount_error(provider, call(VM, entry(objectEncoding="base64")))
    assert isinstance(error, ObjectUnusableError)
    assert "objectName:db-password" in error.full_problem
    assert "the value is not valid base64" in error.problem
