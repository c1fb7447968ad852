"""examples/secret-sync/azure.yaml, unmodified, with the development vault."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from keyferry.aio.jobs import ThreadJobRunner
from keyferry.errors import IdentityError
from keyferry.providers.settings import ProviderDependencies, ProviderSettings
from keyferry.sync_controller.tokens import TokenKey
from tests.fakes.devvault import DevVault, running_devvault
from tests.fakes.resilience import uncached_fetcher
from tests.fakes.sync_examples import read_example, synced_data

CLIENT = "22222222-0000-4000-8000-000000000002"
TENANT = "11111111-2222-4333-8444-555555555555"
SUBJECT = "system:serviceaccount:shop:web"


def prepare(vault: DevVault) -> ProviderDependencies:
    """Do what the guide says: application, federated credential, secret, permission."""
    vault.add_app(CLIENT, tenant=TENANT, secret=None)
    vault.federate(CLIENT, subject=SUBJECT)
    vault.set_secret("contoso", "db-password", "Hello!")
    vault.grant("contoso", CLIENT)
    return ProviderDependencies(
        vault.emulator.https,
        ProviderSettings(),
        uncached_fetcher(),
        ThreadJobRunner(),
        emulator=vault.emulator,
    )


async def test_example_delivers_its_secret(tmp_path: Path) -> None:
    """With one token: of the service account of the SecretSync, for the audience of Entra."""
    requested: list[TokenKey] = []

    async with running_devvault(tmp_path) as vault:

        def issue(key: TokenKey) -> str:
            requested.append(key)
            issued = json.loads(vault.service_account_token(SUBJECT, audience=(key.audience,)))
            token: str = issued[key.audience]["token"]
            return token

        data = await synced_data(read_example("azure"), prepare(vault), issue=issue)
    assert {"DB_PASSWORD": b"Hello!"} == data
    assert [TokenKey("shop", "web", "api://AzureADTokenExchange")] == requested


async def test_token_of_another_service_account_is_refused(tmp_path: Path) -> None:
    """Also if the API server issued it."""
    async with running_devvault(tmp_path) as vault:

        def issue(key: TokenKey) -> str:
            subject = "system:serviceaccount:shop:other"
            issued = json.loads(vault.service_account_token(subject, audience=(key.audience,)))
            token: str = issued[key.audience]["token"]
            return token

        deps = prepare(vault)
        with pytest.raises(IdentityError, match="belongs to system:serviceaccount:shop:other"):
            await synced_data(read_example("azure"), deps, issue=issue)
