"""Azure: addresses of the node, lists of permitted vaults and tenants."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from keyferry.errors import ClassInvalidError, Stage
from keyferry.net.address_guard import AddressGuard
from keyferry.net.addresses import AddressPattern
from keyferry.net.http_client import HttpsSettings
from keyferry.providers.restrictions import UNRESTRICTED, ClassRestrictions
from keyferry.records import replace
from tests.fakes.azure_mounts import call, mount_error
from tests.fakes.clock import AutojumpClock
from tests.fakes.devvault import DEFAULT_TENANT, DevVault
from tests.integration.azure.calls import ENTRA, PRINCIPAL, VALUE, VAULT, VM, provider_for

OTHER_TENANT = "99999999-0000-4000-8000-000000000009"


def _stack(folder: Path, *, authority: str, suffix: str = "vault.azure.net") -> dict[str, str]:
    """Return the parameters of a cloud that a file below `folder` describes."""
    path = folder / "cloud.json"
    cloud = {
        "activeDirectoryEndpoint": authority,
        "keyVaultEndpoint": f"https://{suffix}",
        "keyVaultDNSSuffix": suffix,
    }
    path.write_text(json.dumps(cloud))
    return {"cloudName": "AzureStackCloud", "cloudEnvFileName": str(path)}


@pytest.mark.parametrize(
    ("authority", "shown"),
    [
        ("https://127.0.0.1:1/", "127.0.0.1"),
        ("https://2130706433/", "2130706433"),
        ("https://localhost/", "localhost"),
        ("https://169.254.169.254/metadata", "169.254.169.254"),
    ],
)
async def test_address_of_the_node_is_refused(
    clock: AutojumpClock, tmp_path: Path, authority: str, shown: str
) -> None:
    """A token endpoint that a file describes would receive the credential."""
    restrictions = ClassRestrictions(file_folders=(str(tmp_path),))
    parameters = _stack(tmp_path, authority=authority)
    async with provider_for(
        HttpsSettings(), clock, restrictions=restrictions, guard=AddressGuard()
    ) as provider:
        error = await mount_error(provider, call(parameters, secrets=PRINCIPAL))
    assert (ClassInvalidError, Stage.CONNECT) == (type(error), error.stage)
    assert f"{shown} cannot be reached" in error.problem or f"{shown}:" in error.problem


@pytest.mark.parametrize("url", ["https://localhost:1", "https://127.0.0.1", "https://[::1]:8443"])
async def test_vault_on_the_node_is_refused(
    vault: DevVault, clock: AutojumpClock, url: str
) -> None:
    """The same URL is permitted with --allow-local-addresses."""
    parameters = {"keyvaultName": "", "keyvaultURL": url, **VM}
    async with provider_for(
        vault.emulator.https, clock, restrictions=ClassRestrictions(), guard=AddressGuard()
    ) as provider:
        error = await mount_error(provider, call(parameters))
    assert (ClassInvalidError, Stage.CONNECT) == (type(error), error.stage)


async def test_only_listed_vaults_and_token_endpoints_are_permitted(
    vault: DevVault, clock: AutojumpClock, tmp_path: Path
) -> None:
    """The token endpoint of a known cloud needs no entry."""
    listed = (AddressPattern("*.vault.azure.net", 443),)
    restrictions = replace(UNRESTRICTED, vault_addresses=listed)
    async with provider_for(vault.emulator.https, clock, restrictions=restrictions) as provider:
        result = await provider.mount(call({}, secrets=PRINCIPAL))
        assert [VALUE.encode()] == [file.contents for file in result.files]
        for parameters in (
            {"cloudName": "AzureUSGovernmentCloud"},
            _stack(tmp_path, authority=f"https://{ENTRA}"),
        ):
            error = await mount_error(provider, call(parameters, secrets=PRINCIPAL))
            assert "cannot be reached" in error.problem
    assert {VAULT, ENTRA} == {record.host for record in vault.requests}


async def test_only_listed_tenants_are_permitted(vault: DevVault, clock: AutojumpClock) -> None:
    """Also if a vault asks for a token of another one."""
    restrictions = replace(UNRESTRICTED, azure_tenants=(OTHER_TENANT,))
    async with provider_for(vault.emulator.https, clock, restrictions=restrictions) as provider:
        error = await mount_error(provider, call({}, secrets=PRINCIPAL))
        assert f"tenantId is {DEFAULT_TENANT}, which is not permitted" in error.problem
        assert [] == vault.requests
        vault.add_managed_identity("44444444-0000-4000-8000-000000000004", tenant=OTHER_TENANT)
        foreign = VM | {
            "tenantID": OTHER_TENANT,
            "userAssignedIdentityID": "44444444-0000-4000-8000-000000000004",
        }
        error = await mount_error(provider, call(foreign))
    assert f"asks for a token of tenant {DEFAULT_TENANT}, which is not permitted" in error.problem
