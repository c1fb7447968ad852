"""keyferry.providers.azure reads every type of object from the development vault."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Mapping
from itertools import count
from pathlib import Path

import grpc
import pytest

from keyferry.errors import ClassInvalidError
from keyferry.net.http_client import HttpsClient
from keyferry.providers.api import MountCall
from keyferry.providers.azure.content import PEM_TYPE
from keyferry.providers.azure.provider import AzureProvider
from keyferry.providers.known_fields.attributes import POD_NAME, POD_NAMESPACE
from keyferry.providers.settings import ProviderSettings
from keyferry_devvault.model import SecretAttributes
from keyferry_devvault.storage.data import DevVaultData
from tests.fakes.certificates import issue_certificate, new_ec_key
from tests.fakes.devvault import (
    DEFAULT_TENANT,
    CertificateSpec,
    DevVault,
    running_devvault,
)
from tests.fakes.driver import running_driver
from tests.fakes.keyvault_peer import entry, mount_entries
from tests.fakes.keyvault_suite import KeyVaultSuite
from tests.fakes.resilience import uncached_fetcher

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

    reports_disabled = True

    def __init__(self, vault: DevVault, provider: AzureProvider, data: DevVaultData) -> None:
        self.provider = provider
        self._vault = DevVault(data, vault.request_log, vault.redirect)

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
            self._vault.data.vault_keys.set_enabled(VAULT, name, version, enabled=False)

    async def delete(self, collection: str, name: str) -> None:
        assert collection == "secrets"
        self._vault.delete(VAULT, name)


@pytest.fixture
async def vault(tmp_path: Path) -> AsyncIterator[DevVaultPeer]:
    """A vault whose clock moves on with every version."""
    times = count(1_700_000_000)
    async with running_devvault(tmp_path) as running:
        running.data.vaults.ensure(VAULT)
        running.add_managed_identity(CLIENT, tenant=DEFAULT_TENANT)
        running.grant(VAULT, CLIENT, "get", "list")
        provider = AzureProvider(
            HttpsClient(running.emulator.https), uncached_fetcher(), emulator=running.emulator
        )
        with DevVaultData(tmp_path / "devvault", wall_time=lambda: next(times)) as data:
            try:
                yield DevVaultPeer(running, provider, data)
            finally:
                await provider.close()


class TestDevelopmentVault(KeyVaultSuite):
    """The suite that other vaults pass as well (tests/e2e)."""


async def test_chain_of_the_development_ca_in_separate_files(tmp_path: Path) -> None:
    """By flag; openssl verifies the chain and compares the public keys."""
    async with running_devvault(tmp_path) as running:
        wish = CertificateSpec(hosts=["web.test"], kind="EC", signed_by_ca=True)
        running.create_certificate(VAULT, "web", wish)
        running.add_managed_identity(CLIENT, tenant=DEFAULT_TENANT)
        running.grant(VAULT, CLIENT)
        settings = ProviderSettings(separate_files=True)
        provider = AzureProvider(
            HttpsClient(running.emulator.https),
            uncached_fetcher(),
            settings,
            emulator=running.emulator,
        )
        try:
            peer = DevVaultPeer(running, provider, running.data)
            result = await mount_entries(peer, entry("secret", "web"))
        finally:
            await provider.close()
    for file in result.files:
        (tmp_path / file.path).write_bytes(file.contents)
    ca = str(tmp_path / "devvault" / "ca.pem")
    assert "web.crt: OK\n" == openssl(tmp_path, "verify", "-CAfile", ca, "web.crt")
    public = openssl(tmp_path, "pkey", "-in", "web.key", "-pubout")
    assert public == openssl(tmp_path, "x509", "-in", "web.crt", "-noout", "-pubkey")


def openssl(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["openssl", *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[tuple[DevVault, AzureProvider]]:
    """A vault with one secret, and a provider that reaches it."""
    async with running_devvault(tmp_path) as running:
        running.set_secret(VAULT, "db", "x")
        running.add_managed_identity(CLIENT, tenant=DEFAULT_TENANT)
        running.grant(VAULT, CLIENT)
        provider = AzureProvider(
            HttpsClient(running.emulator.https), uncached_fetcher(), emulator=running.emulator
        )
        try:
            yield running, provider
        finally:
            await provider.close()


def by_url(url: str) -> MountCall:
    """A mount of `db` from the vault at `url`."""
    base = {key: text for key, text in DevVaultPeer.parameters.items() if key != "keyvaultName"}
    pod = {POD_NAME: "web-0", POD_NAMESPACE: "shop", "keyvaultURL": url}
    objects = json.dumps({"array": [entry("secret", "db")]})
    return MountCall({**base, **pod, "objects": objects})


@pytest.mark.parametrize("port", ["", ":443", ":8443"])
async def test_vault_by_url(opened: tuple[DevVault, AzureProvider], port: str) -> None:
    """As by its name, with the port of the URL."""
    result = await opened[1].mount(by_url(f"https://contoso.vault.azure.net{port}/"))
    assert [b"x"] == [file.contents for file in result.files]


async def test_no_token_is_requested_for_a_host_outside_of_the_cloud(
    opened: tuple[DevVault, AzureProvider],
) -> None:
    """Neither IMDS nor the host receives a request."""
    with pytest.raises(ClassInvalidError, match="must not receive a token"):
        await opened[1].mount(by_url("https://contoso.example.com"))
    assert [] == opened[0].requests


async def test_mismatched_key_and_certificate_reach_no_pod(
    mount_home: Path, tmp_path: Path
) -> None:
    """The mount fails before anything is written: no folder, no status, no Secret."""
    certificate, other = (
        issue_certificate("test.domain.com", new_ec_key()),
        issue_certificate("other", new_ec_key()),
    )
    async with running_devvault(tmp_path) as running:
        running.create_certificate(VAULT, "web", CertificateSpec(kind="EC"))
        kept = SecretAttributes(content_type=PEM_TYPE)
        value = (other.key_pem + certificate.pem).decode()
        running.data.secrets.set(VAULT, "web", value, kept, certificate_version="1" * 32)
        running.add_managed_identity(CLIENT, tenant=DEFAULT_TENANT)
        running.grant(VAULT, CLIENT)
        provider = AzureProvider(
            HttpsClient(running.emulator.https), uncached_fetcher(), emulator=running.emulator
        )
        async with running_driver(mount_home, built_in={"azure": provider}) as driver:
            objects = json.dumps({"array": [entry("secret", "web")]})
            parameters = {**DevVaultPeer.parameters, "objects": objects}
            driver.write_class("web", provider="azure", parameters=parameters)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await driver.publish("web")
            assert [] == driver.leftovers()
    said = refused.value.details() or ""
    assert "the private key in the object does not belong to any of its certificates" in said
    assert "-----BEGIN" not in said
