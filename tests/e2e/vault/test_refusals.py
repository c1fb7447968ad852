"""What a real server refuses, and the sentence that kubelet is told: where, why, and the remedy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from keyferry.providers.api import SERVICE_ACCOUNT, SERVICE_ACCOUNT_TOKENS
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
        node: it.
        driver: runs.
        vault: the server.
        signer: of their tokens.
    """

    node: BareNode
    driver: Driver
    vault: VaultServer
    signer: TokenSigner
    _count: int = 0

    async def publish(
        self, *objects: Entry, account: str = "web", audience: str = "openbao", **parameters: str
    ) -> dict[str, bytes]:
        """The files of a new pod's volume, which is taken away again."""
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
        """What kubelet is told of a publish that fails."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.publish(*objects, **wishes)
        return str(caught.value.details())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pods(
    tmp_path_factory: pytest.TempPathFactory, vault: VaultServer, signer: TokenSigner
) -> AsyncIterator[Pods]:
    """A driver for all tests of this module."""
    async with running_bare_node(tmp_path_factory.mktemp("node") / "n") as node:
        yield Pods(node, await node.start_driver(), vault, signer)


async def test_a_role_that_is_none_is_named(pods: Pods) -> None:
    """With the command that lists those that are."""
    said = await pods.refused(roleName="wep")
    assert "'wep'" in said
    assert "the role does not exist" in said
    assert "bao list auth/jwt/role" in said


async def test_another_service_account_is_refused(pods: Pods) -> None:
    """The role is bound to shop/web."""
    said = await pods.refused(account="other")
    assert "the role does not permit this service account" in said
    assert "shop/other" in said
    assert "bound_subject=system:serviceaccount:shop:other" in said


async def test_a_token_for_another_audience_is_refused(pods: Pods) -> None:
    """Kubelet sent what the class asks for, and the role takes another one."""
    said = await pods.refused(audience="other")
    assert "the token has another audience" in said
    assert "'other'" in said


async def test_a_token_that_others_signed_is_refused(pods: Pods) -> None:
    """The vault does not know the keys of that cluster."""
    stranger = Pods(pods.node, pods.driver, pods.vault, TokenSigner(), _count=1000)
    said = await stranger.refused(roleName="web")
    assert "the vault cannot verify the token" in said


async def test_a_denied_path_comes_with_the_line_that_the_policy_lacks(pods: Pods) -> None:
    """Ready to be pasted."""
    said = await pods.refused(entry("x", "kv2/data/admin", "password"))
    assert "permission denied" in said
    assert 'path "kv2/data/admin" { capabilities = ["read"] }' in said


async def test_the_line_is_of_the_method(pods: Pods) -> None:
    """A POST needs other capabilities than a GET."""
    said = await pods.refused(entry("x", "kv2/data/admin", "password", method="PUT", secretArgs={}))
    assert 'path "kv2/data/admin" { capabilities = ["create", "update"] }' in said


async def test_version_2_of_kv_without_data_is_told_the_right_path(pods: Pods) -> None:
    """The classic mistake, which the server answers like a forbidden path."""
    said = await pods.refused(entry("x", "kv2/db", "password"))
    assert "KV version 2" in said
    assert "Set secretPath to kv2/data/db" in said


async def test_version_1_of_kv_with_data_is_told_the_right_path(pods: Pods) -> None:
    """Its mirror."""
    said = await pods.refused(entry("x", "kv1/data/db", "password"))
    assert "KV version 1" in said
    assert "Set secretPath to kv1/db" in said


async def test_a_path_without_an_engine_is_named(pods: Pods) -> None:
    """Be it that the server says that it is forbidden."""
    said = await pods.refused(entry("x", "nowhere/db", "password"))
    assert "nowhere/db" in said


async def test_a_key_that_is_not_there_is_named(pods: Pods) -> None:
    """With those that are, which are names and no values."""
    said = await pods.refused(entry("x", "kv2/data/db", "passwort"))
    assert "passwort" in said
    assert "password" in said
    assert "second" not in said


async def test_a_version_that_is_not_there_is_named(pods: Pods) -> None:
    """The number is part of the path."""
    said = await pods.refused(entry("x", "kv2/data/db?version=99", "password"))
    assert "kv2/data/db?version=99" in said


async def test_all_objects_that_fail_are_told_at_once(pods: Pods) -> None:
    """Nobody mends a class one object at a time."""
    said = await pods.refused(
        entry("x", "kv2/data/admin", "password"), entry("y", "kv2/data/db", "passwort"), DB
    )
    assert "kv2/data/admin" in said
    assert "also failed: object y" in said


async def test_an_auth_method_that_is_none_is_named(pods: Pods) -> None:
    """With the command that lists those that are."""
    said = await pods.refused(vaultAuthMountPath="jwd")
    assert "auth/jwd" in said
    assert "bao auth list" in said


async def test_a_namespace_that_is_none_is_named(pods: Pods) -> None:
    """With the command that lists those that are."""
    said = await pods.refused(vaultNamespace="nobody")
    assert "nobody" in said
    assert "namespace list" in said


async def test_a_server_whose_certificate_another_authority_signed_is_refused(
    pods: Pods, tmp_path: Path
) -> None:
    """Nothing is sent to it."""
    other = Authority(tmp_path / "other").certificate
    said = await pods.refused(vaultCACertPath=str(other), provider="vault")
    assert "certificate" in said
    assert "vaultCACertPath" in said


async def test_a_name_that_the_certificate_lacks_is_refused(pods: Pods) -> None:
    """The message names it."""
    said = await pods.refused(vaultTLSServerName="vault.example.com")
    assert "vault.example.com" in said
    assert "vaultTLSServerName" in said


async def test_nobody_at_the_address(pods: Pods) -> None:
    """The connection is refused, and the message says where."""
    said = await pods.refused(vaultAddress="https://127.0.0.1:1")
    assert "127.0.0.1:1" in said


async def test_a_secret_id_that_was_used_up_is_refused(pods: Pods) -> None:
    """And is not repeated."""
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
    said = str(caught.value.details())
    assert "the secret ID or the role ID is invalid" in said
    assert secret["secret_id"] not in said


async def test_a_sealed_server_says_so_and_serves_again_when_it_is_unsealed(pods: Pods) -> None:
    """The first mount of a pod fails; its next try succeeds by itself."""
    await pods.vault.seal()
    try:
        said = await pods.refused()
        assert "is sealed" in said
        assert "unseal" in said
    finally:
        await pods.vault.unseal()
    assert {"db": b"second"} == await pods.publish()
