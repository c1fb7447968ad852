"""Dynamic users of a real PostgreSQL: one for each pod, valid for the lifetime of its volume."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from keyferry.providers.known_fields.attributes import SERVICE_ACCOUNT_TOKENS
from tests.e2e.cluster.waiting import eventually
from tests.e2e.node import BareNode, Driver, Volume
from tests.e2e.vault.classes import class_spec, entry
from tests.e2e.vault.engines import (
    RENEW_LEASES,
    allow,
    database_role,
    enable_database,
    jwt_role,
)
from tests.e2e.vault.postgres import Postgres
from tests.e2e.vault.server import VaultServer
from tests.e2e.vault.tokens import TokenSigner
from tests.fakes.memory_folder import tmpfs_directory
from tests.fakes.mounts import unmount_below

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

ALWAYS_REFRESH = ("--enable-secret-rotation", "--rotation-poll-interval=0")


@dataclass
class Databases:
    """Volumes with a database user.

    Attributes:
        node: the node.
        vault: server that creates the users.
        postgres: server with the users.
        signer: signer of the pods' tokens.
    """

    node: BareNode
    vault: VaultServer
    postgres: Postgres
    signer: TokenSigner

    def volume(self, role: str, *, pod: str = "web-0") -> Volume:
        """Return a volume of a new pod with the files `user` and `password`."""
        path = f"database/creds/{role}"
        objects = (entry("user", path, "username"), entry("password", path, "password"))
        self.node.put_class(role, class_spec(self.vault, *objects, roleName="database"))
        tokens = self.signer.kubelet_json("shop", "web")
        return self.node.volume(role, pod=pod, context={SERVICE_ACCOUNT_TOKENS: tokens})

    async def log_in(self, volume: Volume) -> str:
        """Log in with the files of the volume and return the user name."""
        files = volume.files()
        name = files["user"][1].decode()
        assert name == await self.postgres.login(name, files["password"][1].decode())
        return name

    async def no_user_is_left(self) -> None:
        """Wait until the database has no user that the server created."""

        async def removed() -> bool | None:
            return None if await self.postgres.made_users() else True

        await eventually(removed, "the users to be deleted", seconds=100)

    async def no_lease_is_left(self, role: str) -> None:
        """Wait until the server has deleted the leases of a role, which follow their users."""

        async def deleted() -> bool | None:
            return None if await self.vault.leases(f"database/creds/{role}") else True

        await eventually(deleted, "the leases to be deleted", seconds=100)

    def renewals(self, mark: int) -> int:
        """Return the number of successful renewals after a position of the audit log."""
        entries = self.vault.audit.entries(after=mark)
        return len(
            [one for one in entries if one.path.startswith("sys/leases/renew") and not one.error]
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(vault: VaultServer, postgres: Postgres) -> None:
    """Enable the database engine, and a role of the auth method that may use it."""
    await enable_database(vault, postgres)
    await database_role(vault, "short", ttl="4s", max_ttl="1h")
    await database_role(vault, "restarted", ttl="15s", max_ttl="1h")
    await database_role(vault, "once", ttl="30s", max_ttl="30s")
    await database_role(vault, "ending", ttl="12s", max_ttl="18s")
    await allow(vault, "database", "database/creds/+")
    await jwt_role(vault, "database", "database", RENEW_LEASES)


@pytest_asyncio.fixture(loop_scope="module")
async def databases(
    engine: None, node: BareNode, vault: VaultServer, postgres: Postgres, signer: TokenSigner
) -> AsyncIterator[Databases]:
    """Return a node, and wait afterwards until no user of the test is left."""
    yield Databases(node, vault, postgres, signer)
    await vault.write("sys/leases/revoke-prefix/database/creds", {})


@pytest.fixture
def leases() -> Iterator[Path]:
    """Return a directory on a tmpfs."""
    with tmpfs_directory() as path:
        yield path


async def published(databases: Databases, role: str, *flags: str) -> tuple[Driver, Volume]:
    """Run a driver that refreshes at each call, and publish a volume."""
    driver = await databases.node.start_driver(*ALWAYS_REFRESH, *flags)
    volume = databases.volume(role)
    await driver.publish(volume)
    return driver, volume


async def test_user_logs_in_and_is_deleted_with_the_volume(databases: Databases) -> None:
    """User name and password match. After the unpublish the same login fails."""
    driver, volume = await published(databases, "app")
    name = await databases.log_in(volume)
    password = volume.files()["password"][1].decode()
    assert [name] == await databases.postgres.made_users()
    await driver.unpublish(volume)
    await databases.no_user_is_left()
    with pytest.raises(AssertionError, match=f'"{name}"'):
        await databases.postgres.login(name, password)
    await databases.no_lease_is_left("app")
    await driver.stop()


async def test_refresh_keeps_the_user(databases: Databases) -> None:
    """Ten polls of rotation create no user, and no file changes."""
    driver, volume = await published(databases, "app")
    files = volume.files()
    mark = databases.vault.audit.mark()
    for _ in range(10):
        await driver.publish(volume)
    assert files == volume.files()
    assert [] == databases.vault.audit.of_path("database/creds/app", after=mark)
    assert 1 == len(await databases.postgres.made_users())
    await driver.stop()


async def test_each_pod_has_its_own_user(databases: Databases) -> None:
    """It is never shared, and is deleted with its pod."""
    driver, first = await published(databases, "app")
    second = databases.volume("app", pod="web-1")
    await driver.publish(second)
    names = {await databases.log_in(first), await databases.log_in(second)}
    assert 2 == len(names)
    await driver.unpublish(first)

    async def one_left() -> bool | None:
        return True if 1 == len(await databases.postgres.made_users()) else None

    await eventually(one_left, "one user to go", seconds=100)
    await databases.log_in(second)
    await driver.unpublish(second)
    await databases.no_user_is_left()
    await driver.stop()


async def test_lease_is_renewed_before_it_expires(databases: Databases) -> None:
    """The user outlives its original TTL several times."""
    driver, volume = await published(databases, "short")
    name = await databases.log_in(volume)
    mark = databases.vault.audit.mark()

    async def renewed() -> bool | None:
        await driver.publish(volume)
        return True if databases.renewals(mark) >= 3 else None

    await eventually(renewed, "three renewals", seconds=100)
    assert name == await databases.log_in(volume)
    assert [] == databases.vault.audit.of_path("database/creds/short", after=mark)
    await driver.stop()


async def test_lease_at_its_max_ttl_is_replaced_by_a_new_user(
    databases: Databases,
) -> None:
    """The volume gets another user, once. One of them is valid at any time."""
    driver, volume = await published(databases, "ending")
    name = await databases.log_in(volume)
    mark = databases.vault.audit.mark()

    async def followed() -> bool | None:
        await driver.publish(volume)
        return True if await databases.log_in(volume) != name else None

    await eventually(followed, "another user", seconds=100)
    assert 1 == len(databases.vault.audit.of_path("database/creds/ending", after=mark))
    await driver.stop()


async def test_driver_refreshes_before_a_lease_expires(databases: Databases) -> None:
    """With an hour between polls and a lease of half a minute."""
    far = ("--enable-secret-rotation", "--rotation-poll-interval=1h")
    driver = await databases.node.start_driver(*far)
    volume = databases.volume("once")
    await driver.publish(volume)
    name = await databases.log_in(volume)

    async def followed() -> bool | None:
        return True if await databases.log_in(volume) != name else None

    await eventually(followed, "another user, with logins that never fail", seconds=100)
    await driver.unpublish(volume)
    await driver.stop()


async def test_pod_gets_a_warning_before_its_user_expires_without_rotation(
    databases: Databases,
) -> None:
    """While the login is still valid."""
    driver = await databases.node.start_driver()
    volume = databases.volume("once")
    await driver.publish(volume)
    events = databases.node.manifests / "events" / volume.namespace

    async def warned() -> str | None:
        texts = [path.read_text() for path in events.glob("*.yaml")]
        return next((text for text in texts if "ObjectNearExpiry" in text), None)

    text = await eventually(warned, "the warning", seconds=100)
    assert "secret database/creds/once expires on" in text
    await databases.log_in(volume)
    await driver.stop()


async def test_revoked_lease_is_replaced_by_a_new_user(databases: Databases) -> None:
    """An administrator revoked it: its renewal is rejected, and the volume gets another user."""
    driver, volume = await published(databases, "short")
    name = await databases.log_in(volume)
    await databases.vault.write("sys/leases/revoke-prefix/database/creds/short", {})

    async def followed() -> bool | None:
        await driver.publish(volume)
        return True if volume.files()["user"][1].decode() != name else None

    await eventually(followed, "another user", seconds=100)
    await databases.log_in(volume)
    await driver.stop()


async def test_restarted_driver_keeps_and_renews_the_user(
    databases: Databases, leases: Path
) -> None:
    """It delivers the same user, renews it past its original TTL, and revokes it."""
    flag = f"--lease-dir={leases}"
    driver, volume = await published(databases, "restarted", flag)
    name = await databases.log_in(volume)
    await driver.kill()
    mark = databases.vault.audit.mark()
    driver = await databases.node.start_driver(*ALWAYS_REFRESH, flag)

    async def renewed() -> bool | None:
        return True if databases.renewals(mark) >= 2 else None

    await eventually(renewed, "two renewals without any call of kubelet", seconds=150)
    await driver.publish(volume)
    assert name == await databases.log_in(volume)
    assert [name] == await databases.postgres.made_users()
    assert [] == databases.vault.audit.of_path("database/creds/restarted", after=mark)
    assert [] == databases.vault.audit.of_path("auth/kubernetes/login", after=mark)
    await driver.unpublish(volume)
    await databases.no_user_is_left()

    async def forgotten() -> bool | None:
        # Each record is deleted after the response to its revocation.
        names = [file.name for file in (leases / "vault").iterdir()]
        return True if names == ["identities.key"] else None

    await eventually(forgotten, "the record of the lease to be deleted", seconds=100)
    await driver.stop()


async def test_lease_of_a_volume_removed_during_the_restart_is_revoked(
    databases: Databases, leases: Path
) -> None:
    """No call for the volume follows. The user of the other volume stays."""
    flag = f"--lease-dir={leases}"
    driver, removed = await published(databases, "app", flag)
    stays = databases.volume("app", pod="web-1")
    await driver.publish(stays)
    name = await databases.log_in(stays)
    await driver.kill()
    unmount_below(removed.path.parent)
    driver = await databases.node.start_driver(flag)

    async def one_left() -> bool | None:
        return True if [name] == await databases.postgres.made_users() else None

    await eventually(one_left, "the user of the removed volume to be deleted", seconds=100)
    await driver.unpublish(stays)
    await databases.no_user_is_left()
    await driver.stop()


async def test_restarted_driver_without_lease_directory_gets_one_new_user(
    databases: Databases,
) -> None:
    """Leases are then only in memory. The previous user works until its lease expires."""
    driver, volume = await published(databases, "app")
    before = await databases.log_in(volume)
    password = volume.files()["password"][1].decode()
    await driver.stop()
    driver = await databases.node.start_driver(*ALWAYS_REFRESH)
    for _ in range(3):
        await driver.publish(volume)
    after = await databases.log_in(volume)
    assert {before, after} == set(await databases.postgres.made_users())
    assert before == await databases.postgres.login(before, password)
    await driver.unpublish(volume)

    async def new_user_deleted() -> bool | None:
        return True if [before] == await databases.postgres.made_users() else None

    await eventually(new_user_deleted, "the new user to be deleted", seconds=100)
    await driver.stop()
