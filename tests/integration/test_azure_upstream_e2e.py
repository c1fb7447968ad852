"""The end-to-end checks of the upstream provider, through the whole driver.

The vault, the classes and what is expected are those of upstream's suite: the driver with rotation
and Secrets, workload identity unless a check says otherwise. What only a cluster can show is in
tests/e2e/cluster.

Source: https://github.com/Azure/secrets-store-csi-driver-provider-azure/tree/v1.8.2/test/e2e
Source: docs/reference/upstream-azure-provider.md#upstream-tests
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest

from keyferry.net.http_client import HttpsClient
from keyferry.providers.azure.provider import AzureProvider
from keyferry.providers.known_fields.attributes import SERVICE_ACCOUNT_TOKENS
from keyferry.providers.restrictions import UNRESTRICTED
from keyferry.providers.settings import ProviderSettings
from tests.fakes.certificates import IssuedCertificate, issue_certificate, new_ec_key, new_rsa_key
from tests.fakes.devvault import DEFAULT_TENANT, DevVault, running_devvault
from tests.fakes.driver import NAMESPACE, Driver, running_driver
from tests.fakes.keyvault_peer import entry
from tests.fakes.resilience import uncached_fetcher
from tests.fakes.volume import read_current, read_through_links

HOST = "test.domain.com"
VAULT = "upstream"
CLIENT = "22222222-0000-4000-8000-000000000002"
BOUND = "33333333-0000-4000-8000-000000000003"
SUBJECT = f"system:serviceaccount:{NAMESPACE}:web"
EXCHANGE, BINDING = "api://AzureADTokenExchange", "api://AKSIdentityBinding"
POLL = 30.0
"""Seconds between two refreshes."""
PEM, PKCS12 = "application/x-pem-file", "application/x-pkcs12"

BASE = {"keyvaultName": VAULT, "tenantID": DEFAULT_TENANT}
WORKLOAD = {"clientID": CLIENT}
USER_ASSIGNED = {"useVMManagedIdentity": "true", "userAssignedIdentityID": BOUND}
POD = {"usePodIdentity": "true"}
IDENTITY_BINDING = {"useAzureTokenProxy": "true", "clientID": BOUND}
MODES = {
    "workload identity": WORKLOAD,
    "user-assigned": USER_ASSIGNED,
    "pod identity": POD,
    "identity binding": IDENTITY_BINDING,
}


class Fixture:
    """Upstream's vault: secret1, key1, the two HSM keys, and three self-signed certificates."""

    def __init__(self, vault: DevVault) -> None:
        self.vault = vault
        vault.set_secret(VAULT, "secret1", "test")
        vault.create_key(VAULT, "key1", "RSA", size=2048)
        vault.create_key(VAULT, "rsahsmkey1", "RSA-HSM")
        vault.create_key(VAULT, "echsmkey1", "EC-HSM", curve="P-256")
        self.certificates = {
            "pemcert1": self._imported("pemcert1", issue_certificate(HOST, new_rsa_key()), PEM),
            "pkcs12cert1": self._imported(
                "pkcs12cert1", issue_certificate(HOST, new_rsa_key()), PKCS12
            ),
            "ecccert1": self._imported("ecccert1", issue_certificate(HOST, new_ec_key()), PKCS12),
        }
        vault.add_app(CLIENT, tenant=DEFAULT_TENANT, secret=None)
        vault.federate(CLIENT, subject=SUBJECT)
        vault.add_managed_identity(BOUND, tenant=DEFAULT_TENANT)
        vault.assign_to_pods(BOUND, namespace=NAMESPACE)
        vault.federate(BOUND, subject=SUBJECT, audience=BINDING)
        vault.grant(VAULT, CLIENT, "get", "list")
        vault.grant(VAULT, BOUND, "get", "list")

    def _imported(self, name: str, made: IssuedCertificate, content_type: str) -> IssuedCertificate:
        """From a pfx with an empty password, as upstream does."""
        self.vault.import_certificate(VAULT, name, made.pkcs12(), content_type=content_type)
        return made


@pytest.fixture
async def upstream(tmp_path: Path) -> AsyncIterator[Fixture]:
    times = count(1_700_000_000)
    async with running_devvault(tmp_path, wall_time=lambda: next(times)) as running:
        yield Fixture(running)


@asynccontextmanager
async def node(home: Path, upstream: Fixture, *, separate: bool = False) -> AsyncIterator[Driver]:
    """A driver with rotation whose provider reaches the vault."""
    https = HttpsClient(upstream.vault.emulator.https)
    settings = ProviderSettings(separate_files=separate, restrictions=UNRESTRICTED)
    provider = AzureProvider(https, uncached_fetcher(), settings, emulator=upstream.vault.emulator)
    async with running_driver(home, built_in={"azure": provider}, rotation_interval=POLL) as driver:
        yield driver


async def mounted(
    driver: Driver,
    upstream: Fixture,
    *entries: str,
    identity: Mapping[str, str] = WORKLOAD,
    secret_objects: Sequence[Mapping[str, object]] = (),
    pod: str = "web-0",
    name: str = "spc",
) -> Path:
    """Publish a class with these entries, as kubelet does for a pod of the service account."""
    parameters = {**BASE, **identity, "objects": json.dumps({"array": entries})}
    driver.write_class(name, provider="azure", parameters=parameters, secret_objects=secret_objects)
    return await publish(driver, upstream, name, pod)


async def publish(driver: Driver, upstream: Fixture, name: str = "spc", pod: str = "web-0") -> Path:
    """One call of kubelet."""
    message = driver.publish_request(name, pod)
    message.volume_context[SERVICE_ACCOUNT_TOKENS] = upstream.vault.service_account_token(
        SUBJECT, audience=(EXCHANGE, BINDING)
    )
    await driver.send_publish(message)
    return driver.target(pod)


def synced(name: str, type_: str, **keys: str) -> dict[str, object]:
    """One entry of secretObjects: key -> objectName."""
    data = [{"objectName": found, "key": key.replace("_", ".")} for key, found in keys.items()]
    return {"secretName": name, "type": type_, "data": data}


def secret_data(driver: Driver, name: str) -> dict[str, bytes]:
    manifest = driver.secret(name)
    assert manifest is not None
    return {key: base64.b64decode(text) for key, text in manifest["data"].items()}


def openssl(given: bytes, *arguments: str) -> bytes:
    done = subprocess.run(["openssl", *arguments], input=given, capture_output=True, check=True)
    return done.stdout


async def test_e2e_1_secret_by_name_and_alias_is_synced(
    mount_home: Path, upstream: Fixture
) -> None:
    """With the old key tenantId and v1alpha1; TLS and Opaque Secrets have data."""
    objects = [
        entry("secret", "secret1"),
        entry("secret", "secret1", objectAlias="SECRET_1"),
        entry("secret", "pemcert1"),
    ]
    manifest = {
        "apiVersion": "secrets-store.csi.x-k8s.io/v1alpha1",
        "kind": "SecretProviderClass",
        "metadata": {"name": "spc", "namespace": NAMESPACE},
        "spec": {
            "provider": "azure",
            "parameters": {
                "keyvaultName": VAULT,
                "tenantId": DEFAULT_TENANT,
                **WORKLOAD,
                "objects": json.dumps({"array": objects}),
            },
            "secretObjects": [
                synced("tls", "kubernetes.io/tls", tls_crt="pemcert1", tls_key="pemcert1"),
                synced("opaque", "Opaque", username="secret1"),
            ],
        },
    }
    async with node(mount_home, upstream) as driver:
        (driver.manifests / "spc.yaml").write_text(json.dumps(manifest))
        target = await publish(driver, upstream)
        found = read_through_links(target)
        assert (b"test", b"test") == (found["secret1"], found["SECRET_1"])
        tls = secret_data(driver, "tls")
        assert {"tls.crt", "tls.key"} == {key for key, value in tls.items() if value}
        assert {"username": b"test"} == secret_data(driver, "opaque")
        await driver.unpublish()


async def test_e2e_2_keys_are_public_pem(mount_home: Path, upstream: Fixture) -> None:
    """By name and alias, also of an HSM; openssl reads the modulus."""
    names = ("key1", "rsahsmkey1", "echsmkey1")
    async with node(mount_home, upstream) as driver:
        target = await mounted(
            driver,
            upstream,
            entry("key", "key1", objectAlias="KEY_1"),
            *(entry("key", name) for name in names),
        )
        found = read_through_links(target)
        await driver.unpublish()
    assert found["key1"] == found["KEY_1"]
    assert openssl(found["key1"], "rsa", "-pubin", "-noout", "-modulus").startswith(b"Modulus=")
    for name in names:
        assert found[name].startswith(b"-----BEGIN PUBLIC KEY-----\n")
        assert found[name].endswith(b"-----END PUBLIC KEY-----\n")


async def test_e2e_3_certificates_of_every_kind_as_every_type(
    mount_home: Path, upstream: Fixture
) -> None:
    """Eleven objects, checked with openssl: host names, keys, bundles and pfx."""
    certificates = upstream.certificates
    three = [
        entry(type_, name, objectAlias=f"{name}-{type_}")
        for name in certificates
        for type_ in ("cert", "key", "secret")
    ]
    pfx = [
        entry("secret", name, objectAlias=f"{name}-pfx", objectFormat="pfx")
        for name in ("pkcs12cert1", "ecccert1")
    ]
    async with node(mount_home, upstream) as driver:
        found = read_through_links(await mounted(driver, upstream, *three, *pfx))
        await driver.unpublish()
    assert 11 == len(found)
    for name in certificates:
        leaf, public = found[f"{name}-cert"], found[f"{name}-key"]
        assert b"does match" in openssl(leaf, "x509", "-noout", "-checkhost", HOST)
        assert public == openssl(leaf, "x509", "-noout", "-pubkey")
        bundle = found[f"{name}-secret"]
        assert public == openssl(bundle, "pkey", "-pubout")
        assert public == openssl(bundle, "x509", "-noout", "-pubkey")
    for name in ("pkcs12cert1", "ecccert1"):
        opened = openssl(
            base64.b64decode(found[f"{name}-pfx"]), "pkcs12", "-nodes", "-passin", "pass:"
        )
        assert found[f"{name}-key"] == openssl(opened, "pkey", "-pubout")


async def test_e2e_4_certificate_and_key_in_separate_files(
    mount_home: Path, upstream: Fixture
) -> None:
    """The key matches the certificate."""
    async with node(mount_home, upstream, separate=True) as driver:
        target = await mounted(
            driver, upstream, entry("secret", "pemcert1", objectAlias="pemcert1-secret")
        )
        found = read_through_links(target)
        await driver.unpublish()
    certificate, key = found["pemcert1-secret.crt"], found["pemcert1-secret.key"]
    assert b"does match" in openssl(certificate, "x509", "-noout", "-checkhost", HOST)
    public = openssl(certificate, "x509", "-noout", "-pubkey")
    assert public == openssl(key, "pkey", "-pubout")


async def test_e2e_5_permission_of_a_file(mount_home: Path, upstream: Fixture) -> None:
    """The file behind the symbolic link has mode 0755."""
    async with node(mount_home, upstream) as driver:
        target = await mounted(driver, upstream, entry("secret", "secret1", filePermission="0755"))
        assert 0o755 == read_current(target)["secret1"][0]
        await driver.unpublish()


async def test_e2e_6_history_is_synced_by_its_paths(mount_home: Path, upstream: Fixture) -> None:
    """There is one version of at most five."""
    async with node(mount_home, upstream) as driver:
        target = await mounted(
            driver,
            upstream,
            entry("secret", "secret1", objectVersionHistory=5),
            entry("secret", "secret1", objectVersionHistory=5, objectAlias="SECRET_1"),
            entry("secret", "pemcert1", objectVersionHistory=5),
            secret_objects=[
                synced("tls", "kubernetes.io/tls", tls_crt="pemcert1/0", tls_key="pemcert1/0"),
                synced("opaque", "Opaque", username="secret1/0"),
            ],
        )
        found = read_through_links(target)
        assert {"secret1/0", "SECRET_1/0", "pemcert1/0"} == set(found)
        assert (b"test", b"test") == (found["secret1/0"], found["SECRET_1/0"])
        assert all(secret_data(driver, "tls").values())
        assert {"username": b"test"} == secret_data(driver, "opaque")
        await driver.unpublish()


@pytest.mark.parametrize("mode", ["workload identity", "user-assigned", "pod identity"])
async def test_e2e_7_rotation_updates_mount_and_secret(
    mount_home: Path, upstream: Fixture, mode: str
) -> None:
    """With a history, the old value becomes version 1."""
    upstream.vault.set_secret(VAULT, "rotated", "secret")
    async with node(mount_home, upstream) as driver:
        target = await mounted(
            driver,
            upstream,
            entry("secret", "rotated"),
            entry("secret", "rotated", objectAlias="old", objectVersionHistory=2),
            identity=MODES[mode],
            secret_objects=[synced("opaque", "Opaque", value="rotated")],
        )
        assert b"secret" == read_through_links(target)["rotated"]
        upstream.vault.set_secret(VAULT, "rotated", "rotated")
        driver.clock.now += POLL + 1
        await publish(driver, upstream)
        found = read_through_links(target)
        assert (b"rotated", b"rotated", b"secret") == tuple(
            found[path] for path in ("rotated", "old/0", "old/1")
        )
        assert {"value": b"rotated"} == secret_data(driver, "opaque")
        await driver.unpublish()


@pytest.mark.parametrize("mode", list(MODES))
async def test_e2e_8_every_mode_reads(mount_home: Path, upstream: Fixture, mode: str) -> None:
    """A secret and a key."""
    async with node(mount_home, upstream) as driver:
        target = await mounted(
            driver,
            upstream,
            entry("secret", "secret1"),
            entry("key", "key1"),
            identity=MODES[mode],
        )
        found = read_through_links(target)
        await driver.unpublish()
    assert b"test" == found["secret1"]
    assert found["key1"].startswith(b"-----BEGIN PUBLIC KEY-----")


async def test_e2e_8_two_volumes_of_one_pod_use_two_modes(
    mount_home: Path, upstream: Fixture
) -> None:
    """Workload identity and identity binding, with one service account."""
    async with node(mount_home, upstream) as driver:
        for volume, mode in (("first", "workload identity"), ("second", "identity binding")):
            target = await mounted(
                driver,
                upstream,
                entry("secret", "secret1"),
                identity=MODES[mode],
                pod=volume,
                name=volume,
            )
            assert {"secret1": b"test"} == read_through_links(target)
        for volume in ("first", "second"):
            await driver.unpublish(volume)


async def test_e2e_9_cloud_from_a_file(mount_home: Path, upstream: Fixture) -> None:
    """AzureStackCloud with upstream's test file, which has the values of the public cloud."""
    environment = {
        "name": "AzureStackCloud",
        "activeDirectoryEndpoint": "https://login.microsoftonline.com/",
        "keyVaultEndpoint": "https://vault.azure.net/",
        "keyVaultDNSSuffix": "vault.azure.net",
    }
    path = mount_home / "cloud.json"
    path.write_text(json.dumps(environment))
    identity = WORKLOAD | {"cloudName": "AzureStackCloud", "cloudEnvFileName": str(path)}
    async with node(mount_home, upstream) as driver:
        target = await mounted(
            driver,
            upstream,
            entry("secret", "secret1"),
            entry("secret", "secret1", objectAlias="SECRET_1"),
            identity=identity,
        )
        assert {"secret1": b"test", "SECRET_1": b"test"} == read_through_links(target)
        await driver.unpublish()
