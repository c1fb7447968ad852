"""The audit log of a driver with an external provider, which reports only object versions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from keyferry.net.grpc_server import Context
from keyferry.proto import provider_v1alpha1_pb2 as wire
from keyferry.providers.api import encode_result
from tests.fakes.audit import RecordingAuditLog
from tests.fakes.driver import Driver, running_driver
from tests.fakes.provider import external_provider, mount_result

ROTATION = 60.0


@dataclass
class Handler:
    """Answers Mount calls.

    Attributes:
        versions: the version of each object.
        fails: whether the calls fail.
    """

    versions: dict[str, str]
    fails: bool = False

    async def __call__(self, _: wire.MountRequest, context: Context) -> wire.MountResponse:
        """Answer one call."""
        if self.fails:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "no")
        response = wire.MountResponse()
        for name, version in self.versions.items():
            response.MergeFrom(encode_result(mount_result({name: "canary-value"}, version)))
        return response


@asynccontextmanager
async def running(home: Path, handler: Handler) -> AsyncIterator[tuple[Driver, RecordingAuditLog]]:
    """Run a driver and the external provider `ext`."""
    audit_log = RecordingAuditLog()
    async with (
        external_provider(home / "ext.sock", handler),
        running_driver(
            home, socket_folders=[home], rotation_interval=ROTATION, audit_log=audit_log
        ) as driver,
    ):
        driver.write_class("web", provider="ext")
        yield driver, audit_log


async def test_object_versions_are_recorded(mount_home: Path) -> None:
    """Vault, identity and source are unknown."""
    handler = Handler({"a": "1", "b": "2"})
    async with running(mount_home, handler) as (driver, audit_log):
        await driver.publish("web")
        first, second = audit_log.take()
        del first["timestamp"]
        assert first == {
            "event": "mount",
            "pod": {"namespace": "shop", "name": "web-0"},
            "podUID": "uid-of-web-0",
            "serviceAccount": "web",
            "spc": {"namespace": "shop", "name": "web"},
            "provider": "ext",
            "object": "secret/a",
            "version": "1",
            "outcome": "delivered",
        }
        assert [second["object"], second["version"]] == ["secret/b", "2"]


async def test_refresh_compares_the_versions_of_each_object(mount_home: Path) -> None:
    """An object may get a version that another object has."""
    handler = Handler({"a": "1", "b": "2"})
    async with running(mount_home, handler) as (driver, audit_log):
        await driver.publish("web")
        handler.versions["a"] = "2"
        driver.clock.now += 2 * ROTATION
        audit_log.take()
        await driver.publish("web")
        assert [record["event"] for record in audit_log.records] == ["refresh", "refresh"]
        assert audit_log.unchanged == ["secret/b"]


async def test_failed_call_has_one_record(mount_home: Path) -> None:
    """The provider does not say which object failed."""
    async with running(mount_home, Handler({}, fails=True)) as (driver, audit_log):
        with pytest.raises(grpc.aio.AioRpcError):
            await driver.publish("web")
        (record,) = audit_log.take()
        assert "object" not in record
        assert [record["outcome"], record["reason"]] == ["failed", "GRPCProviderError"]


async def test_content_that_cannot_be_written_is_not_delivered(mount_home: Path) -> None:
    """The path leaves the volume."""
    async with running(mount_home, Handler({"../a": "1"})) as (driver, audit_log):
        with pytest.raises(grpc.aio.AioRpcError):
            await driver.publish("web")
        (record,) = audit_log.take()
        assert [record["outcome"], record["stage"]] == ["not-delivered", "volume"]
