"""A volume from its publish to its unpublish, also after crashes and with concurrent calls.

Source: docs/reference/upstream-driver.md#nodepublishvolume
Source: docs/reference/upstream-driver.md#nodeunpublishvolume
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from keyferry.driver.request import parse_publish
from keyferry.driver.volumes.mounter import TmpfsMounter
from keyferry.errors import (
    ObjectNotFoundError,
    VaultError,
)
from tests.fakes.driver import Driver, running_driver
from tests.fakes.provider import ScriptedProvider
from tests.fakes.volume import layout_problems, read_through_links
from tests.integration.driver.calls import DB_SECRET, password, rejection

# --- publish --------------------------------------------------------------------------------------


async def test_volume_is_published_recorded_and_unpublished(driver: Driver) -> None:
    """Files, pod status and Secret come together and go together."""
    target = await driver.publish("web")
    assert {"a": b"1"} == read_through_links(target)
    assert [] == layout_problems(target)
    assert {"secret/a": "v1"} == await driver.objects_in_status("web")
    assert "1" == password(driver)
    await driver.unpublish()
    assert [] == driver.leftovers()
    await driver.unpublish()
    assert [] == list(target.parent.iterdir())


async def test_repeated_publish_does_not_call_the_provider(
    driver: Driver, provider: ScriptedProvider
) -> None:
    """Row 8: without rotation a mounted volume stays as it is, class or no class."""
    target = await driver.publish("web")
    provider.serves({"a": "2"})
    driver.remove_class("web")
    message = driver.publish_request("web")
    message.readonly = False
    await driver.send_publish(message)
    assert {"a": b"1"} == read_through_links(target)
    assert 1 == len(provider.calls)
    assert 2.0 == sum(driver.metric_values("node_publish_total").values())


async def test_pod_that_overrides_its_class_is_refused_if_the_administrator_says_so(
    mount_home: Path, provider: ScriptedProvider
) -> None:
    """The provider is not called, nothing remains, and a running pod keeps its content."""
    built_in = {"scripted": provider}
    async with running_driver(
        mount_home, built_in=built_in, rotation_interval=0, allow_attribute_overrides=False
    ) as driver:
        driver.write_class("web")
        message = driver.publish_request("web")
        message.volume_context["x"] = "other"
        status = await rejection(driver, message)
        assert "override its SecretProviderClass: 'x'" in (status.details() or "")
        assert [] == provider.calls
        target = await driver.publish("web")
        await driver.send_publish(message)
        assert {"a": b"1"} == read_through_links(target)
        assert 1 == len(provider.calls)


async def test_provider_receives_parameters_and_pod(
    driver: Driver, provider: ScriptedProvider
) -> None:
    """Row 14: all that kubelet says, and the secrets of nodePublishSecretRef."""
    message = driver.publish_request("web")
    message.secrets["clientid"] = "canary"
    await driver.send_publish(message)
    call = provider.calls[0]
    assert {**dict(message.volume_context), "x": "y"} == dict(call.attributes)
    assert {"clientid": "canary"} == call.secrets
    assert (str(driver.target()), 0o644) == (call.target_path, call.permission)
    assert "canary" not in driver.log.getvalue()


async def test_invalid_file_path_fails_and_leaves_nothing(
    driver: Driver, provider: ScriptedProvider
) -> None:
    """Row 18: unknown to the caller, FileWriteError in the metrics."""
    provider.serves({"ok": "1", "../escape": "2"})
    status = await rejection(driver, driver.publish_request("web"))
    assert grpc.StatusCode.UNKNOWN == status.code()
    assert "invalid filepath" in (status.details() or "")
    assert "FileWriteError" in next(iter(driver.metric_values("node_publish_error_total")))
    assert not (driver.target().parent / "escape").exists()


async def test_failed_first_mount_leaves_only_an_event(
    driver: Driver, provider: ScriptedProvider
) -> None:
    """No mount, no folder, no status, no Secret; the pod's events say why."""
    provider.fails(ObjectNotFoundError("there is no db", "Make one."))
    status = await rejection(driver, driver.publish_request("web"))
    assert "there is no db. Make one." in (status.details() or "")
    assert [("Warning", "FailedToMountObjects")] == [event[:2] for event in driver.events()]
    assert "there is no db. Make one." in driver.events()[0][2]
    provider.serves({"a": "1"})
    assert {"a": b"1"} == read_through_links(await driver.publish("web"))


async def test_failed_first_mount_keeps_the_folder_of_kubelet(
    driver: Driver, provider: ScriptedProvider
) -> None:
    """Only what the call created is removed."""
    driver.target().mkdir(parents=True)
    provider.fails(VaultError("no"))
    with pytest.raises(grpc.aio.AioRpcError):
        await driver.publish("web")
    assert [] == list(driver.target().iterdir())
    assert not driver.target().is_mount()


async def test_invalid_objects_fail_before_anything_is_written(
    mount_home: Path,
) -> None:
    """Neither the volume nor its record is made when its Secrets could not be."""
    scripted = ScriptedProvider()
    async with running_driver(mount_home, built_in={"azure": scripted}) as driver:
        driver.write_class(
            "odd", provider="azure", parameters={"objects": "no list"}, secret_objects=[DB_SECRET]
        )
        status = await rejection(driver, driver.publish_request("odd"))
        assert "objects" in (status.details() or "")
        assert 1 == len(scripted.calls)


def break_statuses(driver: Driver) -> None:
    """The store cannot write pod statuses any more."""
    folder = driver.manifests / "secretproviderclasspodstatuses"
    if folder.exists():
        folder.rename(driver.home / "statuses of before")
    folder.write_text("in the way")


async def test_failed_pod_status_write_does_not_fail_a_first_mount(driver: Driver) -> None:
    """Upstream fails here (row 19); the volume is complete, and an event reports the error."""
    break_statuses(driver)
    assert {"a": b"1"} == read_through_links(await driver.publish("web"))
    assert [("Warning", "FailedToWritePodStatus")] == [event[:2] for event in driver.events()]
    assert {} == driver.metric_values("node_publish_error_total")
    assert 1.0 <= driver.metric_values("keyferry_pod_status_errors_total")["error_type=Store"]


async def test_failed_pod_status_write_does_not_fail_a_refresh(
    rotating: Driver, provider: ScriptedProvider
) -> None:
    """Row 19; the new content is written, and an event reports the error."""
    target = await rotating.publish("web")
    break_statuses(rotating)
    provider.serves({"a": "2"})
    rotating.clock.now = 120
    await rotating.publish("web")
    assert {"a": b"2"} == read_through_links(target)
    reported = {event[1] for event in rotating.events()}
    assert {"FailedToWritePodStatus", "MountRotationComplete"} == reported


async def test_failed_secret_sync_does_not_fail_the_volume(driver: Driver) -> None:
    """The files are what the pod waits for; the event names class, Secret and candidates."""
    wrong = DB_SECRET | {"data": [{"objectName": "b", "key": "password"}]}
    driver.write_class("wrong", secret_objects=[wrong])
    assert {"a": b"1"} == read_through_links(await driver.publish("wrong"))
    assert driver.secret("db") is None
    ((kind, reason, message),) = driver.events()
    assert ("Warning", "FailedToCreateSecret") == (kind, reason)
    assert "shop/wrong" in message
    assert "'a'" in message or " a" in message


# --- defects of upstream that are fixed (docs/adr/0001) -------------------------------------------


async def test_retry_after_a_failed_first_mount_mounts(
    rotating: Driver, provider: ScriptedProvider
) -> None:
    """Upstream looks at the folder's time and reports success over an unmounted volume."""
    rotating.target().mkdir(parents=True)
    provider.fails(VaultError("no"))
    with pytest.raises(grpc.aio.AioRpcError):
        await rotating.publish("web")
    with pytest.raises(grpc.aio.AioRpcError):
        await rotating.publish("web")
    provider.serves({"a": "1"})
    assert {"a": b"1"} == read_through_links(await rotating.publish("web"))
    assert 3 == len(provider.calls)


@pytest.mark.mounts
@pytest.mark.parametrize("interval", [None, 120.0])
async def test_empty_tmpfs_after_a_crash_is_filled(
    mount_home: Path, provider: ScriptedProvider, interval: float | None
) -> None:
    """Upstream finds it mounted and reports success over an empty volume."""
    async with running_driver(
        mount_home, built_in={"scripted": provider}, rotation_interval=interval
    ) as driver:
        driver.write_class("web")
        TmpfsMounter().mount(driver.target())
        assert {"a": b"1"} == read_through_links(await driver.publish("web"))
        await driver.unpublish()
        assert [] == driver.leftovers()


async def test_file_path_dot_is_rejected_and_content_retained(
    rotating: Driver, provider: ScriptedProvider
) -> None:
    """Upstream accepts it and removes everything in the mount before it fails."""
    target = await rotating.publish("web")
    provider.serves({".": "x"})
    rotating.clock.now += 120
    await rotating.publish("web")
    assert {"a": b"1"} == read_through_links(target)
    assert [] == layout_problems(target)
    await rotating.unpublish()
    status = await rejection(rotating, rotating.publish_request("web"))
    assert "'.'" in (status.details() or "")


# --- concurrent calls -----------------------------------------------------------------------------


async def test_concurrent_calls_for_one_volume_are_serialized(
    rotating: Driver, provider: ScriptedProvider
) -> None:
    """The second waits, finds the work done, and asks nobody."""
    provider.gate.clear()
    # Called without gRPC, so that all five calls have reached the lock when the provider is called.
    request = parse_publish(rotating.publish_request("web"))
    calls = [asyncio.create_task(rotating.engine.publisher.publish(request)) for _ in range(5)]
    await provider.wait_for_calls(1)
    provider.gate.set()
    await asyncio.gather(*calls)
    assert (1, 1) == (len(provider.calls), provider.max_in_flight)
    await rotating.unpublish()
    assert [] == rotating.leftovers()


async def test_unpublish_notifies_the_providers(driver: Driver, provider: ScriptedProvider) -> None:
    """Providers can revoke what they created only for this volume."""
    await driver.publish("web")
    assert [] == provider.removed_volumes
    await driver.unpublish()
    assert [str(driver.target())] == provider.removed_volumes


async def test_unpublish_cancels_a_mount_that_hangs(
    driver: Driver, provider: ScriptedProvider
) -> None:
    """It ends the mount, and those in line behind it; nothing is left, and a later one works."""
    provider.gate.clear()
    calls = [asyncio.create_task(driver.publish("web")) for _ in range(3)]
    await provider.wait_for_calls(1)
    await driver.unpublish()
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert grpc.StatusCode.ABORTED == caught.value.code()
        assert "was unpublished while it was being published" in (caught.value.details() or "")
    assert [] == driver.leftovers()
    assert [] == driver.events(), "who deleted the pod knows why it was not mounted"
    assert 3.0 == sum(driver.metric_values("node_publish_error_total").values())
    provider.gate.set()
    assert {"a": b"1"} == read_through_links(await driver.publish("web"))
    assert 2 == len(provider.calls)


async def test_unpublish_cancels_a_refresh_that_hangs(
    rotating: Driver, provider: ScriptedProvider
) -> None:
    """The pod is deleted, so its files need not stay complete."""
    await rotating.publish("web")
    rotating.clock.now += 1000
    provider.gate.clear()
    call = asyncio.create_task(rotating.publish("web"))
    await provider.wait_for_calls(2)
    await rotating.unpublish()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert grpc.StatusCode.ABORTED == caught.value.code()
    assert [] == rotating.leftovers()
    assert {} == rotating.metric_values("rotation_reconcile_error_total")


async def test_calls_for_different_volumes_run_concurrently(
    driver: Driver, provider: ScriptedProvider
) -> None:
    """Ten volumes are in the provider at once."""
    driver.write_class("web")
    provider.gate.clear()
    pods = [f"web-{number}" for number in range(10)]
    calls = [asyncio.create_task(driver.publish("web", pod)) for pod in pods]
    await provider.wait_for_calls(10)
    provider.gate.set()
    for target in await asyncio.gather(*calls):
        assert {"a": b"1"} == read_through_links(target)
    assert 10 == provider.max_in_flight
    await asyncio.gather(*(driver.unpublish(pod) for pod in pods))
    assert [] == [left for pod in pods for left in driver.leftovers(pod)]


async def test_cancelled_first_mount_leaves_nothing(
    driver: Driver, provider: ScriptedProvider
) -> None:
    """And the next call does not wait for it."""
    provider.gate.clear()
    call = asyncio.create_task(driver.publish("web"))
    await provider.wait_for_calls(1)
    call.cancel()
    await asyncio.wait([call])
    await provider.wait_idle()
    await driver.unpublish()
    assert [] == driver.leftovers()
    provider.gate.set()
    assert {"a": b"1"} == read_through_links(await driver.publish("web"))


# --- unpublish ------------------------------------------------------------------------------------


async def test_shared_secret_is_deleted_with_the_last_volume(driver: Driver) -> None:
    """Its owners are their pod statuses."""
    await driver.publish("web", "web-0")
    await driver.publish("web", "web-1")
    await driver.unpublish("web-0")
    assert "1" == password(driver)
    await driver.unpublish("web-1")
    assert [] == driver.leftovers("web-1")


async def test_failed_unmount_is_an_internal_error_and_counted(driver: Driver) -> None:
    """The message begins as upstream's log line, which people search for."""
    target = driver.target()
    target.parent.mkdir(parents=True)
    target.write_text("a file")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await driver.unpublish()
    assert grpc.StatusCode.INTERNAL == caught.value.code()
    assert str(target) in (caught.value.details() or "")
    assert 1.0 == sum(driver.metric_values("node_unpublish_error_total").values())
