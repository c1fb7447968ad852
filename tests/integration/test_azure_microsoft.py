"""The suite of objects once more, with Microsoft's own clients as the writer and as the judge.

No independent Key Vault emulator is available from package registries
(docs/reference/compatibility-azure.md). Therefore Microsoft's own clients write what the provider
reads here, and read the same values back.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.keyvault.certificates import (
    CertificateContentType,
    CertificatePolicy,
    KeyVaultCertificate,
)
from azure.keyvault.keys import KeyCurveName
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_der_x509_certificate, load_pem_x509_certificates

from keyferry.net.http_client import HttpsClient
from keyferry.providers.azure.provider import AzureProvider
from keyferry_devvault.http_types import RequestKind
from keyferry_devvault.model import Permission
from tests.fakes.certificates import issue_certificate, new_rsa_key
from tests.fakes.devvault import DEFAULT_TENANT, DevVault, running_devvault
from tests.fakes.keyvault_peer import entry, mount_entries
from tests.fakes.keyvault_suite import PEM, PKCS12, KeyVaultSuite
from tests.fakes.microsoft import MicrosoftClients, microsoft_clients
from tests.fakes.resilience import uncached_fetcher

VAULT = "contoso"
READER = "11111111-0000-4000-8000-000000000001"
WRITER, WRITER_SECRET = "22222222-0000-4000-8000-000000000002", "canary-writer"


class MicrosoftPeer:
    """A development vault that only Microsoft's clients write to."""

    parameters: Mapping[str, str] = {
        "keyvaultName": VAULT,
        "tenantID": DEFAULT_TENANT,
        "useVMManagedIdentity": "true",
        "userAssignedIdentityID": READER,
    }
    reports_disabled = True

    def __init__(
        self, running: DevVault, clients: MicrosoftClients, provider: AzureProvider
    ) -> None:
        self.running = running
        self.clients = clients
        self.provider = provider

    async def set_secret(self, name: str, value: str) -> str:
        made = await self.clients.secrets.set_secret(name, value)
        return str(made.properties.version)

    async def create_key(self, name: str, kind: str, curve: str) -> str:
        if kind == "RSA":
            made = await self.clients.keys.create_rsa_key(name, size=2048)
        else:
            made = await self.clients.keys.create_ec_key(name, curve=KeyCurveName(curve))
        return str(made.properties.version)

    async def import_certificate(self, name: str, content: bytes, content_type: str) -> str:
        made = await self.clients.certificates.import_certificate(
            name,
            content if content_type == PEM else base64.b64decode(content),
            policy=CertificatePolicy("Unknown", content_type=CertificateContentType(content_type)),
        )
        assert made.properties is not None
        return str(made.properties.version)

    async def disable(self, collection: str, name: str, version: str) -> None:
        if collection == "secrets":
            await self.clients.secrets.update_secret_properties(name, version, enabled=False)
        else:
            await self.clients.keys.update_key_properties(name, version, enabled=False)

    async def delete(self, collection: str, name: str) -> None:
        assert collection == "secrets"
        await self.clients.secrets.delete_secret(name)


@pytest.fixture
async def vault(tmp_path: Path) -> AsyncIterator[MicrosoftPeer]:
    """A vault whose clock moves on with every version."""
    times = count(1_700_000_000)
    async with running_devvault(tmp_path, wall_time=lambda: next(times)) as running:
        running.data.vaults.ensure(VAULT)
        running.add_managed_identity(READER, tenant=DEFAULT_TENANT)
        running.grant(VAULT, READER, "get", "list")
        running.add_app(WRITER, tenant=DEFAULT_TENANT, secret=WRITER_SECRET)
        running.grant(VAULT, WRITER, *Permission)
        provider = AzureProvider(
            HttpsClient(running.emulator.https), uncached_fetcher(), emulator=running.emulator
        )
        async with microsoft_clients(
            running,
            name=VAULT,
            tenant=DEFAULT_TENANT,
            client_id=WRITER,
            client_secret=WRITER_SECRET,
        ) as clients:
            yield MicrosoftPeer(running, clients, provider)
        await provider.close()


class TestWrittenByMicrosoft(KeyVaultSuite):
    """Every object of the suite comes from Microsoft's clients."""


async def one_file(vault: MicrosoftPeer, text: str) -> bytes:
    """What the provider makes of one entry."""
    (file,) = (await mount_entries(vault, text)).files
    return file.contents


async def test_clients_read_the_same_secret_version_and_properties(vault: MicrosoftPeer) -> None:
    """Value and version are equal; tags, content type and times are as they were set."""
    ends = datetime(2030, 1, 1, tzinfo=UTC)
    secrets = vault.clients.secrets
    await secrets.set_secret(
        "db", "s3cret", content_type="text/plain", tags={"owner": "shop"}, expires_on=ends
    )
    result = await mount_entries(vault, entry("secret", "db", expiryWarning="1h"))
    read = await secrets.get_secret("db")
    assert read.value is not None
    assert [read.value.encode()] == [file.contents for file in result.files]
    assert [read.properties.version] == [version.version for version in result.versions]
    assert [read.properties.expires_on] == [
        datetime.fromtimestamp(expiry.expires_at, UTC) for expiry in result.expiries
    ]
    assert ({"owner": "shop"}, "text/plain", ends) == (
        read.properties.tags,
        read.properties.content_type,
        read.properties.expires_on,
    )


async def test_tags_and_times_of_keys_and_certificates_are_kept(vault: MicrosoftPeer) -> None:
    """Set with a new version or later; the provider reads them and warns before a key expires."""
    ends, tags = datetime(2030, 1, 1, tzinfo=UTC), {"owner": "shop"}
    keys, certificates = vault.clients.keys, vault.clients.certificates
    made = await keys.create_ec_key("signing", tags=tags, expires_on=ends)
    assert (tags, ends) == (made.properties.tags, made.properties.expires_on)
    changed = await keys.update_key_properties("signing", tags={"owner": "other"})
    assert ({"owner": "other"}, ends) == (changed.properties.tags, changed.properties.expires_on)
    content = base64.b64decode(issue_certificate("test.domain.com", new_rsa_key()).pkcs12())
    imported = await certificates.import_certificate("web", content, tags=tags)
    assert imported.properties is not None
    assert tags == imported.properties.tags
    listed = [each async for each in certificates.list_properties_of_certificates()]
    assert [tags] == [each.tags for each in listed]
    result = await mount_entries(vault, entry("key", "signing", expiryWarning="1h"))
    assert [ends] == [datetime.fromtimestamp(each.expires_at, UTC) for each in result.expiries]


async def test_clients_list_the_same_versions(vault: MicrosoftPeer) -> None:
    """60 versions in three pages; the orders by age are equal."""
    for number in range(60):
        await vault.set_secret("db", str(number))
    listed = [each async for each in vault.clients.secrets.list_properties_of_secret_versions("db")]
    pages = vault.clients.secrets.list_properties_of_secret_versions("db").by_page()
    assert [25, 25, 10] == [len([each async for each in page]) async for page in pages]
    result = await mount_entries(vault, entry("secret", "db", objectVersionHistory=100))
    by_age = sorted(listed, key=lambda each: each.created_on or datetime.now(UTC), reverse=True)
    assert [each.version for each in by_age] == [version.version for version in result.versions]


@pytest.mark.parametrize("kind", ["RSA", "EC"])
async def test_clients_read_the_same_key(vault: MicrosoftPeer, kind: str) -> None:
    """The numbers of Microsoft's client are those of the file."""
    await vault.create_key("signing", kind, "P-384")
    read = (await vault.clients.keys.get_key("signing")).key
    key = load_pem_public_key(await one_file(vault, entry("key", "signing")))
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        expected = {"n": big(numbers.n), "e": big(numbers.e)}
    else:
        assert isinstance(key, ec.EllipticCurvePublicKey)
        point = key.public_numbers()
        expected = {"x": big(point.x, 48), "y": big(point.y, 48)}
    assert expected == {name: getattr(read, name) for name in expected}


@pytest.mark.parametrize("content_type", [PEM, PKCS12])
async def test_clients_read_the_same_certificate(vault: MicrosoftPeer, content_type: str) -> None:
    """The leaf, the policy and the secret behind it; all expire when the certificate does."""
    made = issue_certificate("test.domain.com", new_rsa_key())
    content = made.key_pem + made.pem if content_type == PEM else made.pkcs12()
    await vault.import_certificate("web", content, content_type)
    read = await vault.clients.certificates.get_certificate("web")
    secret = await vault.clients.secrets.get_secret("web")
    leaf = load_pem_x509_certificates(await one_file(vault, entry("cert", "web")))
    assert [made.certificate] == [load_der_x509_certificate(bytes(read.cer or b""))] == leaf
    assert read.policy is not None
    assert content_type == read.policy.content_type == secret.properties.content_type
    assert read.properties is not None
    assert made.certificate.not_valid_after_utc == read.properties.expires_on
    assert made.certificate.not_valid_after_utc == secret.properties.expires_on
    bundle = await one_file(vault, entry("secret", "web", objectFormat="pfx"))
    assert secret.value is not None
    assert secret.value.encode() == bundle


async def test_certificate_created_by_microsofts_client_is_delivered(vault: MicrosoftPeer) -> None:
    """The client waits for the operation by reading the pending certificate."""
    policy = CertificatePolicy(
        "Self",
        subject="CN=web.test",
        san_dns_names=["web.test"],
        key_type="EC",
        key_curve_name="P-256",
    )
    made = await vault.clients.certificates.create_certificate("web", policy)
    assert isinstance(made, KeyVaultCertificate)
    assert made.cer is not None
    pem = await one_file(vault, entry("secret", "web"))
    assert pem.startswith(b"-----BEGIN PRIVATE KEY-----")
    found = load_pem_x509_certificates(pem)
    assert [load_der_x509_certificate(bytes(made.cer))] == found
    assert "CN=web.test" == found[0].subject.rfc4514_string()


async def test_microsofts_client_raises_its_exceptions(vault: MicrosoftPeer) -> None:
    """For missing, disabled, deleted and conflicting secrets."""
    secrets = vault.clients.secrets
    with pytest.raises(ResourceNotFoundError, match="SecretNotFound"):
        await secrets.get_secret("nowhere")
    version = await vault.set_secret("db", "x")
    await vault.disable("secrets", "db", version)
    with pytest.raises(HttpResponseError, match="disabled") as caught:
        await secrets.get_secret("db")
    assert 403 == caught.value.status_code
    await vault.delete("secrets", "db")
    assert "db" == (await secrets.get_deleted_secret("db")).name
    with pytest.raises(ResourceExistsError, match="Conflict"):
        await vault.set_secret("db", "y")
    await secrets.recover_deleted_secret("db")
    await secrets.update_secret_properties("db", version, enabled=True)
    assert b"x" == await one_file(vault, entry("secret", "db"))


async def test_microsofts_client_authenticates_after_a_challenge(tmp_path: Path) -> None:
    """The first request has no token; without a grant the vault returns Forbidden."""
    name = "challenged"  # their clients keep challenges for as long as the process lives
    async with running_devvault(tmp_path) as running:
        running.set_secret(name, "db", "x")
        running.add_app(WRITER, tenant=DEFAULT_TENANT, secret=WRITER_SECRET)
        running.grant(name, WRITER)
        async with microsoft_clients(
            running,
            name=name,
            tenant=DEFAULT_TENANT,
            client_id=WRITER,
            client_secret=WRITER_SECRET,
        ) as clients:
            assert "x" == (await clients.secrets.get_secret("db")).value
            asked = [
                record.status for record in running.requests if record.kind is RequestKind.SECRET
            ]
            assert [401, 200] == asked
            running.revoke(name, WRITER)
            with pytest.raises(HttpResponseError, match="Forbidden"):
                await clients.secrets.get_secret("db")


async def test_microsofts_client_shows_the_entra_code(tmp_path: Path) -> None:
    """A wrong client secret is AADSTS7000215, as in Keyferry."""
    async with running_devvault(tmp_path) as running:
        running.data.vaults.ensure(VAULT)
        running.add_app(WRITER, tenant=DEFAULT_TENANT, secret=WRITER_SECRET)
        running.grant(VAULT, WRITER)
        async with microsoft_clients(
            running, name=VAULT, tenant=DEFAULT_TENANT, client_id=WRITER, client_secret="wrong"
        ) as clients:
            with pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
                await clients.secrets.get_secret("db")


def big(number: int, length: int | None = None) -> bytes:
    return number.to_bytes(length or (number.bit_length() + 7) // 8, "big")
