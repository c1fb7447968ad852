"""examples/options with a real OpenBao server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from keyferry.providers.known_fields.attributes import SERVICE_ACCOUNT, SERVICE_ACCOUNT_TOKENS
from tests.e2e.node import BareNode, Driver, Volume
from tests.e2e.vault.engines import allow, enable_kv, jwt_role, put_kv
from tests.e2e.vault.server import VaultServer, running_server
from tests.e2e.vault.tokens import TokenSigner

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

EXAMPLES = Path(__file__).parents[3] / "examples" / "options"
PRODUCTS = ("vault", "openbao")
ROTATING = (
    "--enable-secret-rotation",
    "--rotation-poll-interval=0",
    "--negative-cache-ttl=0",
)
"""Each call of kubelet refreshes the volume."""
ORDERS = {"username": "shop", "password": "Hello!", "port": "5432"}
MAIL = "smtp:\n  hosts: [mail.example.com]\n  password: secret\n"
ADDRESS = "https://vault.example.com:8200"
REPLICA = "https://replica.example.com:8200"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(vault: VaultServer, signer: TokenSigner) -> VaultServer:
    """Prepare the server for the role and the secrets of the examples.

    Kubernetes auth needs a cluster: a JWT auth method at its path replaces it.
    """
    await enable_kv(vault, "secret", version=2)
    await put_kv(vault, "secret/data/db", password="Hello!")
    await put_kv(vault, "secret/data/api", key="two\nlines")
    await put_kv(vault, "secret/data/tls", bundle="it's a file")
    await put_kv(vault, "secret/data/login", user="shop", password="p&ss")
    await put_kv(vault, "secret/data/orders", **ORDERS)
    await put_kv(vault, "secret/data/mail", settings=MAIL)
    await allow(vault, "shop", "secret/data/+")
    await vault.write("sys/auth/kubernetes", {"type": "jwt"})
    key = {"jwt_validation_pubkeys": [signer.public_key]}
    await vault.write("auth/kubernetes/config", key)
    for audience in PRODUCTS:
        await jwt_role(vault, f"shop-{audience}", "shop", mount="kubernetes", audience=audience)
    return vault


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replica(
    shop: VaultServer, signer: TokenSigner, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[VaultServer]:
    """Run a second server, and create the namespace `team` of the first one."""
    folder = tmp_path_factory.mktemp("replica") / "server"
    async with running_server(folder, authority=shop.authority) as server:
        await shop.write("sys/namespaces/team", {})
        for vault, namespace in ((shop, "team"), (server, "")):
            await enable_kv(vault, "secret", version=2, namespace=namespace)
            data = {"data": {"password": f"of {namespace or 'replica'}"}}
            await vault.write("secret/data/db", data, namespace=namespace)
            policy = {"policy": 'path "secret/*" { capabilities = ["read"] }'}
            await vault.write("sys/policies/acl/shop", policy, namespace=namespace)
            await vault.write("sys/auth/kubernetes", {"type": "jwt"}, namespace=namespace)
            key = {"jwt_validation_pubkeys": [signer.public_key]}
            await vault.write("auth/kubernetes/config", key, namespace=namespace)
            for audience in PRODUCTS:
                role = {
                    "role_type": "jwt",
                    "bound_subject": "system:serviceaccount:shop:web",
                    "user_claim": "sub",
                    "bound_audiences": [audience],
                    "token_policies": ["shop"],
                }
                path = f"auth/kubernetes/role/shop-{audience}"
                await vault.write(path, role, namespace=namespace)
        yield server


@pytest_asyncio.fixture(loop_scope="module")
async def driver(node: BareNode) -> AsyncIterator[Driver]:
    """Run a driver for one test."""
    running = await node.start_driver()
    yield running
    await running.stop()


def spec_of(name: str, product: str, vault: VaultServer) -> dict[str, Any]:
    """Return the spec of the SecretProviderClass of an example, for the server of the test."""
    documents = yaml.safe_load_all((EXAMPLES / f"{name}-vault.yaml").read_text())
    (spec,) = (each["spec"] for each in documents if each["kind"] == "SecretProviderClass")
    parameters: dict[str, str] = spec["parameters"]
    assert ADDRESS == parameters["vaultAddress"]
    parameters |= {"vaultAddress": vault.address, "vaultCACertPath": str(vault.ca)}
    parameters["roleName"] = f"shop-{product}"
    return {"provider": product, "parameters": parameters}


def volume_of(node: BareNode, name: str, signer: TokenSigner, product: str) -> Volume:
    """Return the volume of a pod with the service account of the examples."""
    context = {
        SERVICE_ACCOUNT: "web",
        SERVICE_ACCOUNT_TOKENS: signer.kubelet_json("shop", "web", audience=product),
    }
    return node.volume(name, context=context)


def contents(volume: Volume) -> Mapping[str, bytes]:
    """Return the content of each file."""
    return {path: content for path, (_, content) in volume.files().items()}


@pytest.mark.parametrize("product", PRODUCTS)
async def test_files_belong_to_other_users(
    node: BareNode, driver: Driver, shop: VaultServer, signer: TokenSigner, product: str
) -> None:
    """That of the SecretProviderClass, and that of the entry."""
    node.put_class("owner", spec_of("file-owner", product, shop))
    volume = volume_of(node, "owner", signer, product)
    await driver.publish(volume)
    assert {"api-key": b"two\nlines", "db-password": b"Hello!"} == contents(volume)
    found = {
        name: (status.st_mode & 0o777, status.st_uid, status.st_gid)
        for name in ("api-key", "db-password")
        for status in [(volume.path / name).stat()]
    }
    assert {"api-key": (0o440, 1000, 2000), "db-password": (0o400, 999, 0)} == found
    await driver.unpublish(volume)


@pytest.mark.parametrize("product", PRODUCTS)
async def test_values_in_documents_are_files(
    node: BareNode, driver: Driver, shop: VaultServer, signer: TokenSigner, product: str
) -> None:
    """The keys of a secret, and the values that YAML in one of its keys has."""
    node.put_class("keys", spec_of("json-and-yaml-keys", product, shop))
    volume = volume_of(node, "keys", signer, product)
    await driver.publish(volume)
    assert contents(volume) == {
        "mail": MAIL.encode(),
        "mail-host": b"mail.example.com",
        "mail-password": b"secret",
        "orders/password": b"Hello!",
        "orders/port": b"5432",
        "orders/username": b"shop",
    }
    assert 0o400 == (volume.path / "mail-password").stat().st_mode & 0o777
    await driver.unpublish(volume)


@pytest.mark.parametrize("product", PRODUCTS)
async def test_variables_are_in_one_file(
    node: BareNode, driver: Driver, shop: VaultServer, signer: TokenSigner, product: str
) -> None:
    """A value that the file cannot represent is left out of it."""
    node.put_class("variables", spec_of("environment", product, shop))
    volume = volume_of(node, "variables", signer, product)
    await driver.publish(volume)
    assert contents(volume) == {
        ".env": b"DB_PASSWORD='Hello!'\nPAYMENT_API_KEY='two\nlines'\n",
        "api-key": b"two\nlines",
        "db-password": b"Hello!",
        "tls": b"it's a file",
    }
    await driver.unpublish(volume)


@pytest.mark.parametrize("product", PRODUCTS)
async def test_missing_objects_are_left_out_until_they_exist(
    node: BareNode, shop: VaultServer, signer: TokenSigner, product: str
) -> None:
    """A missing key, a missing secret with a default, and both that disappear again."""
    driver = await node.start_driver(*ROTATING)
    node.put_class("optional", spec_of("optional-objects", product, shop))
    volume = volume_of(node, "optional", signer, product)
    try:
        await driver.publish(volume)
        assert {"db-password": b"Hello!", "greeting": b"hello"} == contents(volume)
        await put_kv(shop, "secret/data/greeting", text="good morning")
        await put_kv(shop, "secret/data/db", password="Hello!", user="shop")
        await driver.publish(volume)
        found = {"db-password": b"Hello!", "db-user": b"shop", "greeting": b"good morning"}
        assert found == contents(volume)
        await shop.delete("secret/data/greeting")
        await put_kv(shop, "secret/data/db", password="changed")
        await driver.publish(volume)
        # The last content of what disappeared is kept.
        assert found | {"db-password": b"changed"} == contents(volume)
        await driver.unpublish(volume)
    finally:
        await put_kv(shop, "secret/data/db", password="Hello!")
        await driver.stop()


@pytest.mark.parametrize("product", PRODUCTS)
async def test_one_volume_has_secrets_of_several_vaults(
    node: BareNode,
    driver: Driver,
    shop: VaultServer,
    replica: VaultServer,
    signer: TokenSigner,
    product: str,
) -> None:
    """A namespace of the same server, and another server."""
    spec = spec_of("several-vaults", product, shop)
    objects = spec["parameters"]["objects"].replace(REPLICA, replica.address)
    spec["parameters"]["objects"] = objects.replace("shop-reader", f"shop-{product}")
    node.put_class("several", spec)
    volume = volume_of(node, "several", signer, product)
    await driver.publish(volume)
    assert contents(volume) == {
        "db-password": b"Hello!",
        "team-password": b"of team",
        "replica-password": b"of replica",
    }
    await driver.unpublish(volume)


@pytest.mark.parametrize("product", PRODUCTS)
async def test_files_are_made_from_templates(
    node: BareNode, driver: Driver, shop: VaultServer, signer: TokenSigner, product: str
) -> None:
    """From the keys of one secret, which is read once."""
    node.put_class("templates", spec_of("templates", product, shop))
    volume = volume_of(node, "templates", signer, product)
    await driver.publish(volume)
    assert contents(volume) == {
        "db/password": b"p&ss",
        "db/user": b"shop",
        ".pgpass": b"db:5432:shop:shop:p&ss\n",
        "application.properties": (
            b"spring.datasource.url=jdbc:postgresql://db:5432/shop\n"
            b"spring.datasource.username=shop\nspring.datasource.password=p&ss\n"
        ),
        "url": b"postgresql://shop:p%26ss@db/shop",
    }
    await driver.unpublish(volume)
