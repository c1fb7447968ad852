"""Secrets of several Vault servers in one SecretProviderClass."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from keyferry.accesses import AccessOutcome
from keyferry.errors import KeyferryError
from keyferry.net.addresses import AddressPattern
from keyferry.providers.restrictions import ClassRestrictions
from keyferry.providers.settings import VaultSettings
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.settings import ResilienceSettings
from tests.fakes.clock import ManualClock
from tests.fakes.vault_api import VaultApi, running_vault
from tests.fakes.vault_mounts import FakePod, VaultMounts, entry, vault_mounts

POLICY = {"secret/data/app/*": {"read"}, "database/creds/*": {"read"}}
HOME = entry("home", "secret/data/app/db", secretKey="password")
USER = entry("user", "database/creds/app", secretKey="username")


@dataclass
class World:
    """Two vaults with the same paths, and one provider."""

    home: VaultApi
    other: VaultApi
    mounts: VaultMounts
    fetcher: Fetcher
    clock: ManualClock

    def elsewhere(
        self, name: str, path: str = "secret/data/app/db", **fields: Any
    ) -> dict[str, Any]:
        """An entry that names the other vault."""
        address = self.other.parameters["vaultAddress"]
        return entry(name, path, vaultAddress=address, **fields)

    @property
    def hosts(self) -> tuple[str, str]:
        """The hosts of both vaults, with their ports."""
        addresses = (each.parameters["vaultAddress"] for each in (self.home, self.other))
        first, second = (urlsplit(address).netloc for address in addresses)
        return first, second


@pytest.fixture
async def world() -> AsyncIterator[World]:
    clock = ManualClock()
    fetcher = Fetcher(ResilienceSettings(refresh_interval=120.0, tracks_volumes=True), clock)
    async with running_vault() as home, running_vault() as other:
        for number, each in enumerate((home, other)):
            each.add_role("app", accounts=["shop/web"], policy=POLICY, audience="")
            each.write("secret", "app/db", {"password": f"canary-{number}"})
        settings = VaultSettings(renew_leases=False)
        async with vault_mounts(home, fetcher=fetcher, settings=settings) as mounts:
            yield World(home, other, mounts, fetcher, clock)
    await fetcher.close()


async def test_objects_keep_their_order_and_each_vault_has_one_login(world: World) -> None:
    """Two entries of one path are one read."""
    key = {"secretKey": "password"}
    entries = (world.elsewhere("b", **key), HOME, world.elsewhere("a", **key))
    result = await world.mounts.mount(*entries)
    assert [(file.path, file.contents) for file in result.files] == [
        ("b", b"canary-1"),
        ("home", b"canary-0"),
        ("a", b"canary-1"),
    ]
    first, second = world.hosts
    assert [f"{second}/b", f"{first}/home", f"{second}/a"] == [each.id for each in result.versions]
    for vault in (world.home, world.other):
        assert 1 == vault.request_count("secret/data/app/db")
        assert 1 == vault.request_count("auth/kubernetes/login")


async def test_audit_log_has_each_path_with_its_vault_and_versions(world: World) -> None:
    """The versions of the pod status are those of this vault."""
    result = await world.mounts.mount(world.elsewhere("b", secretKey="password"), HOME)
    first, second = world.hosts
    versions = {each.id: each.version for each in result.versions}
    recorded = {access.vault: access.objects for access in result.accesses}
    for host, object_id in ((first, f"{first}/home"), (second, f"{second}/b")):
        (access,) = recorded[host]
        assert ((object_id, versions[object_id]),) == access.status_versions


async def test_refused_login_at_one_vault_is_named_with_its_objects(world: World) -> None:
    """The audit log has them, and what the other vault delivered."""
    denied = [world.elsewhere(name, roleName="admin") for name in "bc"]
    with pytest.raises(KeyferryError) as caught:
        await world.mounts.mount(HOME, *denied)
    first, second = world.hosts
    error = caught.value
    assert error.problem.startswith(f"object b: failed to login: vault {second} ")
    assert error.problem.endswith("; also failed: object c")
    assert [
        (first, [AccessOutcome.DELIVERED]),
        (second, [AccessOutcome.DENIED]),
    ] == [(each.vault, [access.outcome for access in each.objects]) for each in error.accesses]


async def test_leases_of_both_vaults_last_as_long_as_their_entries(world: World) -> None:
    """A refresh without an entry revokes the user of its vault, and no other."""
    entries = (USER, world.elsewhere("other-user", "database/creds/app", secretKey="username"))
    await world.mounts.mount(*entries)
    assert (1, 1) == (len(world.home.database_users), len(world.other.database_users))
    again = await world.mounts.mount(*entries)
    assert 2 == len(again.files)
    assert 2 == len(world.mounts.provider.leases)
    await world.mounts.mount(USER)
    assert 1 == len(world.mounts.provider.leases)
    await world.mounts.provider.close()
    assert (1, 0) == (len(world.home.database_users), len(world.other.database_users))


async def test_stale_content_is_reported_by_vault(world: World) -> None:
    """A pod starts with new content of the vault that answers."""
    entries = (HOME, world.elsewhere("b", secretKey="password"))
    await world.mounts.mount(*entries)
    await world.clock.advance(100.0)
    world.home.write("secret", "app/db", {"password": "canary-new"})
    world.other.fault = (503, ["down"])
    result = await world.clock.run(world.mounts.mount(*entries, pod=FakePod("web-1")))
    assert [b"canary-new", b"canary-1"] == [file.contents for file in result.files]
    assert [world.hosts[1]] == [content.vault for content in result.stale]
    assert result.oldest_content_age >= 100.0


async def test_volume_has_one_refresh_slot_for_each_vault(world: World) -> None:
    """It keeps what both gave, until an entry is removed."""
    target = FakePod().target
    await world.mounts.mount(HOME, world.elsewhere("b", secretKey="password"))
    assert 2 == len(world.fetcher.refresh_slots(target))
    await world.mounts.mount(HOME)
    assert 1 == len(world.fetcher.refresh_slots(target))


async def test_permitted_addresses_apply_to_entries(world: World) -> None:
    """An entry may not name what the SecretProviderClass may not."""
    port = int(world.hosts[0].rpartition(":")[2])
    restrictions = ClassRestrictions(vault_addresses=(AddressPattern("127.0.0.1", port),))
    async with vault_mounts(world.home, restrictions=restrictions) as mounts:
        assert 1 == len(await mounts.files(HOME, vaultCACertPath="", vaultSkipTLSVerify="true"))
        with pytest.raises(KeyferryError, match="may not name this address") as caught:
            await mounts.mount(HOME, world.elsewhere("b"))
    assert world.hosts[1] in caught.value.problem
