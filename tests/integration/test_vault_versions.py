"""The HMAC key for object versions: from a Secret, and without permission to read it."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from keyferry.providers.settings import VaultSettings
from keyferry.providers.vault.product import OPENBAO, VAULT, Product
from tests.fakes.kube_api import KubeApiServer, running_api
from tests.fakes.log import captured_log
from tests.fakes.vault_api import VaultApi, running_vault
from tests.fakes.vault_mounts import FakePod, VaultMounts, entry, vault_mounts

NAMESPACE = "kube-system"
NAME = VAULT.default_hmac_secret
OBJECT = entry("object-one", "path/one", secretKey="the-key")
KEY = b"a" * 32
VERSION = "0uxNScp43Aguz265wy8cT0ZY51xzck4wZX4bovLmYTI="
"""Of `OBJECT` with the content `bar` by `KEY`.

Source: docs/reference/upstream-vault-provider.md#object-versions
"""


@dataclass
class Node:
    """A node of a cluster: its API server, service account and directory.

    Attributes:
        api: API server of the cluster.
        vault: vault with `OBJECT`.
        account: service account directory.
        key_file: file with the node's key.
    """

    api: KubeApiServer
    vault: VaultApi
    account: Path
    key_file: Path

    @asynccontextmanager
    async def provider(self, product: Product = VAULT) -> AsyncIterator[VaultMounts]:
        """Run a new provider."""
        settings = VaultSettings(
            kubernetes_url=f"http://127.0.0.1:{self.api.port}",
            service_account_folder=str(self.account),
            hmac_secret=product.default_hmac_secret,
            hmac_key_file=str(self.key_file),
        )
        async with vault_mounts(self.vault, settings=settings, product=product) as mounts:
            yield mounts

    async def version(self, product: Product = VAULT) -> str:
        """Mount with a new provider and return the version."""
        async with self.provider(product) as mounts:
            return await version(mounts, product)

    def secret(self, name: str = NAME) -> dict[str, Any] | None:
        """Return the Secret with the key."""
        return self.api.get("secrets", NAMESPACE, name)

    def put(self, **data: str) -> None:
        """Set the data of the Secret."""
        self.api.put("secrets", manifest(**data))


async def version(mounts: VaultMounts, product: Product = VAULT) -> str:
    """Return the version of the object in a mount."""
    role = "app" if product is VAULT else "bao"
    result = await mounts.mount(OBJECT, pod=FakePod(audience=product.audience), roleName=role)
    assert [b"bar"] == [file.contents for file in result.files]
    (found,) = result.versions
    assert "object-one" == found.id
    return found.version


def manifest(**data: str) -> dict[str, Any]:
    """Return the manifest of a Secret."""
    return {
        "kind": "Secret",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "type": "Opaque",
        "data": data,
    }


def of(key: bytes) -> str:
    return b64encode(key).decode()


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """Run a node that may read the Secret, which does not exist."""
    (tmp_path / "token").write_text("canary-token")
    (tmp_path / "namespace").write_text(NAMESPACE)
    async with running_api(tmp_path) as api, running_vault() as vault:
        for audience, role in (("vault", "app"), ("openbao", "bao")):
            policy = {"path/*": {"read"}}
            vault.add_role(role, accounts=["shop/web"], policy=policy, audience=audience)
        vault.engines["path"] = "kv1"
        vault.write("path", "one", {"the-key": "bar"})
        yield Node(api, vault, tmp_path, tmp_path / "plugin" / "vault-hmac.key")


async def test_version_equals_that_of_upstream_with_the_same_key(node: Node) -> None:
    """One GET, and no other request."""
    node.put(key=of(KEY))
    assert VERSION == await node.version()
    assert ["get secrets"] == node.api.requests
    assert not node.key_file.exists()


async def test_missing_secret_is_created(node: Node) -> None:
    """Like upstream. Another node and a restarted process read it and produce the same versions."""
    first = await node.version()
    assert ["get secrets", "create secrets"] == node.api.requests
    made = node.secret()
    assert made is not None
    assert made["immutable"] is True
    assert "labels" not in made["metadata"]
    assert 32 == len(b64decode(made["data"]["key"]))
    assert first == await node.version()
    assert "create secrets" not in node.api.requests[2:]


async def test_first_of_two_nodes_creates_the_secret(node: Node) -> None:
    """The other node gets a conflict and reads it."""
    node.api.concurrent_writes.append(manifest(key=of(KEY)))
    assert VERSION == await node.version()
    assert ["get secrets", "create secrets", "get secrets"] == node.api.requests


async def test_deleted_secret_is_created_again_with_new_versions(node: Node) -> None:
    """At the next first mount, without a restart of the provider."""
    async with node.provider() as mounts:
        first = await version(mounts)
        node.api.remove("secrets", NAMESPACE, NAME)
        node.vault.now += 1
        second = await version(mounts)
    assert first != second
    assert node.secret() is not None
    assert second == await node.version()


async def test_each_product_has_its_own_key(node: Node) -> None:
    """Both Secrets are created."""
    for product in (VAULT, OPENBAO):
        await node.version(product)
    keys = [node.secret(product.default_hmac_secret) for product in (VAULT, OPENBAO)]
    assert 2 == len({str(key and key["data"]) for key in keys})


@pytest.mark.parametrize("forbidden", ["get secrets", "create secrets"])
async def test_versions_survive_a_restart_without_permission_to_read_the_secret(
    node: Node, forbidden: str
) -> None:
    """The node's key is used. The mount succeeds, and the log names the missing permission."""
    node.api.forbidden.add(forbidden)
    with captured_log() as log:
        first = await node.version()
        assert first == await node.version()
    assert node.secret() is None
    assert 32 == len(node.key_file.read_bytes())
    assert f"{NAMESPACE}/{NAME}" in log.getvalue()
    assert "versionHmac" in log.getvalue()
    assert "canary" not in log.getvalue()
    node.api.forbidden.clear()
    assert first != await node.version()


@pytest.mark.parametrize("data", [{}, {"key": ""}, {"other": of(KEY)}])
async def test_secret_without_key_is_not_changed(node: Node, data: dict[str, str]) -> None:
    """The node's key is used."""
    node.put(**data)
    with captured_log() as log:
        assert await node.version() == await node.version()
    assert "has no HMAC key for object versions" in log.getvalue()
    assert data == (node.secret() or {}).get("data", {})


async def test_mount_succeeds_while_the_api_is_unavailable(node: Node) -> None:
    """The last key is used; a new provider uses the node's key."""
    node.put(key=of(KEY))
    async with AsyncExitStack() as stack:
        mounts = await stack.enter_async_context(node.provider())
        assert VERSION == await version(mounts)
        await node.api.stop()
        node.vault.now += 60
        assert VERSION == await version(mounts)
        assert await node.version() == await node.version()


@pytest.mark.parametrize("missing", ["token", "namespace"])
async def test_process_without_service_account_uses_the_node_key(node: Node, missing: str) -> None:
    (node.account / missing).unlink()
    with captured_log() as log:
        assert await node.version() == await node.version()
    assert "automountServiceAccountToken" in log.getvalue()
