"""Errors of a real server, as kubelet gets them: stage, cause and remedy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from keyferry.providers.known_fields.attributes import SERVICE_ACCOUNT, SERVICE_ACCOUNT_TOKENS
from tests.e2e.cluster.certificates import Authority
from tests.e2e.node import BareNode, Driver, running_bare_node
from tests.e2e.vault.classes import Entry, class_spec, entry
from tests.e2e.vault.engines import enable_approle
from tests.e2e.vault.server import VaultServer
from tests.e2e.vault.tokens import TokenSigner

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

DB = entry("db", "kv2/data/db", "password")


@dataclass
class Pods:
    """Publishes volumes for pods of namespace shop.

    Attributes:
        node: the node.
        driver: the running driver.
        vault: the server.
        signer: signer of the pods' tokens.
    """

    node: BareNode
    driver: Driver
    vault: VaultServer
    signer: TokenSigner
    _count: int = 0

    async def publish(
        self, *objects: Entry, account: str = "web", audience: str = "openbao", **parameters: str
    ) -> dict[str, bytes]:
        """Publish a volume of a new pod and return its files; unpublish it afterwards."""
        self._count += 1
        name = f"class-{self._count}"
        wishes = {"roleName": "web", "audience": audience, **parameters}
        self.node.put_class(name, class_spec(self.vault, *objects or (DB,), **wishes))
        tokens = self.signer.kubelet_json("shop", account, audience=audience)
        context = {SERVICE_ACCOUNT: account, SERVICE_ACCOUNT_TOKENS: tokens}
        volume = self.node.volume(name, pod=f"pod-{self._count}", context=context)
        try:
            await self.driver.publish(volume)
            return {path: content for path, (_, content) in volume.files().items()}
        finally:
            await self.driver.unpublish(volume)
            assert [] == self.node.left_overs(volume)

    async def refused(self, *objects: Entry, **wishes: str) -> str:
        """Return the error that kubelet gets for a publish that fails."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.publish(*objects, **wishes)
        return str(caught.value.details())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pods(
    tmp_path_factory: pytest.TempPathFactory, vault: VaultServer, signer: TokenSigner
) -> AsyncIterator[Pods]:
    """Run a driver for all tests of this module."""
    async with running_bare_node(tmp_path_factory.mktemp("node") / "n") as node:
        yield Pods(node, await node.start_driver(), vault, signer)


async def test_unknown_role_is_named(pods: Pods) -> None:
    """With the command that lists existing roles."""
    message = await pods.refused(roleName="wep")
    assert "'wep'" in message
    assert "the role does not exist" in message
    assert "bao list auth/jwt/role" in message


async def test_wrong_service_account_is_rejected(pods: Pods) -> None:
    """The role is bound to shop/web."""
    message = await pods.refused(account="other")
    assert "the role does not permit this service account" in message
    assert "shop/other" in message
    assert "bound_subject=system:serviceaccount:shop:other" in message


async def test_wrong_audience_is_rejected(pods: Pods) -> None:
    """The role requires another audience than the SecretProviderClass sets."""
    message = await pods.refused(audience="other")
    assert "the token has another audience" in message
    assert "'other'" in message


async def test_token_of_another_cluster_is_rejected(pods: Pods) -> None:
    """The vault does not have the keys of that cluster."""
    stranger = Pods(pods.node, pods.driver, pods.vault, TokenSigner(), _count=1000)
    message = await stranger.refused(roleName="web")
    assert "the vault cannot verify the token" in message


async def test_denied_path_has_the_missing_policy_rule(pods: Pods) -> None:
    """Ready to be pasted."""
    message = await pods.refused(entry("x", "kv2/data/admin", "password"))
    assert "permission denied" in message
    assert 'path "kv2/data/admin" { capabilities = ["read"] }' in message


async def test_policy_rule_depends_on_the_method(pods: Pods) -> None:
    """A POST needs other capabilities than a GET."""
    message = await pods.refused(
        entry("x", "kv2/data/admin", "password", method="PUT", secretArgs={})
    )
    assert 'path "kv2/data/admin" { capabilities = ["create", "update"] }' in message


async def test_kv_version_2_path_without_data_is_corrected(pods: Pods) -> None:
    """The server rejects it like a denied path."""
    message = await pods.refused(entry("x", "kv2/db", "password"))
    assert "KV version 2" in message
    assert "Set secretPath to kv2/data/db" in message


async def test_kv_version_1_path_with_data_is_corrected(pods: Pods) -> None:
    message = await pods.refused(entry("x", "kv1/data/db", "password"))
    assert "KV version 1" in message
    assert "Set secretPath to kv1/db" in message


async def test_path_without_an_engine_is_named(pods: Pods) -> None:
    """Although the server reports it as denied."""
    message = await pods.refused(entry("x", "nowhere/db", "password"))
    assert "nowhere/db" in message


async def test_missing_key_is_named_with_the_existing_keys(pods: Pods) -> None:
    """Keys are names and not secret."""
    message = await pods.refused(entry("x", "kv2/data/db", "passwort"))
    assert "passwort" in message
    assert "password" in message
    assert "second" not in message


async def test_missing_version_is_named(pods: Pods) -> None:
    """The version is part of the path."""
    message = await pods.refused(entry("x", "kv2/data/db?version=99", "password"))
    assert "kv2/data/db?version=99" in message


async def test_all_failed_objects_are_reported(pods: Pods) -> None:
    """So that a user can fix them together."""
    message = await pods.refused(
        entry("x", "kv2/data/admin", "password"), entry("y", "kv2/data/db", "passwort"), DB
    )
    assert "kv2/data/admin" in message
    assert "also failed: object y" in message


async def test_unknown_auth_method_is_named(pods: Pods) -> None:
    """With the command that lists existing auth methods."""
    message = await pods.refused(vaultAuthMountPath="jwd")
    assert "auth/jwd" in message
    assert "bao auth list" in message


async def test_unknown_vault_namespace_is_named(pods: Pods) -> None:
    """With the command that lists existing namespaces."""
    message = await pods.refused(vaultNamespace="nobody")
    assert "nobody" in message
    assert "namespace list" in message


async def test_untrusted_server_is_rejected(pods: Pods, short_path: Path) -> None:
    """No request is sent to it."""
    other = Authority(short_path / "other").certificate
    for folder in (short_path, other.parent):
        folder.chmod(0o755)  # the provider worker must be able to read the file
    message = await pods.refused(vaultCACertPath=str(other), provider="vault")
    assert "certificate" in message
    assert "vaultCACertPath" in message


async def test_wrong_server_name_is_rejected(pods: Pods) -> None:
    """The message contains the name."""
    message = await pods.refused(vaultTLSServerName="vault.example.com")
    assert "vault.example.com" in message
    assert "vaultTLSServerName" in message


async def test_refused_connection_names_the_address(pods: Pods) -> None:
    message = await pods.refused(vaultAddress="https://127.0.0.1:1")
    assert "127.0.0.1:1" in message


async def test_used_secret_id_is_rejected(pods: Pods) -> None:
    """The message does not contain it."""
    secret = dict(await enable_approle(pods.vault, "spent", "read-db"))
    await pods.vault.write(
        "auth/approle/role/spent/secret-id/destroy", {"secret_id": secret["secret_id"]}
    )
    pods.node.put_class(
        "spent",
        class_spec(pods.vault, DB, vaultAuthMethod="approle", vaultAuthMountPath="approle"),
    )
    volume = pods.node.volume("spent", secrets=secret)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await pods.driver.publish(volume)
    message = str(caught.value.details())
    assert "the secret ID or the role ID is invalid" in message
    assert secret["secret_id"] not in message


async def test_sealed_server_is_reported_and_recovers(pods: Pods) -> None:
    """The first mount of a pod fails. The next one succeeds after the server is unsealed."""
    await pods.vault.seal()
    try:
        message = await pods.refused()
        assert "is sealed" in message
        assert "unseal" in message
    finally:
        await pods.vault.unseal()
    assert {"db": b"second"} == await pods.publish()
