"""Identities that Entra or IMDS refuses, and their messages."""

from __future__ import annotations

import json

import pytest

from keyferry.errors import IdentityError
from keyferry.providers.azure.provider import AzureProvider
from keyferry.providers.known_fields.attributes import SERVICE_ACCOUNT_TOKENS
from tests.fakes.azure_mounts import call, entry, mount_error
from tests.fakes.devvault import DevVault
from tests.integration.azure.calls import APP, MI, STRANGER, SUBJECT, VALUE, VM, workload


@pytest.mark.parametrize(
    ("parameters", "code", "words"),
    [
        (
            {"tenantID": "99999999-0000-4000-8000-000000000000"},
            90002,
            "does not exist in this cloud",
        ),
        ({"clientID": STRANGER}, 700016, "has no such application"),
        ({"clientID": MI}, 700211, "has the issuer https://kubernetes.default.svc"),
    ],
)
async def test_refusal_of_entra_is_explained(
    vault: DevVault,
    provider: AzureProvider,
    parameters: dict[str, str],
    code: int,
    words: str,
) -> None:
    """The meaning, the code and a remedy."""
    error = await mount_error(provider, call(workload(vault) | parameters))
    assert isinstance(error, IdentityError)
    assert words in error.problem
    assert f"(AADSTS{code})" in error.problem
    assert error.__cause__ is None


async def test_service_account_token_with_invalid_signature_is_refused(
    vault: DevVault, provider: AzureProvider
) -> None:
    """Whatever its claims."""
    tokens = json.loads(vault.service_account_token(SUBJECT))
    token = tokens["api://AzureADTokenExchange"]
    token["token"] = token["token"][:-40] + "A" * 40
    parameters = {"clientID": APP, SERVICE_ACCOUNT_TOKENS: json.dumps(tokens)}
    error = await mount_error(provider, call(parameters))
    assert isinstance(error, IdentityError)
    assert "AADSTS" in error.problem


async def test_missing_identity_is_explained_although_kubelet_sends_tokens(
    vault: DevVault, provider: AzureProvider
) -> None:
    """From Kubernetes 1.35 on, the tokens are where the data of nodePublishSecretRef is."""
    secrets = {SERVICE_ACCOUNT_TOKENS: vault.service_account_token(SUBJECT)}
    error = await mount_error(provider, call({}, secrets=secrets))
    assert "nodePublishSecretRef secret is not set" in error.problem
    assert "Set clientID for workload identity" in error.remedy


async def test_entries_choose_their_client_although_kubelet_sends_tokens(
    vault: DevVault, provider: AzureProvider
) -> None:
    """Without nodePublishSecretRef, they use workload identity."""
    tokens = vault.service_account_token(SUBJECT)
    parameters = {SERVICE_ACCOUNT_TOKENS: tokens}
    one = entry(clientID=APP)
    result = await provider.mount(call(parameters, one, secrets={SERVICE_ACCOUNT_TOKENS: tokens}))
    assert [VALUE.encode()] == [file.contents for file in result.files]


@pytest.mark.parametrize(
    ("client_id", "words"),
    [
        (
            STRANGER,
            f"the managed identity with client ID {STRANGER} is not assigned to this machine",
        ),
        ("", "this machine has no system-assigned managed identity"),
    ],
)
async def test_identity_unknown_to_imds_is_an_error(
    provider: AzureProvider, client_id: str, words: str
) -> None:
    """The remedy has the az command that assigns it."""
    error = await mount_error(provider, call(VM | {"userAssignedIdentityID": client_id}))
    assert isinstance(error, IdentityError)
    assert words in error.problem
    assert "az vm identity assign" in error.remedy
