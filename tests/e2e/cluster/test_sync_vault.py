"""SecretSyncs that read a real OpenBao server, with a real Kubernetes API and no node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from tests.e2e.cluster.cluster_auth import enable_cluster_auth, kubernetes_role
from tests.e2e.cluster.kubectl import Document
from tests.e2e.cluster.manifests import secret_provider_class
from tests.e2e.cluster.sync_namespace import SyncNamespace, secret_sync, text_data
from tests.e2e.cluster.sync_process import Controller, SyncWorld, service_account
from tests.e2e.cluster.waiting import eventually
from tests.e2e.vault.classes import Entry, entry
from tests.e2e.vault.engines import (
    allow,
    database_role,
    enable_approle,
    enable_database,
    enable_kv,
    put_kv,
)
from tests.e2e.vault.postgres import Postgres, running_postgres
from tests.e2e.vault.server import VaultServer, running_server
from tests.fakes.memory_folder import tmpfs_directory

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

NAME = "openbao"
"""Of the controller and the namespace."""
DATABASE = (
    entry("username", "database/creds/app", "username"),
    entry("password", "database/creds/app", "password"),
)
LOGIN = {"username": "username", "password": "password"}


@dataclass
class BaoWorld:
    """A server, a namespace, and a controller that may read from it.

    Attributes:
        openbao: trusts the service accounts of the cluster; has the engines `secret` and
            `database`.
        postgres: the database.
        shop: the namespace.
        leases: the folder of the leases of each controller pod.
    """

    openbao: VaultServer
    postgres: Postgres
    shop: SyncNamespace
    leases: Path

    async def start_controller(self, replica: int = 0) -> Controller:
        """Start the controller in a pod with this number; wait until it leads."""
        leases = self.leases / str(replica)
        leases.mkdir(mode=0o700, exist_ok=True)
        controller = await self.shop.world.start_controller(
            NAME,
            f"--class-files-dirs={self.openbao.ca.parent}",
            "--allow-local-addresses=true",
            f"--lease-dir={leases}",
            namespaces=[self.shop.name],
            audiences=("other", "vault"),
            replica=replica,
            uses_emulator=False,
        )
        await controller.leads()
        return controller

    def spc(self, name: str, *objects: Entry, **parameters: str) -> Document:
        """Return a SecretProviderClass, by default with auth/kubernetes and a role of its name."""
        all_parameters = {
            "vaultAddress": self.openbao.address,
            "vaultCACertPath": str(self.openbao.ca),
            "roleName": name,
            "audience": "vault",
            "objects": yaml.safe_dump(list(objects)),
            **parameters,
        }
        return secret_provider_class(name, "vault", all_parameters)

    def sync(self, name: str, data: dict[str, str], *, account: str = "default") -> Document:
        """Return a SecretSync for the controller."""
        return secret_sync(name, data, account=account, secretSyncControllerName=NAME)

    async def role(self, name: str, *paths: str, account: str = "default") -> None:
        """Permit a service account to read paths."""
        await kubernetes_role(self.openbao, name, *paths, namespace=self.shop.name, account=account)

    async def login(self, name: str) -> str:
        """Wait until the Secret `name` has valid credentials of the database; return the user."""

        async def look() -> str | None:
            secret = self.shop.world.recorder.latest("Secret", self.shop.name, name)
            assert secret is not None, "no Secret"
            data = text_data(secret)
            return await self.postgres.login(data["username"], data["password"])

        return await eventually(look, f"the Secret {name} to have valid credentials")

    async def users(self, *expected: str) -> None:
        """Wait until the database has exactly these users that OpenBao made."""

        async def look() -> bool | None:
            assert sorted(expected) == await self.postgres.made_users()
            return True

        await eventually(look, f"the users {expected}")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bao(sync_world: SyncWorld) -> AsyncIterator[BaoWorld]:
    """One server for all tests of this module."""
    async with AsyncExitStack() as stack:
        folder = sync_world.folder / "bao"
        openbao = await stack.enter_async_context(running_server(folder))
        postgres = await stack.enter_async_context(running_postgres())
        leases = stack.enter_context(tmpfs_directory())
        await enable_cluster_auth(openbao, sync_world.server)
        await enable_kv(openbao, "secret", version=2)
        await enable_database(openbao, postgres)
        yield BaoWorld(openbao, postgres, SyncNamespace(sync_world, NAME), leases)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def controller(bao: BaoWorld) -> Controller:
    """The controller, in the pod with number 0; the last test kills it."""
    return await bao.start_controller()


async def test_a_secret_sync_reads_with_kubernetes_auth(
    bao: BaoWorld, controller: Controller
) -> None:
    """OpenBao reviews the token; another service account is refused; a new version is synced."""
    shop = bao.shop
    value = shop.world.value("kv")
    await put_kv(bao.openbao, "secret/data/web", bar=value, user="shop")
    await bao.role("web", "secret/data/web", account="web")
    objects = (
        entry("password", "secret/data/web", "bar"),
        entry("user", "secret/data/web", "user"),
    )
    stranger = bao.sync("stranger", {"password": "password"})
    stranger["spec"]["secretProviderClassName"] = "web"
    await shop.apply(service_account("web"), bao.spc("web", *objects))
    await shop.apply(bao.sync("web", {"a": "password", "b": "user"}, account="web"), stranger)
    await shop.ready("web")
    await shop.secret_has("web", {"a": value, "b": "shop"})
    await shop.failed("stranger", "service account name not authorized", reason="ProviderError")
    assert [] == shop.versions("Secret", "stranger")

    value = shop.world.value("kv")
    await put_kv(bao.openbao, "secret/data/web", bar=value, user="shop")
    await shop.force("web", "x2")
    await shop.secret_has("web", {"a": value, "b": "shop"})
    tokens = [
        each
        for each in shop.world.writes(controller)
        if ("serviceaccounts/token", "web") == (each.resource, each.name)
    ]
    assert 1 == len(tokens), "one token for the audience of the role"


async def test_a_secret_sync_reads_with_approle(bao: BaoWorld, controller: Controller) -> None:
    """With the credentials of a Secret of its namespace."""
    shop = bao.shop
    value = shop.world.value("approle")
    await put_kv(bao.openbao, "secret/data/approle", bar=value)
    await allow(bao.openbao, "approle", "secret/data/approle")
    credentials = dict(await enable_approle(bao.openbao, "approle", "approle"))
    shop.world.canaries.append(credentials["secret_id"])
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "approle-login"},
        "stringData": credentials,
    }
    spc = bao.spc(
        "approle",
        entry("password", "secret/data/approle", "bar"),
        vaultAuthMethod="approle",
        vaultAuthMountPath="approle",
    )
    sync = bao.sync("approle", {"password": "password"})
    await shop.apply(spc, sync)
    text = "keyferry.dev/credentials-secret"
    await shop.failed("approle", text, reason="ProviderError")
    await shop.apply(secret)
    await shop.annotate("SecretSync", "approle", credentials_secret="approle-login")
    await shop.secret_has("approle", {"password": value})
    await shop.ready("approle")
    assert controller.child.pid


async def test_a_dynamic_secret_lives_as_long_as_its_secret_sync(
    bao: BaoWorld, controller: Controller
) -> None:
    """One lease for both keys; a refresh keeps it, and it is revoked with the SecretSync."""
    shop = bao.shop
    await bao.role("short", "database/creds/app")
    await shop.apply(bao.spc("short", *DATABASE), bao.sync("short", LOGIN))
    await shop.ready("short")
    user = await bao.login("short")
    await shop.annotate("SecretSync", "short", refresh="1")
    await shop.world.recorder.until(
        lambda: "1/" == _status(shop, "short").get("observedRefresh") or None, "the refresh"
    )
    assert user == await bao.login("short")
    assert 1 == await bao.openbao.leases("database/creds/app")
    assert controller.pod == _status(shop, "short")["leaseHolder"]
    await shop.delete("SecretSync", "short")
    await bao.users()

    async def revoked() -> bool:
        assert 0 == await bao.openbao.leases("database/creds/app")
        return True

    await eventually(revoked, "no lease to remain")


async def test_a_dynamic_secret_is_replaced_before_it_expires(
    bao: BaoWorld, controller: Controller
) -> None:
    """Once it reaches its maximum TTL; the old one is still valid when the Secret changes."""
    shop = bao.shop
    await database_role(bao.openbao, "brief", ttl="10s", max_ttl="20s")
    await bao.role("brief", "database/creds/brief")
    objects = (
        entry("username", "database/creds/brief", "username"),
        entry("password", "database/creds/brief", "password"),
    )
    await shop.apply(bao.spc("brief", *objects), bao.sync("brief", LOGIN))
    await shop.ready("brief")
    user = await bao.login("brief")
    assert controller.child.pid

    def replaced() -> bool | None:
        secret = shop.world.recorder.latest("Secret", shop.name, "brief")
        return (secret is not None and user != text_data(secret)["username"]) or None

    await shop.world.recorder.until(replaced, "another user in the Secret")
    assert user in await bao.postgres.made_users(), "the old one expired before"
    assert user != await bao.login("brief")
    await shop.delete("SecretSync", "brief")
    await bao.users()


def _status(shop: SyncNamespace, name: str) -> Document:
    sync = shop.world.recorder.latest("SecretSync", shop.name, name)
    assert sync is not None
    status: Document = sync["status"]
    return status


async def test_dynamic_secrets_survive_a_restart_but_not_another_leader(
    bao: BaoWorld, controller: Controller
) -> None:
    """The same pod goes on with its lease; another pod fetches a new one.

    What was deleted while no controller ran is revoked by the pod that holds the lease.
    """
    shop = bao.shop
    await bao.role("lasting", "database/creds/app")
    await bao.role("orphan", "database/creds/app")
    await shop.apply(bao.spc("lasting", *DATABASE), bao.spc("orphan", *DATABASE))
    await shop.apply(bao.sync("lasting", LOGIN), bao.sync("orphan", LOGIN))
    for name in ("lasting", "orphan"):
        await shop.ready(name)
    user, orphan = await bao.login("lasting"), await bao.login("orphan")
    version = len(shop.versions("Secret", "lasting"))
    await controller.kill()
    await shop.delete("SecretSync", "orphan")
    assert sorted([user, orphan]) == await bao.postgres.made_users()

    again = await bao.start_controller(0)
    await bao.users(user)
    await shop.annotate("SecretSync", "lasting", refresh="1")
    await shop.world.recorder.until(
        lambda: "1/" == _status(shop, "lasting").get("observedRefresh") or None, "the refresh"
    )
    assert user == await bao.login("lasting")
    assert version == len(shop.versions("Secret", "lasting")), "the Secret was not written"
    await again.terminate()

    other = await bao.start_controller(1)
    await shop.world.recorder.until(
        lambda: other.pod == _status(shop, "lasting").get("leaseHolder") or None,
        "the new leader to hold the lease",
    )
    successor = await bao.login("lasting")
    assert user != successor, "the new leader cannot renew the lease of the old one"
    await shop.delete("SecretSync", "lasting")

    async def revoked() -> bool | None:
        assert successor not in await bao.postgres.made_users()
        return True

    await eventually(revoked, "the lease of the new leader to be revoked")
    await other.terminate()
