"""The audit log of a driver whose pods read a Vault or OpenBao server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest

from keyferry.providers.vault.product import OPENBAO, VAULT, Product
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.settings import ResilienceSettings
from tests.fakes.audit import RecordingAuditLog
from tests.fakes.clock import ManualClock
from tests.fakes.driver import Driver, running_driver
from tests.fakes.vault_api import VaultApi, running_vault
from tests.fakes.vault_mounts import FakePod, entry, vault_mounts

ROTATION = 120.0
PASSWORD = entry("db", "secret/data/app/db", secretKey="password")
USER = entry("user", "secret/data/app/db", secretKey="username")
POLICY = {"secret/data/app/*": {"read"}, "kv/app": {"read"}, "database/creds/*": {"read"}}


@dataclass
class World:
    """A driver, the vault that its pods read, and its audit log."""

    product: Product
    vault: VaultApi
    driver: Driver
    audit_log: RecordingAuditLog

    @property
    def host(self) -> str:
        """The host of the vault, with its port."""
        return urlsplit(self.vault.parameters["vaultAddress"]).netloc

    def write_class(self, *entries: dict[str, Any], **parameters: str) -> None:
        """Apply the SecretProviderClass `web` with these objects."""
        given = {"roleName": "app", **self.vault.parameters, **parameters}
        self.driver.write_class(
            "web", provider=self.product.name, parameters={**given, "objects": json.dumps(entries)}
        )

    async def publish(self, pod: str = "web-0") -> list[dict[str, Any]]:
        """Publish a volume and return the records."""
        message = self.driver.publish_request("web", pod)
        message.volume_context.update(FakePod(pod, audience=self.product.audience).attributes())
        await self.driver.send_publish(message)
        return self.audit_log.take()

    async def fail(self) -> list[dict[str, Any]]:
        """Publish a volume, which fails, and return the records."""
        with pytest.raises(grpc.aio.AioRpcError):
            await self.publish()
        return self.audit_log.take()


@asynccontextmanager
async def running_world(home: Path, product: Product) -> AsyncIterator[World]:
    """Run a driver with rotation and one provider."""
    clock, audit_log = ManualClock(), RecordingAuditLog()
    limits = ResilienceSettings(
        refresh_interval=ROTATION, tracks_volumes=True, list_revalidation=False
    )
    fetcher = Fetcher(limits, clock)
    async with running_vault() as vault:
        vault.add_role("app", accounts=["shop/web"], policy=POLICY, audience="")
        vault.write("secret", "app/db", {"password": "canary-1", "username": "canary-user"})
        async with (
            vault_mounts(vault, product=product, fetcher=fetcher) as mounts,
            running_driver(
                home,
                built_in={product.name: mounts.provider},
                rotation_interval=ROTATION,
                clock=clock,
                fetcher=fetcher,
                audit_log=audit_log,
            ) as driver,
        ):
            world = World(product, vault, driver, audit_log)
            world.write_class(PASSWORD)
            yield world
    await fetcher.close()


@pytest.fixture(params=[VAULT, OPENBAO], ids=lambda product: product.name)
async def world(mount_home: Path, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A driver for each product."""
    async with running_world(mount_home, request.param) as running:
        yield running


async def test_mount_is_recorded_with_role_path_and_version(world: World) -> None:
    """The path has no query, and the version is that of the secret, not of the pod status."""
    world.vault.write("secret", "app/db", {"password": "canary-2"})
    (record,) = await world.publish()
    assert record["durationMS"] >= 0
    for field in ("timestamp", "durationMS"):
        del record[field]
    assert record == {
        "event": "mount",
        "pod": {"namespace": "shop", "name": "web-0"},
        "podUID": "uid-of-web-0",
        "serviceAccount": "web",
        "spc": {"namespace": "shop", "name": "web"},
        "provider": world.product.name,
        "vault": world.host,
        "identity": {"mode": "jwt", "authMount": "kubernetes", "role": "app"},
        "object": "secret/data/app/db",
        "version": "2",
        "source": "vault",
        "outcome": "delivered",
    }


async def test_entries_that_use_one_secret_have_one_record(world: World) -> None:
    """There is one access to it."""
    world.write_class(PASSWORD, USER)
    (record,) = await world.publish()
    assert record["object"] == "secret/data/app/db"


async def test_second_pod_is_recorded_as_served_from_the_cache(world: World) -> None:
    """A stored secret is shared by the pods of one service account."""
    await world.publish()
    (record,) = await world.publish("web-1")
    assert [record["source"], record["version"]] == ["cache", "1"]


async def test_refused_path_is_recorded_as_denied(world: World) -> None:
    """The other object was read, but is not delivered."""
    world.write_class(PASSWORD, entry("other", "secret/data/other", secretKey="x"))
    read, denied = await world.fail()
    assert [read["object"], read["outcome"]] == ["secret/data/app/db", "not-delivered"]
    assert [denied["object"], denied["outcome"]] == ["secret/data/other", "denied"]


async def test_missing_secret_is_recorded_as_not_found(world: World) -> None:
    """It has no version."""
    world.write_class(entry("db", "secret/data/app/none", secretKey="x"))
    (record,) = await world.fail()
    assert [record["outcome"], record["stage"]] == ["not-found", "object"]
    assert "version" not in record


async def test_query_of_a_path_is_not_recorded(world: World) -> None:
    """A query may contain anything."""
    world.write_class(entry("db", "secret/data/app/db?version=1&x=canary", secretKey="password"))
    (record,) = await world.publish()
    assert [record["object"], record["version"]] == ["secret/data/app/db", "1"]


async def test_rejected_login_has_one_record_without_an_object(world: World) -> None:
    """The vault knows no such role."""
    world.write_class(PASSWORD, USER, roleName="stranger")
    (record,) = await world.fail()
    assert [record["outcome"], record["stage"]] == ["denied", "identity"]
    assert record["identity"]["role"] == "stranger"
    assert "object" not in record


CREDENTIALS = {
    "token": {"token": "canary-token"},
    "approle": {"role_id": "canary-role", "secret_id": "canary-secret"},
}


@pytest.mark.parametrize(
    ("method", "identity"),
    [("token", {"mode": "token"}), ("approle", {"mode": "approle", "authMount": "approle"})],
)
async def test_credentials_of_the_secret_are_not_recorded(
    world: World, method: str, identity: dict[str, str]
) -> None:
    """Only that there were some; a role ID is half of the credential."""
    world.write_class(PASSWORD, roleName="", vaultAuthMethod=method)
    message = world.driver.publish_request("web")
    message.secrets.update(CREDENTIALS[method])
    with pytest.raises(grpc.aio.AioRpcError):
        await world.driver.send_publish(message)
    (record,) = world.audit_log.take()
    assert record["identity"] == identity
    assert record["outcome"] == "denied"


async def test_refresh_recognizes_unchanged_secrets_by_the_pod_status(world: World) -> None:
    """Although the version of the record is another one."""
    world.vault.write("kv", "app", {"key": "canary-kv"})
    world.write_class(PASSWORD, USER, entry("kv", "kv/app", secretKey="key"))
    await world.publish()
    world.vault.write("secret", "app/db", {"password": "canary-2", "username": "canary-user"})
    world.driver.clock.now += 2 * ROTATION
    changed, unchanged = await world.publish()
    assert [changed["event"], changed["object"], changed["version"]] == [
        "refresh", "secret/data/app/db", "2",
    ]  # fmt: skip
    assert unchanged["object"] == "kv/app"
    assert "version" not in unchanged
    assert world.audit_log.unchanged == ["kv/app"]


async def test_dynamic_secret_is_read_from_the_vault_once_per_pod(world: World) -> None:
    """A refresh uses the lease of the pod, and another pod gets another user."""
    world.write_class(entry("user", "database/creds/app", secretKey="username"))
    (first,) = await world.publish()
    world.driver.clock.now += 2 * ROTATION
    (refreshed,) = await world.publish()
    (other,) = await world.publish("web-1")
    assert [each["source"] for each in (first, refreshed, other)] == ["vault", "cache", "vault"]
    assert [each["event"] for each in (first, refreshed, other)] == ["mount", "refresh", "mount"]


async def test_stale_content_of_an_unavailable_vault_is_recorded_as_such(world: World) -> None:
    """For a pod that starts during the outage."""
    await world.publish()
    world.vault.fault = (503, ["Vault is sealed"])
    world.driver.clock.now += 60.0
    publishing = asyncio.create_task(world.publish("web-1"))
    while not publishing.done():
        await world.driver.clock.advance(0.5)  # between two tries
        await asyncio.sleep(0.001)
    records = await publishing  # a refresh of the other pod may have failed meanwhile
    (record,) = [each for each in records if each["pod"]["name"] == "web-1"]
    assert [record["source"], record["outcome"]] == ["stale", "delivered"]
