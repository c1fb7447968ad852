"""The audit log of a driver whose pods read an emulated Key Vault."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from keyferry.aio.clock import SystemClock
from keyferry.net.http_client import HttpsClient
from keyferry.providers.azure.provider import AzureProvider
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.settings import ResilienceSettings
from tests.fakes.audit import RecordingAuditLog
from tests.fakes.azure_mounts import entry
from tests.fakes.clock import ManualClock
from tests.fakes.devvault import DEFAULT_TENANT, DevVault, RespondStatus, running_devvault
from tests.fakes.driver import Driver, running_driver

MI = "11111111-0000-4000-8000-000000000001"
VAULT = "contoso.vault.azure.net"
ROTATION = 120.0
IDENTITY = {"mode": "VmManagedIdentity", "tenantID": DEFAULT_TENANT, "clientID": MI}


class LaterClock(SystemClock):
    """An hour ahead: content that was changed a moment ago cannot be revalidated."""

    def wall(self) -> datetime:
        """Return the wall time."""
        return super().wall() + timedelta(hours=1)


@dataclass
class World:
    """A driver, the vault that its pods read, and its audit log."""

    vault: DevVault
    driver: Driver
    audit_log: RecordingAuditLog

    def write_class(self, *entries: str, identity: str = MI) -> None:
        """Apply the SecretProviderClass `web` with these objects."""
        parameters = {
            "keyvaultName": "contoso",
            "tenantID": DEFAULT_TENANT,
            "useVMManagedIdentity": "true",
            "userAssignedIdentityID": identity,
            "objects": json.dumps({"array": entries or (entry(),)}),
        }
        self.driver.write_class("web", provider="azure", parameters=parameters)

    async def fail(self, pod: str = "web-0") -> list[dict[str, Any]]:
        """Publish a volume, which fails, and return the records."""
        with pytest.raises(grpc.aio.AioRpcError):
            await self.driver.publish("web", pod)
        return self.audit_log.take()

    async def publish(self, pod: str = "web-0") -> list[dict[str, Any]]:
        """Publish a volume and return the records."""
        await self.driver.publish("web", pod)
        return self.audit_log.take()


@asynccontextmanager
async def running_world(home: Path, *, list_revalidation: bool = False) -> AsyncIterator[World]:
    """Run a driver with rotation and an Azure provider."""
    clock = ManualClock()
    limits = ResilienceSettings(
        refresh_interval=ROTATION, tracks_volumes=True, list_revalidation=list_revalidation
    )
    fetcher = Fetcher(limits, clock)
    audit_log = RecordingAuditLog()
    async with running_devvault(home) as vault:
        vault.set_secret("contoso", "db-password", "canary-value")
        vault.add_managed_identity(MI)
        vault.grant("contoso", MI, "get", "list")
        provider = AzureProvider(HttpsClient(vault.emulator.https), fetcher, clock=LaterClock())
        async with running_driver(
            home,
            built_in={"azure": provider},
            rotation_interval=ROTATION,
            clock=clock,
            fetcher=fetcher,
            audit_log=audit_log,
        ) as driver:
            world = World(vault, driver, audit_log)
            world.write_class()
            yield world
        await fetcher.close()


@pytest.fixture
async def world(mount_home: Path) -> AsyncIterator[World]:
    """A driver without list revalidation, so that each refresh reads its objects."""
    async with running_world(mount_home) as running:
        yield running


def history(name: str) -> str:
    """Return an entry that requests three versions of a secret."""
    return json.dumps({"objectName": name, "objectType": "secret", "objectVersionHistory": 3})


def facts(record: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that differ between the records of one pod."""
    who = ("timestamp", "pod", "podUID", "serviceAccount", "spc", "provider", "durationMS")
    return {key: value for key, value in record.items() if key not in who}


async def test_mount_is_recorded_with_pod_identity_object_and_version(world: World) -> None:
    """One record, from the vault."""
    version = world.vault.set_secret("contoso", "db-password", "canary-second")
    (record,) = await world.publish()
    assert record["durationMS"] >= 0
    assert record["pod"] == {"namespace": "shop", "name": "web-0"}
    assert record["podUID"] == "uid-of-web-0"
    assert record["serviceAccount"] == "web"
    assert record["spc"] == {"namespace": "shop", "name": "web"}
    assert record["provider"] == "azure"
    assert facts(record) == {
        "event": "mount",
        "vault": VAULT,
        "identity": IDENTITY,
        "object": "secret/db-password",
        "version": version,
        "source": "vault",
        "outcome": "delivered",
    }


async def test_second_pod_is_recorded_as_served_from_the_cache(world: World) -> None:
    """Without a duration, because the vault was not asked."""
    await world.publish()
    (record,) = await world.publish("web-1")
    assert record["pod"]["name"] == "web-1"
    assert record["source"] == "cache"
    assert "durationMS" not in record


async def test_refused_identity_is_recorded_for_each_object(world: World) -> None:
    """The second attempt is answered by the negative cache."""
    world.vault.revoke("contoso", MI)
    (record,) = await world.fail()
    assert facts(record) == {
        "event": "mount",
        "vault": VAULT,
        "identity": IDENTITY,
        "object": "secret/db-password",
        "source": "vault",
        "outcome": "denied",
        "reason": "GRPCProviderError",
        "stage": "vault",
    }
    (record,) = await world.fail()
    assert record["outcome"] == "denied"
    assert record["source"] == "cache"


async def test_object_that_was_read_by_a_failed_mount_is_not_delivered(world: World) -> None:
    """The pod gets nothing, because another object does not exist."""
    world.write_class(entry(), entry("missing"))
    read, missing = await world.fail()
    assert [read["object"], read["outcome"]] == ["secret/db-password", "not-delivered"]
    assert read["stage"] == "object"
    assert [missing["object"], missing["outcome"]] == ["secret/missing", "not-found"]


async def test_missing_optional_object_is_recorded_as_not_found(world: World) -> None:
    """The mount succeeds, and the other object is delivered."""
    world.write_class(entry(), entry("missing", optional="true"))
    read, missing = await world.publish()
    assert [read["object"], read["outcome"]] == ["secret/db-password", "delivered"]
    assert [missing["object"], missing["outcome"]] == ["secret/missing", "not-found"]


async def test_identity_without_a_token_has_one_record_without_an_object(world: World) -> None:
    """However many objects the SecretProviderClass lists."""
    stranger = "33333333-0000-4000-8000-000000000003"
    world.write_class(entry(), entry("other"), identity=stranger)
    (record,) = await world.fail()
    assert facts(record) == {
        "event": "mount",
        "vault": VAULT,
        "identity": {**IDENTITY, "clientID": stranger},
        "outcome": "denied",
        "reason": "GRPCProviderError",
        "stage": "identity",
    }


async def test_invalid_parameters_have_one_record_without_a_vault(world: World) -> None:
    """Nothing was read."""
    world.driver.write_class("web", provider="azure", parameters={"keyvaultName": "contoso"})
    (record,) = await world.fail()
    assert facts(record) == {
        "event": "mount",
        "outcome": "failed",
        "reason": "FailedToMount",
        "stage": "class",
    }


async def test_stale_content_of_an_unavailable_vault_is_recorded_as_such(world: World) -> None:
    """For a pod that starts during the outage."""
    await world.publish()
    world.vault.add_fault(VAULT, RespondStatus(500), times=None)
    world.driver.clock.now += 60.0
    publishing = asyncio.create_task(world.publish("web-1"))
    while not publishing.done():
        await world.driver.clock.advance(1.0)  # between two tries
        await asyncio.sleep(0.001)
    records = await publishing  # a refresh of the other pod may have failed meanwhile
    (record,) = [each for each in records if each["pod"]["name"] == "web-1"]
    assert record["source"] == "stale"
    assert record["outcome"] == "delivered"


async def test_failed_refresh_is_recorded(world: World) -> None:
    """Although it is no error for kubelet."""
    await world.publish()
    world.vault.delete("contoso", "db-password")
    world.driver.clock.now += 2 * ROTATION
    (record,) = await world.publish()
    assert [record["event"], record["outcome"]] == ["refresh", "not-found"]


async def test_refresh_is_recorded_with_the_new_version(world: World) -> None:
    """Unchanged objects of the same refresh are recorded too."""
    world.vault.set_secret("contoso", "other", "canary-other")
    world.write_class(entry(), entry("other"))
    await world.publish()
    version = world.vault.set_secret("contoso", "db-password", "canary-second")
    world.driver.clock.now += 2 * ROTATION
    changed, unchanged = await world.publish()
    assert [changed["event"], changed["object"]] == ["refresh", "secret/db-password"]
    assert changed["version"] == version
    assert unchanged["object"] == "secret/other"
    assert changed["source"] == unchanged["source"] == "vault"


async def test_each_version_of_a_history_is_recorded(world: World) -> None:
    """The list of the versions is not an access to an object."""
    versions = [
        world.vault.set_secret("contoso", "many", f"canary-{number}") for number in range(3)
    ]
    world.write_class(history("many"))
    records = await world.publish()
    assert [record["object"] for record in records] == ["secret/many"] * 3
    assert {record["version"] for record in records} == set(versions)


async def test_missing_history_is_recorded_once(world: World) -> None:
    """It fails before a version is read."""
    world.write_class(history("missing"))
    (record,) = await world.fail()
    assert [record["object"], record["outcome"]] == ["secret/missing", "not-found"]


async def test_revalidated_content_is_recorded_as_such(mount_home: Path) -> None:
    """A list of the vault shows that the object has not changed."""
    async with running_world(mount_home, list_revalidation=True) as world:
        objects = [f"object-{number}" for number in range(30)]
        for name in objects:
            world.vault.set_secret("contoso", name, f"canary-{name}")
        world.write_class(*map(entry, objects))
        await world.publish()
        world.driver.clock.now += 2 * ROTATION
        records = await world.publish()
        assert {record["event"] for record in records} == {"refresh"}
        assert "revalidated" in {record["source"] for record in records}
