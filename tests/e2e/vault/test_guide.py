"""The laptop section of docs/guides/vault.md, and the examples of examples/vault."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from cryptography import x509

from keyferry.providers.known_fields.attributes import SERVICE_ACCOUNT, SERVICE_ACCOUNT_TOKENS
from tests.e2e.cluster.api_server import free_ports
from tests.e2e.cluster.certificates import Authority
from tests.e2e.node import BareNode
from tests.e2e.vault.engines import (
    RENEW_LEASES,
    allow,
    enable_approle,
    enable_cert,
    enable_database,
    enable_kv,
    enable_pki,
    jwt_role,
    put_kv,
)
from tests.e2e.vault.postgres import Postgres
from tests.e2e.vault.programs import server_programs
from tests.e2e.vault.server import VaultServer
from tests.e2e.vault.tokens import TokenSigner
from tests.fakes.guides import COMMAND_TIMEOUT_SECONDS, GUIDES, commands, shell, unmount

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

GUIDE = GUIDES / "vault.md"
EXAMPLES = Path(__file__).parents[3] / "examples" / "vault"
ADDRESS = "https://vault.example.com:8200"
POLICY_PATHS = ("secret/data/db", "database/creds/app")

PATIENT = "for i in $(seq 300); do bao status > /dev/null 2>&1 && break; sleep 0.1; done"
"""A person is slower than a server that starts; a script is not."""


async def test_laptop_commands_of_the_guide_work(tmp_path: Path) -> None:
    """From starting a server to reading the file."""
    (port,) = free_ports(1)
    script = commands(GUIDE, "Try it on a laptop")
    script = script.replace("examples/vault", str(EXAMPLES)).replace("/tmp/shop", "shop")
    script = script.replace(
        "-dev-root-token-id=root &",
        f"-dev-root-token-id=root -dev-listen-address=127.0.0.1:{port} > server.log 2>&1 &",
    )
    script = script.replace(
        "BAO_ADDR=http://127.0.0.1:8200 BAO_TOKEN=root",
        f"BAO_ADDR=http://127.0.0.1:{port} BAO_TOKEN=root\n{PATIENT}",
    )
    environment = {
        "PATH": f"{server_programs().bao.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
    }

    def run() -> str:
        try:
            with shell(tmp_path, script, environment) as process:
                output, _ = process.communicate(timeout=COMMAND_TIMEOUT_SECONDS)
        finally:
            unmount(tmp_path / "shop" / "files")
        return output

    output = await asyncio.to_thread(run)
    assert "Hello!unmounted shop/files" in output.splitlines(), output
    assert not (tmp_path / "shop").exists()


class Example:
    """One file of the directory."""

    def __init__(self, name: str) -> None:
        documents = list(yaml.safe_load_all((EXAMPLES / f"{name}.yaml").read_text()))
        self.by_kind: Mapping[str, Any] = {each["kind"]: each for each in documents}
        assert len(documents) == len(self.by_kind)

    def spec_at(self, vault: VaultServer) -> dict[str, Any]:
        """Return the spec of its SecretProviderClass, with the address and CA of the test."""
        spec: dict[str, Any] = dict(self.by_kind["SecretProviderClass"]["spec"])
        assert ADDRESS == spec["parameters"]["vaultAddress"]
        place = {"vaultAddress": vault.address, "vaultCACertPath": str(vault.ca)}
        return spec | {"parameters": spec["parameters"] | place}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def credentials(
    vault: VaultServer,
    postgres: Postgres,
    signer: TokenSigner,
    tmp_path_factory: pytest.TempPathFactory,
) -> Mapping[str, Mapping[str, str]]:
    """Prepare a server as in the guide, and return the Secret data of each example.

    Kubernetes auth needs a cluster: a JWT auth method at its path replaces it.
    """
    await enable_kv(vault, "secret", version=2)
    await put_kv(vault, "secret/data/db", password="Hello!")
    await enable_pki(vault)
    await enable_database(vault, postgres)
    await allow(vault, "shop", *POLICY_PATHS)
    await allow(vault, "issue", "pki/issue/web", capabilities=["update"])
    policies = ("shop", "issue", RENEW_LEASES)
    for mount in ("jwt", "kubernetes"):
        if mount == "kubernetes":
            await vault.write(f"sys/auth/{mount}", {"type": "jwt"})
            await vault.write(
                f"auth/{mount}/config", {"jwt_validation_pubkeys": [signer.public_key]}
            )
        await jwt_role(vault, "shop", *policies, mount=mount, audience="vault")
    clients = Authority(tmp_path_factory.mktemp("clients") / "pki")
    return {
        "approle": await enable_approle(vault, "shop", *policies),
        "certificate": await enable_cert(vault, clients, "shop", *policies),
    }


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.yaml")))
async def test_each_example_delivers_its_secret(
    node: BareNode,
    vault: VaultServer,
    signer: TokenSigner,
    credentials: Mapping[str, Mapping[str, str]],
    name: str,
) -> None:
    """For a pod with the service account, Secret and volume of the example."""
    example = Example(name)
    pod = example.by_kind["Pod"]["spec"]
    (volume_spec,) = pod["volumes"]
    csi = volume_spec["csi"]
    assert csi["volumeAttributes"] == {"secretProviderClass": f"vault-{name}"}
    assert ("nodePublishSecretRef" in csi) == (name in credentials)
    node.put_class(f"vault-{name}", example.spec_at(vault))
    driver = await node.start_driver()
    account = pod["serviceAccountName"]
    context = {
        SERVICE_ACCOUNT: account,
        SERVICE_ACCOUNT_TOKENS: signer.kubelet_json("shop", account, audience="vault"),
    }
    volume = node.volume(f"vault-{name}", context=context, secrets=credentials.get(name, {}))
    await driver.publish(volume)
    files = {path: content for path, (_, content) in volume.files().items()}
    match name:
        case "database":
            assert {"username", "password"} == set(files)
        case "pki":
            certificate = x509.load_pem_x509_certificate(files["tls.crt"])
            assert "CN=shop.example.com" == certificate.subject.rfc4514_string()
            assert files["tls.key"].startswith(b"-----BEGIN")
        case _:
            assert {"password": b"Hello!"} == files
    await driver.unpublish(volume)
    await driver.stop()


async def test_guide_links_every_example() -> None:
    """Every example links the guide."""
    text = GUIDE.read_text()
    examples = list(EXAMPLES.glob("*.yaml"))
    assert examples
    for path in examples:
        assert f"examples/vault/{path.name}" in text
        assert "docs/guides/vault.md" in path.read_text()
