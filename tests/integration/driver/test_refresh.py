"""Refreshes of published volumes by repeated publish calls, also after a restart.

Source: docs/reference/upstream-driver.md#rotation
"""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from keyferry.errors import (
    ClassInvalidError,
    FilesInvalidError,
    ObjectNotFoundError,
    VaultError,
)
from keyferry.resilience.call_context import Purpose
from tests.fakes.driver import NAMESPACE, Driver, running_driver
from tests.fakes.provider import ScriptedProvider
from tests.fakes.volume import layout_problems, read_through_links
from tests.integration.driver.calls import DB_SECRET, password


async def test_refresh_updates_file_secret_and_pod_status(
    rotating: Driver, provider: ScriptedProvider
) -> None:
    """When the volume is due, and not before: once per interval."""
    target = await rotating.publish("web")
    provider.serves({"a": "2", "b": "new"}, "v2")
    await rotating.publish("web")
    assert {"a": b"1"} == read_through_links(target)
    rotating.clock.now = 120
    await rotating.publish("web")
    await rotating.publish("web")
    assert {"a": b"2", "b": b"new"} == read_through_links(target)
    assert {"secret/a": "v2", "secret/b": "v2"} == await rotating.objects_in_status("web")
    assert "2" == password(rotating)
    assert [("Normal", "MountRotationComplete")] == [event[:2] for event in rotating.events()]
    assert 2 == len(provider.calls)


async def test_provider_receives_the_purpose_of_a_call(
    rotating: Driver, provider: ScriptedProvider
) -> None:
    """A first mount goes before a refresh, on the way to the vault."""
    await rotating.publish("web")
    rotating.clock.now = 120
    await rotating.publish("web")
    assert [Purpose.FIRST, Purpose.REFRESH] == [call.purpose for call in provider.calls]


async def test_unchanged_refresh_writes_nothing(
    rotating: Driver, provider: ScriptedProvider
) -> None:
    """It is counted as one that did not rotate."""
    target = await rotating.publish("web")
    before = (target / "..data").lstat().st_ino
    rotating.clock.now = 120
    await rotating.publish("web")
    assert before == (target / "..data").lstat().st_ino
    assert [] == rotating.events()
    counted = rotating.metric_values("rotation_reconcile_total")
    assert {"provider=scripted rotated=false": 1.0} == counted
    assert 2 == len(provider.calls)


async def test_removed_object_is_removed_from_the_volume(
    rotating: Driver, provider: ScriptedProvider
) -> None:
    """The provider's answer is the whole content."""
    provider.serves({"a": "1", "b": "1", "d/e": "1"})
    target = await rotating.publish("web")
    provider.serves({"a": "1"})
    rotating.clock.now = 120
    await rotating.publish("web")
    assert {"a": b"1"} == read_through_links(target)
    assert [] == layout_problems(target)
    assert {"secret/a": "v1"} == await rotating.objects_in_status("web")


@pytest.mark.parametrize(
    "error",
    [
        VaultError("throttled"),
        FilesInvalidError("bad"),
        ObjectNotFoundError("removed"),
        ClassInvalidError("objects is not YAML any more"),
    ],
)
async def test_failed_refresh_retains_previous_content_and_is_reported(
    rotating: Driver, provider: ScriptedProvider, error: Exception
) -> None:
    """Kubelet gets OK, because the volume is complete; event, metric and log report it."""
    target = await rotating.publish("web")
    provider.fails(error)
    rotating.clock.now = 120
    await rotating.publish("web")
    assert {"a": b"1"} == read_through_links(target)
    assert {"secret/a": "v1"} == await rotating.objects_in_status("web")
    assert "1" == password(rotating)
    ((kind, reason, message),) = rotating.events()
    assert ("Warning", "MountRotationFailed") == (kind, reason)
    assert str(error) in message
    assert 1.0 == sum(rotating.metric_values("rotation_reconcile_error_total").values())
    assert 1.0 == sum(rotating.metric_values("node_publish_error_total").values())
    assert str(error) in rotating.log.getvalue()
    provider.serves({"a": "2"})
    await rotating.publish("web")
    assert {"a": b"2"} == read_through_links(target)


async def test_deleted_secret_provider_class_fails_a_refresh(rotating: Driver) -> None:
    """As upstream: only failures of provider and status are masked; the volume stays."""
    target = await rotating.publish("web")
    rotating.remove_class("web")
    rotating.clock.now = 120
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rotating.publish("web")
    assert grpc.StatusCode.UNKNOWN == caught.value.code()
    assert {"a": b"1"} == read_through_links(target)


async def test_volume_is_refreshed_at_once_after_a_restart(
    mount_home: Path, provider: ScriptedProvider
) -> None:
    """A new process does not know how old the content is."""
    settings = {"scripted": provider}
    async with running_driver(mount_home, built_in=settings, rotation_interval=120) as driver:
        driver.write_class("web")
        await driver.publish("web")
    provider.serves({"a": "2"})
    async with running_driver(mount_home, built_in=settings, rotation_interval=120) as driver:
        assert {"a": b"2"} == read_through_links(await driver.publish("web"))
        await driver.unpublish()
        assert [] == driver.leftovers()


@pytest.mark.parametrize("other", ["pod", "target"])
async def test_pod_status_of_another_volume_is_ignored_after_a_restart(
    mount_home: Path, provider: ScriptedProvider, other: str
) -> None:
    """A pod of the same name that was recreated, or the pod's other volume of the same class."""
    settings = {"scripted": provider}
    async with running_driver(mount_home, built_in=settings) as driver:
        driver.write_class("web")
        await driver.publish("web")
        changed = driver.publish_request("web")
        if other == "target":
            changed.target_path = str(driver.target("other-volume"))
            await driver.send_publish(changed)
    asked = len(provider.calls)
    async with running_driver(mount_home, built_in=settings) as driver:
        again = driver.publish_request("web")
        if other == "pod":
            again.volume_context["csi.storage.k8s.io/pod.uid"] = "another"
        await driver.send_publish(again)
    assert asked + 1 == len(provider.calls)


async def test_provider_is_not_called_after_a_restart_without_rotation(
    mount_home: Path, provider: ScriptedProvider
) -> None:
    """The record says that the volume is whole; its Secrets are looked after from its files."""
    settings = {"scripted": provider}
    async with running_driver(mount_home, built_in=settings) as driver:
        driver.write_class("web", secret_objects=[DB_SECRET])
        await driver.publish("web")
        (driver.manifests / "secrets" / NAMESPACE / "db.yaml").unlink()
    async with running_driver(mount_home, built_in=settings) as driver:
        await driver.publish("web")
        await driver.publish("web")
        assert "1" == password(driver)
        assert {"secret/a": "v1"} == await driver.objects_in_status("web")
    assert 1 == len(provider.calls)
