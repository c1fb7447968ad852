"""Connections to a vault: Unix sockets, redirects, namespaces and headers."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyferry.errors import IdentityError, KeyferryError, VaultError
from keyferry.providers.settings import VaultSettings
from tests.fakes.vault_api import VaultApi, running_vault
from tests.fakes.vault_certificates import SERVER_NAME_PARAMETER, VaultCertificates
from tests.fakes.vault_mounts import VaultMounts, entry, vault_mounts
from tests.integration.vault_transport.preparation import DB, POLICY, prepare


class TestConnections:
    """Unix sockets, redirects, namespaces and headers."""

    async def test_vault_behind_a_unix_socket_is_reached(self, tmp_path: Path) -> None:
        """A local agent without TLS. Its environment variable overrides the SecretProviderClass."""
        async with running_vault(socket=tmp_path / "agent.sock") as vault:
            prepare(vault)
            address = vault.parameters["vaultAddress"]
            async with vault_mounts(vault) as mounts:
                assert await mounts.files(DB)
            vault.parameters["vaultAddress"] = "https://nowhere.test"
            settings = VaultSettings(agent_address=address)
            async with vault_mounts(vault, settings=settings) as mounts:
                assert await mounts.files(DB)
            assert "true" == vault.headers["X-Vault-Request"]
            assert "Content-Type" not in vault.headers

    async def test_one_redirect_is_followed(self, vault: VaultApi, mounts: VaultMounts) -> None:
        """A standby node redirects to the active node."""
        async with running_vault() as standby:
            standby.redirect_to = vault.parameters["vaultAddress"]
            where = {"vaultAddress": standby.parameters["vaultAddress"]}
            assert await mounts.files(DB, **where)
            vault.redirect_to = standby.parameters["vaultAddress"]
            with pytest.raises(VaultError, match="redirects more than once"):
                await mounts.files(entry("x", "secret/data/app/x"), **where)

    @pytest.mark.parametrize("target", ["", "ftp://x", "http://[", "//"])
    async def test_redirect_to_an_invalid_address_is_an_error(
        self, vault: VaultApi, mounts: VaultMounts, target: str
    ) -> None:
        vault.redirect_to = target or "?"
        with pytest.raises(KeyferryError):
            await mounts.files(DB)

    async def test_redirect_from_https_to_http_is_rejected(
        self, tmp_path: Path, vault: VaultApi
    ) -> None:
        """The token would be sent unencrypted."""
        made = VaultCertificates(tmp_path)
        async with running_vault(context=made.context()) as secure, vault_mounts(secure) as mounts:
            secure.redirect_to = vault.parameters["vaultAddress"]
            with pytest.raises(VaultError, match="from https to http"):
                await mounts.files(DB, **SERVER_NAME_PARAMETER, vaultCACertPath=str(made.ca))
        assert [] == vault.audit

    async def test_namespace_is_sent(self, vault: VaultApi, mounts: VaultMounts) -> None:
        """With the login and with each read."""
        vault.namespace = "team/a"
        assert await mounts.files(DB, vaultNamespace="team/a")
        with pytest.raises(IdentityError, match="namespace team/b rejected"):
            await mounts.files(DB, vaultNamespace="team/b")

    async def test_configured_headers_are_sent(self, vault: VaultApi) -> None:
        """They cannot replace Keyferry's headers."""
        settings = VaultSettings(headers=(("X-Team", "shop"),))
        async with vault_mounts(vault, settings=settings) as mounts:
            await mounts.files(DB)
        assert "shop" == vault.headers["X-Team"]

    async def test_approle_logs_in(self, vault: VaultApi, mounts: VaultMounts) -> None:
        """The error for a wrong secret ID differs from that for a wrong service account."""
        vault.add_role("x", mount="approle", policy=POLICY, secret=("r", "canary-s"))
        secrets = {"role_id": "r", "secret_id": "canary-s"}
        assert await mounts.files(DB, secrets=secrets, vaultAuthMethod="approle", roleName="")
        with pytest.raises(IdentityError, match="the secret ID or the role ID") as caught:
            await mounts.files(
                DB, secrets={**secrets, "secret_id": "canary-x"}, vaultAuthMethod="approle"
            )
        assert "canary" not in str(caught.value)
