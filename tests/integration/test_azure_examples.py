"""examples/azure: a class and a pod for each identity mode, run against the development vault."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from keyferry.content import SecretFile
from keyferry.net.http_client import HttpsClient
from keyferry.providers.api import MountCall
from keyferry.providers.azure.auth.identity import IdentityMode, profile
from keyferry.providers.azure.params import parse_mount
from keyferry.providers.azure.provider import AzureProvider
from keyferry.providers.known_fields.attributes import (
    POD_NAME,
    POD_NAMESPACE,
    SERVICE_ACCOUNT,
    SERVICE_ACCOUNT_TOKENS,
)
from tests.fakes.app_certificate import SelfSignedCertificate, new_certificate
from tests.fakes.devvault import DEFAULT_TENANT, DevVault, running_devvault
from tests.fakes.resilience import uncached_fetcher

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "azure"
EXAMPLES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
CLIENT = "22222222-0000-4000-8000-000000000002"
SECRET = "s3cret"
SUBJECT = "system:serviceaccount:shop:web"
AUDIENCES = ("api://AzureADTokenExchange", "api://AKSIdentityBinding")


@dataclass(frozen=True)
class Example:
    """One file of the folder."""

    mode: str

    def one(self, kind: str) -> Mapping[str, object]:
        """Its only document of this kind."""
        documents = yaml.safe_load_all((FOLDER / f"{self.mode}.yaml").read_text())
        (found,) = [document for document in documents if document["kind"] == kind]
        assert isinstance(found, dict)
        return found

    def at(self, kind: str, *path: str | int) -> object:
        """A value in its only document of this kind; None if it does not exist."""
        value: object = self.one(kind)
        for step in path:
            if isinstance(step, int):
                assert isinstance(value, list)
                value = value[step]
            else:
                assert isinstance(value, dict)
                value = value.get(step)
        return value

    def call(self, tokens: str, secrets: Mapping[str, str]) -> MountCall:
        """What kubelet would ask for its pod."""
        parameters = self.at("SecretProviderClass", "spec", "parameters")
        assert isinstance(parameters, dict)
        attributes = parameters | {
            POD_NAME: str(self.at("Pod", "metadata", "name")),
            POD_NAMESPACE: str(self.at("Pod", "metadata", "namespace")),
            SERVICE_ACCOUNT: str(self.at("Pod", "spec", "serviceAccountName") or "default"),
            SERVICE_ACCOUNT_TOKENS: tokens,
        }
        has_secret = self.at("Pod", "spec", "volumes", 0, "csi", "nodePublishSecretRef")
        return MountCall(attributes, secrets if has_secret else None)


@pytest.fixture(scope="module")
def certificate() -> SelfSignedCertificate:
    """The certificate of the service principal."""
    return new_certificate()


@pytest.fixture
async def vault(tmp_path: Path, certificate: SelfSignedCertificate) -> AsyncIterator[DevVault]:
    """A cloud in which somebody has done what the guides say, for the identity of one mode."""
    async with running_devvault(tmp_path) as running:
        running.set_secret("contoso", "secret1", "Hello!")
        yield running


def _app(vault: DevVault, certificate: SelfSignedCertificate) -> None:
    vault.add_app(CLIENT, tenant=DEFAULT_TENANT, secret=SECRET)
    vault.add_app_certificate(CLIENT, certificate.certificate_pem)
    vault.federate(CLIENT, subject=SUBJECT)


def _managed(vault: DevVault, _: SelfSignedCertificate) -> None:
    vault.add_managed_identity(CLIENT)
    vault.assign_to_pods(CLIENT, namespace="shop")
    vault.federate(CLIENT, subject=SUBJECT, audience=AUDIENCES[1])


def _machine(vault: DevVault, _: SelfSignedCertificate) -> None:
    vault.add_managed_identity(CLIENT, system_assigned=True)


PREPARE: Mapping[str, Callable[[DevVault, SelfSignedCertificate], None]] = {
    "service-principal": _app,
    "service-principal-certificate": _app,
    "managed-identity-user-assigned": _managed,
    "managed-identity-system-assigned": _machine,
    "workload-identity": _app,
    "identity-binding": _managed,
    "pod-identity": _managed,
    "arc": _machine,
}


def credentials(mode: str, certificate: SelfSignedCertificate) -> dict[str, str]:
    """The Secret that the guide of a mode makes."""
    if mode == "service-principal":
        return {"clientid": CLIENT, "clientsecret": SECRET}
    key = certificate.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return {"clientid": CLIENT, "clientcertificate": key.decode() + certificate.certificate_pem}


@pytest.mark.parametrize("mode", EXAMPLES)
async def test_each_example_delivers_its_secret(
    vault: DevVault, certificate: SelfSignedCertificate, mode: str
) -> None:
    """Unmodified, with only the setup of its guide."""
    PREPARE[mode](vault, certificate)
    vault.grant("contoso", CLIENT)
    tokens = vault.service_account_token(SUBJECT, audience=AUDIENCES)
    provider = AzureProvider(
        HttpsClient(vault.emulator.https), uncached_fetcher(), emulator=vault.emulator
    )
    try:
        result = await provider.mount(Example(mode).call(tokens, credentials(mode, certificate)))
    finally:
        await provider.close()
    assert result.files == (SecretFile("SECRET_1", 0o644, b"Hello!"),)


@pytest.mark.parametrize("mode", EXAMPLES)
def test_pod_of_each_example_mounts_its_secret_provider_class(mode: str) -> None:
    """Read-only, in one namespace, with the driver."""
    example = Example(mode)
    csi = example.at("Pod", "spec", "volumes", 0, "csi")
    assert isinstance(csi, dict)
    assert (csi["driver"], csi["readOnly"]) == ("secrets-store.csi.k8s.io", True)
    name = example.at("SecretProviderClass", "metadata", "name")
    assert csi["volumeAttributes"] == {"secretProviderClass": name}
    namespaces = [
        example.at(kind, "metadata", "namespace") for kind in ("SecretProviderClass", "Pod")
    ]
    assert namespaces == ["shop", "shop"]


def test_each_identity_mode_has_an_example(certificate: SelfSignedCertificate) -> None:
    """A new mode also needs an example."""
    entry = {"token": "a.b.c", "expirationTimestamp": "2030-01-01T00:00:00Z"}
    tokens = json.dumps(dict.fromkeys(AUDIENCES, entry))
    covered: set[IdentityMode] = set()
    for mode in EXAMPLES:
        call = Example(mode).call(tokens, credentials(mode, certificate))
        covered.add(profile(parse_mount(call.attributes, call.secrets).sources[0].identity).mode)
    assert covered == set(IdentityMode)


@pytest.mark.parametrize("mode", EXAMPLES)
def test_each_example_has_its_guide(mode: str) -> None:
    """Each refers to the other."""
    guide = ROOT / "docs" / "guides" / f"azure-{mode}.md"
    assert f"examples/azure/{mode}.yaml" in guide.read_text()
    assert f"docs/guides/{guide.name}" in (FOLDER / f"{mode}.yaml").read_text()


async def test_example_of_the_reference_delivers_its_secret(
    vault: DevVault, certificate: SelfSignedCertificate
) -> None:
    """The first one of docs/reference/azure.md: workload identity, alias in a folder, mode."""
    text = (ROOT / "docs" / "reference" / "azure.md").read_text()
    shown = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert shown is not None
    _app(vault, certificate)
    vault.set_secret("contoso", "db-password", "Hello!")
    vault.grant("contoso", CLIENT)
    parameters = yaml.safe_load(shown[1])["spec"]["parameters"]
    pod = {POD_NAME: "web-0", POD_NAMESPACE: "shop", SERVICE_ACCOUNT: "web"}
    tokens = {SERVICE_ACCOUNT_TOKENS: vault.service_account_token(SUBJECT, audience=AUDIENCES)}
    provider = AzureProvider(
        HttpsClient(vault.emulator.https), uncached_fetcher(), emulator=vault.emulator
    )
    try:
        result = await provider.mount(MountCall(parameters | pod | tokens))
    finally:
        await provider.close()
    assert result.files == (SecretFile("database/password", 0o640, b"Hello!"),)
