"""`keyferry provider vault` and `openbao` behind a socket, called like by the upstream driver."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from keyferry.errors import ProviderReportedError
from keyferry.plugins.external_provider import ExternalProvider
from keyferry.providers.api import MountCall
from keyferry.providers.known_fields.attributes import (
    POD_NAME,
    POD_NAMESPACE,
    SERVICE_ACCOUNT,
    SERVICE_ACCOUNT_TOKENS,
)
from tests.e2e.children import PATIENCE_SECONDS
from tests.e2e.node import LOCAL_VAULT_FLAGS, BareNode
from tests.e2e.vault.classes import Entry, class_spec, entry
from tests.e2e.vault.engines import jwt_role
from tests.e2e.vault.server import VaultServer
from tests.e2e.vault.tokens import TokenSigner

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

RUNTIME_NAMES = {"vault": "vault-csi-provider", "openbao": "openbao-csi-provider"}


@asynccontextmanager
async def serving(node: BareNode, name: str, *flags: str) -> AsyncIterator[ExternalProvider]:
    """Run a provider behind its socket, and a client of it."""
    socket = node.folder / f"{name}.sock"
    flags = (*LOCAL_VAULT_FLAGS, *flags)
    child = node.children.start(
        "provider", "keyferry", "provider", name, f"-endpoint={socket}", *flags
    )
    await child.says("ready")
    provider = ExternalProvider(name, socket, max_receive_bytes=1 << 22)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield provider
    finally:
        await provider.close()


def call(
    vault: VaultServer, signer: TokenSigner, name: str, *objects: Entry, **changes: str
) -> MountCall:
    """Return the call for a pod of service account shop/web; `changes` override parameters."""
    spec = class_spec(vault, *objects, provider=name, roleName="web")
    parameters = spec["parameters"]
    assert isinstance(parameters, Mapping)
    attributes = {
        **parameters,
        POD_NAME: "web-0",
        POD_NAMESPACE: "shop",
        SERVICE_ACCOUNT: "web",
        SERVICE_ACCOUNT_TOKENS: signer.kubelet_json("shop", "web", audience=name),
        **changes,
    }
    return MountCall(
        attributes={key: value for key, value in attributes.items() if value}, target_path="/unused"
    )


@pytest.mark.parametrize("name", ["vault", "openbao"])
async def test_files_and_versions_are_sent_over_the_socket(
    node: BareNode, vault: VaultServer, signer: TokenSigner, name: str
) -> None:
    """Each product uses the token of its own audience. Unchanged objects keep their version."""
    await jwt_role(vault, "web", "read-db", bound_audiences=["vault", "openbao"])
    wanted = (entry("v1", "kv1/db", "password"), entry("v2", "kv2/data/db", filePermission=0o600))
    async with serving(node, name) as provider:
        first = await provider.mount(call(vault, signer, name, *wanted))
        second = await provider.mount(call(vault, signer, name, *wanted))
        version = await provider.version()
    assert [("v1", 0o644), ("v2", 0o600)] == [(file.path, file.mode) for file in first.files]
    assert b"v1-s3cret" == first.files[0].contents
    assert ["v1", "v2"] == [each.id for each in first.versions]
    assert first.versions == second.versions
    assert RUNTIME_NAMES[name] == version.runtime_name


async def test_address_may_be_set_by_a_flag(
    node: BareNode, vault: VaultServer, signer: TokenSigner
) -> None:
    """Like in upstream's deployment. The SecretProviderClass takes precedence."""
    await jwt_role(vault, "web", "read-db", bound_audiences=["vault", "openbao"])
    flags = (
        f"--vault-addr={vault.address}",
        f"-vault-tls-ca-cert={vault.ca}",
        "-vault-mount=jwt",
    )
    wanted = entry("db", "kv1/db", "password")
    unsaid = {"vaultAddress": "", "vaultCACertPath": "", "vaultAuthMountPath": ""}
    async with serving(node, "vault", *flags) as provider:
        result = await provider.mount(call(vault, signer, "vault", wanted, **unsaid))
        elsewhere = unsaid | {"vaultAddress": "https://127.0.0.1:1"}
        refused = call(vault, signer, "vault", wanted, **elsewhere)
        with pytest.raises(ProviderReportedError, match=r"127\.0\.0\.1:1 could not be reached"):
            await provider.mount(refused)
    assert [b"v1-s3cret"] == [file.contents for file in result.files]


async def test_error_quotes_the_server(
    node: BareNode, vault: VaultServer, signer: TokenSigner
) -> None:
    """Users search for it."""
    async with serving(node, "openbao") as provider:
        wanted = call(vault, signer, "openbao", entry("x", "kv2/data/admin", "password"))
        with pytest.raises(ProviderReportedError) as refused:
            await provider.mount(wanted)
    assert "error making mount request" in str(refused.value)
    assert "permission denied" in str(refused.value)
