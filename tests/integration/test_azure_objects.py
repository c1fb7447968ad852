"""keyferry.azure reads every type of object from the development vault."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from itertools import count
from pathlib import Path

import pytest

from keyferry.azure.provider import AzureProvider
from keyferry.devvault.data import DevVaultData
from keyferry.devvault.model import SecretAttributes
from keyferry.https import HttpsClient, HttpsSettings
from tests.fakes.devvault import DEFAULT_TENANT, DevVault, running_devvault
from tests.fakes.vault_suite import VaultSuite

CLIENT = "11111111-0000-4000-8000-000000000001"
VAULT = "contoso"


class DevVaultPeer:
    """The development vault; each version is a second younger than the one before."""

    parameters: Mapping[str, str] = {
        "keyvaultName": VAULT,
        "tenantID": DEFAULT_TENANT,
        "useVMManagedIdentity": "true",
        "userAssignedIdentityID": CLIENT,
    }

    says_disabled = True

    def __init__(self, vault: DevVault, provider: AzureProvider, data: DevVaultData) -> None:
        self.provider = provider
        self._vault = DevVault(data, vault.journal, vault.redirect)

    async def set_secret(self, name: str, value: str) -> str:
        return self._vault.set_secret(VAULT, name, value)

    async def create_key(self, name: str, kind: str, curve: str) -> str:
        return self._vault.create_key(VAULT, name, kind, curve=curve)

    async def import_certificate(self, name: str, content: bytes, content_type: str) -> str:
        return self._vault.import_certificate(VAULT, name, content, content_type=content_type)

    async def disable(self, collection: str, name: str, version: str) -> None:
        if collection == "secrets":
            disabled = SecretAttributes(enabled=False)
            self._vault.data.secrets.update(VAULT, name, version, disabled)
        else:
            self._vault.data.vault_keys.enable(VAULT, name, version, enabled=False)

    async def delete(self, collection: str, name: str) -> None:
        assert collection == "secrets"
        self._vault.delete(VAULT, name)


@pytest.fixture
async def vault(tmp_path: Path) -> AsyncIterator[DevVaultPeer]:
    """A vault whose clock moves on with every version."""
    ticks = count(1_700_000_000)
    async with running_devvault(tmp_path) as running:
        running.data.secrets.ensure_vault(VAULT)
        running.add_managed_identity(CLIENT, tenant=DEFAULT_TENANT)
        running.grant(VAULT, CLIENT, "get", "list")
        provider = AzureProvider(HttpsClient(HttpsSettings(dev=running.redirect)))
        with DevVaultData(tmp_path / "devvault", clock=lambda: next(ticks)) as data:
            try:
                yield DevVaultPeer(running, provider, data)
            finally:
                await provider.close()


class TestDevelopmentVault(VaultSuite):
    """The suite that other vaults pass as well (tests/e2e)."""
