"""Addresses that a SecretProviderClass names: of the node, resolved to it, and redirect targets."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from keyferry.errors import ClassInvalidError, KeyferryError, Stage, VaultError
from keyferry.net.address_guard import AddressGuard
from keyferry.net.addresses import AddressPattern
from keyferry.net.connector import new_connector
from keyferry.net.http_client import HttpsSettings
from keyferry.net.proxies import Proxies
from keyferry.providers.restrictions import ClassRestrictions
from keyferry.providers.settings import VaultSettings
from keyferry.records import replace
from tests.fakes.vault_api import VaultApi, running_vault
from tests.fakes.vault_mounts import VaultMounts, entry, vault_mounts
from tests.integration.vault_transport.preparation import DB

RESTRICTED = ClassRestrictions()


def _port(vault: VaultApi) -> int:
    return urlsplit(vault.parameters["vaultAddress"]).port or 0


class _Names(AbstractResolver):
    """Resolves every name to the given addresses, one for each lookup."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses
        self.lookups = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        address = self._addresses[min(self.lookups, len(self._addresses) - 1)]
        self.lookups += 1
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
        ]

    async def close(self) -> None:
        pass

    def settings(self) -> HttpsSettings:
        """Return settings whose connections use these names."""

        def connector(
            *, resolver: AbstractResolver | None = None, guard: AddressGuard | None = None
        ) -> aiohttp.TCPConnector:
            return new_connector(resolver=self, guard=guard)

        return HttpsSettings(connector=connector)


@asynccontextmanager
async def _mounts(
    vault: VaultApi, restrictions: ClassRestrictions = RESTRICTED, **parts: object
) -> AsyncIterator[VaultMounts]:
    async with vault_mounts(vault, restrictions=restrictions, **parts) as mounts:  # type: ignore[arg-type]
        yield mounts


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0",
        "0.0.0.0",
        "localhost",
        "LOCALHOST.",
        "vault.localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "169.254.169.254",
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_address_of_the_node_is_refused(vault: VaultApi, host: str, scheme: str) -> None:
    """With the same error for all, whether something listens there or not."""
    async with _mounts(vault) as mounts:
        address = f"{host}:{_port(vault)}"
        with pytest.raises(ClassInvalidError) as caught:
            await mounts.files(DB, vaultAddress=f"{scheme}://{address}")
        with pytest.raises(ClassInvalidError) as closed:
            await mounts.files(DB, vaultAddress=f"{scheme}://{host}:1")
    assert Stage.CONNECT is caught.value.stage
    assert "cannot be reached" in caught.value.problem
    shown = address.lower()
    assert str(closed.value).replace(f"{host.lower()}:1 ", "X ") == str(caught.value).replace(
        f"{shown} ", "X "
    )
    assert [] == vault.audit


async def test_name_of_the_node_is_refused_when_it_is_connected_to(vault: VaultApi) -> None:
    """Also if it resolved to another address before."""
    names = _Names("192.0.2.1", "127.0.0.1")
    async with _mounts(vault, https=names.settings()) as mounts:
        names.lookups = 1
        with pytest.raises(ClassInvalidError, match=r"vault\.test:[0-9]+ cannot be reached"):
            await mounts.files(DB, vaultAddress=f"http://vault.test:{_port(vault)}")
    assert 2 <= names.lookups
    assert [] == vault.audit


async def test_address_of_the_administrator_may_be_local(vault: VaultApi) -> None:
    """A SecretProviderClass may repeat it, but not with another path."""
    settings = VaultSettings(vault.parameters["vaultAddress"])
    async with _mounts(vault, settings=settings) as mounts:
        assert await mounts.files(DB)
        assert await mounts.files(DB, vaultAddress="")
        with pytest.raises(ClassInvalidError, match="cannot be reached"):
            await mounts.files(DB, vaultAddress=vault.parameters["vaultAddress"] + "/other")


async def test_permitted_local_address_is_reached(vault: VaultApi) -> None:
    async with _mounts(vault, replace(RESTRICTED, local_addresses=True)) as mounts:
        assert await mounts.files(DB)


async def test_list_of_addresses_permits_only_these(vault: VaultApi) -> None:
    """Local ones, too; others are refused before anything is resolved."""
    names = _Names("127.0.0.1")
    listed = (AddressPattern("127.0.0.1", _port(vault)), AddressPattern("*.vault.test"))
    restrictions = replace(RESTRICTED, vault_addresses=listed)
    async with _mounts(vault, restrictions, https=names.settings()) as mounts:
        assert await mounts.files(DB)
        assert await mounts.files(DB, vaultAddress=f"http://a.vault.test:{_port(vault)}")
        lookups = names.lookups
        for address in ("http://127.0.0.1:1", "http://vault.test", "https://10.0.0.1"):
            with pytest.raises(ClassInvalidError, match="cannot be reached"):
                await mounts.files(DB, vaultAddress=address)
        assert lookups == names.lookups


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "localhost"])
async def test_proxy_is_not_asked_for_a_local_address(vault: VaultApi, host: str) -> None:
    """The proxy itself may be local."""
    proxies = Proxies(http=vault.parameters["vaultAddress"])
    async with _mounts(vault, https=HttpsSettings(proxies=proxies)) as mounts:
        with pytest.raises(ClassInvalidError, match="cannot be reached"):
            await mounts.files(DB, vaultAddress=f"http://{host}:8200")
        assert [] == vault.audit
        assert await mounts.files(DB, vaultAddress="http://vault.test")


class TestRedirects:
    """A hostile vault redirects to an address that its owner cannot reach."""

    async def test_other_port_is_refused(self, vault: VaultApi) -> None:
        """Even if local addresses are permitted."""
        async with (
            running_vault() as evil,
            _mounts(evil, replace(RESTRICTED, local_addresses=True)) as mounts,
        ):
            evil.redirect_to = vault.parameters["vaultAddress"]
            with pytest.raises(VaultError, match="another address, which is not permitted"):
                await mounts.files(DB)
        assert [] == vault.audit

    async def test_listed_address_is_followed(self, vault: VaultApi) -> None:
        async with running_vault() as standby:
            standby.redirect_to = vault.parameters["vaultAddress"]
            restrictions = replace(RESTRICTED, vault_addresses=(AddressPattern("127.0.0.1"),))
            async with _mounts(standby, restrictions) as mounts:
                assert await mounts.files(DB)

    async def test_same_host_and_port_is_followed(self, vault: VaultApi) -> None:
        """With another path."""
        async with _mounts(vault, replace(RESTRICTED, local_addresses=True)) as mounts:
            vault.redirect_to = vault.parameters["vaultAddress"]
            with pytest.raises(VaultError, match="redirects more than once"):
                await mounts.files(DB)
        assert 2 == len(vault.audit)

    async def test_vault_of_the_administrator_may_redirect(self, vault: VaultApi) -> None:
        """From a standby node to the active one."""
        async with running_vault() as standby:
            standby.redirect_to = vault.parameters["vaultAddress"]
            settings = VaultSettings(standby.parameters["vaultAddress"])
            async with _mounts(standby, settings=settings) as mounts:
                assert await mounts.files(DB)

    async def test_target_must_respond_like_a_vault(self, vault: VaultApi) -> None:
        """Otherwise any JSON document would become a file."""
        credentials = b'{"SecretAccessKey": "canary-of-the-node"}'
        plain = partial(entry, "x", "secret/data/app/x")
        restrictions = replace(RESTRICTED, vault_addresses=(AddressPattern("127.0.0.1"),))
        login = b'{"auth": {"client_token": "t", "lease_duration": 3600, "renewable": false}}'
        async with running_vault() as evil, _mounts(evil, restrictions) as mounts:
            evil.scripted_responses = [(200, login)]
            evil.redirect_to = vault.parameters["vaultAddress"]
            vault.scripted_responses = [(200, credentials)] * 3
            with pytest.raises(KeyferryError) as caught:
                await mounts.files(plain())
            assert "canary" not in str(caught.value)
            assert "not a response of a vault" in str(caught.value)
