"""The driver over its CSI socket: each step of upstream's node service, and the story of a volume.

Source: docs/reference/upstream-driver.md#nodepublishvolume
Source: docs/reference/upstream-driver.md#nodeunpublishvolume
"""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from keyferry.driver.volumes.mounter import TmpfsMounter
from keyferry.errors import (
    ClassInvalidError,
    FilesInvalidError,
    ObjectNotFoundError,
    VaultError,
)
from keyferry.proto import csi_pb2 as csi
from keyferry.resilience.call_context import Purpose
from tests.fakes.driver import NAMESPACE, Driver, running_driver
from tests.fakes.provider import ScriptedProvider
from tests.fakes.volume import layout_problems, read_through_links

OPAQUE = {
    "secretName": "db",
    "type": "Opaque",
    "data": [{"objectName": "a", "key": "password"}],
}


@pytest.fixture
def provider() -> ScriptedProvider:
    """Delivers the file `a` with `1` until it is told otherwise."""
    return ScriptedProvider()


@pytest.fixture
async def driver(mount_home: Path, provider: ScriptedProvider) -> AsyncIterator[Driver]:
    """A driver without rotation and a class `web` that makes the Secret `db`."""
    async with running_driver(mount_home, built_in={"scripted": provider}) as running:
        running.write_class("web", secret_objects=[OPAQUE])
        yield running


@pytest.fixture
async def rotating(mount_home: Path, provider: ScriptedProvider) -> AsyncIterator[Driver]:
    """The same with rotation every two minutes."""
    async with running_driver(
        mount_home, built_in={"scripted": provider}, rotation_interval=120
    ) as running:
        running.write_class("web", secret_objects=[OPAQUE])
        yield running


def password(driver: Driver) -> str | None:
    """What the Secret `db` holds."""
    secret = driver.secret("db")
    return None if secret is None else b64decode(secret["data"]["password"]).decode()


async def refused(driver: Driver, message: csi.NodePublishVolumeRequest) -> grpc.aio.AioRpcError:
    """The status that a publish call ends with, after which nothing is left."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await driver.send_publish(message)
    assert [] == driver.leftovers()
    return caught.value


# --- identity, controller, capabilities -----------------------------------------------------------


async def test_the_plugin_tells_its_name_and_version(driver: Driver) -> None:
    """Kubelet registers it by this name."""
    info = await driver.call(
        "Identity/GetPluginInfo", csi.GetPluginInfoRequest(), csi.GetPluginInfoResponse
    )
    assert ("secrets-store.csi.k8s.io", "9.8.7") == (info.name, info.vendor_version)
    assert {} == dict(info.manifest)


async def test_the_node_tells_its_name_and_no_limits(driver: Driver) -> None:
    """No topology, no maximum of volumes."""
    info = await driver.call("Node/NodeGetInfo", csi.NodeGetInfoRequest(), csi.NodeGetInfoResponse)
    assert csi.NodeGetInfoResponse(node_id="node-1") == info


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("Identity/GetPluginCapabilities", "0a 04 0a 02 08 01"),
        ("Identity/Probe", "0a 02 08 01"),
        # Ours beside upstream's: VOLUME_MOUNT_GROUP.
        ("Node/NodeGetCapabilities", "0a 04 0a 02 08 01 0a 04 0a 02 08 06"),
        ("Controller/ControllerGetCapabilities", "0a 02 0a 00"),
    ],
)
async def test_capabilities_are_answered_with_the_bytes_of_upstream(
    driver: Driver, method: str, expected: str
) -> None:
    """To the byte, because the API server and sidecars act on them."""
    assert bytes.fromhex(expected) == await driver.call_raw(method)


@pytest.mark.parametrize(
    "method",
    [
        "Controller/CreateVolume",
        "Controller/DeleteVolume",
        "Controller/ControllerPublishVolume",
        "Controller/ControllerUnpublishVolume",
        "Controller/ValidateVolumeCapabilities",
        "Controller/ListVolumes",
        "Controller/GetCapacity",
        "Controller/CreateSnapshot",
        "Controller/ControllerExpandVolume",
        "Node/NodeGetVolumeStats",
        "Node/NodeExpandVolume",
    ],
)
async def test_everything_else_is_unimplemented(driver: Driver, method: str) -> None:
    """The status that callers of optional methods expect."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await driver.call_raw(method)
    assert grpc.StatusCode.UNIMPLEMENTED == caught.value.code()


async def test_staging_checks_its_arguments_and_does_nothing(driver: Driver) -> None:
    """It is offered because upstream offers it."""
    stage = csi.NodeStageVolumeRequest(volume_id="1", staging_target_path="/s")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await driver.call("Node/NodeStageVolume", stage, csi.NodeStageVolumeResponse)
    assert grpc.StatusCode.INVALID_ARGUMENT == caught.value.code()
    stage.volume_capability.SetInParent()
    await driver.call("Node/NodeStageVolume", stage, csi.NodeStageVolumeResponse)
    unstage = csi.NodeUnstageVolumeRequest(volume_id="1", staging_target_path="/s")
    await driver.call("Node/NodeUnstageVolume", unstage, csi.NodeUnstageVolumeResponse)
    assert not Path("/s").exists()


# --- refused calls --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field", ["volume_capability", "volume_id", "target_path", "volume_context"]
)
async def test_a_publish_call_without_a_field_is_an_invalid_argument(
    driver: Driver, field: str
) -> None:
    """Rows 1 to 4."""
    message = driver.publish_request("web")
    message.ClearField(field)
    status = await refused(driver, message)
    assert grpc.StatusCode.INVALID_ARGUMENT == status.code()
    assert field in (status.details() or "")


async def test_a_volume_that_names_no_class_is_unknown(driver: Driver) -> None:
    """Row 10."""
    status = await refused(driver, driver.publish_request(""))
    assert grpc.StatusCode.UNKNOWN == status.code()
    assert "volumeAttributes.secretProviderClass" in (status.details() or "")


async def test_a_class_that_is_missing_is_unknown_in_the_words_of_upstream(driver: Driver) -> None:
    """Row 11: people and upstream's end-to-end tests search for these words."""
    status = await refused(driver, driver.publish_request("nope"))
    assert grpc.StatusCode.UNKNOWN == status.code()
    assert f"failed to get secretproviderclass {NAMESPACE}/nope" in (status.details() or "")
    assert "not found" in (status.details() or "")
    errors = driver.metric_values("node_publish_error_total")
    assert {"error_type=SecretProviderClassNotFound provider=": 1.0} == errors


async def test_a_class_of_another_namespace_is_not_found(driver: Driver) -> None:
    """A class is read in the namespace of the pod, and nowhere else."""
    driver.write_class("elsewhere", namespace="other")
    status = await refused(driver, driver.publish_request("elsewhere"))
    assert "failed to get secretproviderclass shop/elsewhere" in (status.details() or "")


@pytest.mark.parametrize(
    ("named", "parameters", "words"),
    [
        ("", {"x": "y"}, "spec.provider is empty"),
        ("a/b", {"x": "y"}, "is not a valid provider name"),
        ("scripted", {}, "spec.parameters is empty"),
    ],
)
async def test_a_class_that_says_too_little_is_unknown(
    driver: Driver, named: str, parameters: dict[str, str], words: str
) -> None:
    """Rows 12 and 13, with the class named."""
    driver.write_class("poor", provider=named, parameters=parameters)
    status = await refused(driver, driver.publish_request("poor"))
    assert grpc.StatusCode.UNKNOWN == status.code()
    assert words in (status.details() or "")
    assert "shop/poor" in (status.details() or "")


async def test_a_volume_that_is_not_read_only_is_an_invalid_argument(
    driver: Driver, provider: ScriptedProvider
) -> None:
    """Row 15: after the class was found, before the provider is asked."""
    message = driver.publish_request("web")
    message.readonly = False
    status = await refused(driver, message)
    assert grpc.StatusCode.INVALID_ARGUMENT == status.code()
    assert "readOnly: true" in (status.details() or "")
    assert [] == provider.calls
    missing = driver.publish_request("nope")
    missing.readonly = False
    assert grpc.StatusCode.UNKNOWN == (await refused(driver, missing)).code()


@pytest.mark.parametrize("kind", ["file", "link"])
async def test_a_target_that_is_no_folder_is_internal(driver: Driver, kind: str) -> None:
    """Row 7, and what stands there is not touched."""
    target = driver.target()
    target.parent.mkdir(parents=True)
    if kind == "file":
        target.write_text("x")
    else:
        target.symlink_to(driver.home)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await driver.publish("web")
    assert grpc.StatusCode.INTERNAL == caught.value.code()
    assert str(target) in (caught.value.details() or "")
    assert target.is_symlink() or "x" == target.read_text()


async def test_a_defect_is_internal_and_tells_its_type_alone(
    driver: Driver, provider: ScriptedProvider
) -> None:
    """The text of an exception that is not ours could hold anything."""
    provider.fails(ZeroDivisionError("canary-value"))
    status = await refused(driver, driver.publish_request("web"))
    assert grpc.StatusCode.INTERNAL == status.code()
    assert "ZeroDivisionError" in (status.details() or "")
    assert "canary-value" not in (status.details() or "") + driver.log.getvalue()
    assert "provider.py" in driver.log.getvalue()


async def test_a_cancellation_that_nobody_asked_for_is_answered(
    driver: Driver, provider: ScriptedProvider
) -> None:
    """As a defect; gRPC leaves who called without an answer when a call ends as cancelled."""
    provider.fails(asyncio.CancelledError())
    async with asyncio.timeout(100):
        status = await refused(driver, driver.publish_request("web"))
    assert grpc.StatusCode.INTERNAL == status.code()
    assert "CancelledError" in (status.details() or "")


# --- the story of a volume ------------------------------------------------------------------------


async def test_a_volume_is_published_recorded_and_taken_away(driver: Driver) -> None:
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


async def test_a_repeated_publish_is_answered_without_asking_the_provider(
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


async def test_what_the_provider_hears_is_the_class_and_the_pod(
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


async def test_a_file_that_cannot_be_written_is_refused_and_nothing_left(
    driver: Driver, provider: ScriptedProvider
) -> None:
    """Row 18: unknown to the caller, FileWriteError in the metrics."""
    provider.serves({"ok": "1", "../escape": "2"})
    status = await refused(driver, driver.publish_request("web"))
    assert grpc.StatusCode.UNKNOWN == status.code()
    assert "invalid filepath" in (status.details() or "")
    assert "FileWriteError" in next(iter(driver.metric_values("node_publish_error_total")))
    assert not (driver.target().parent / "escape").exists()


async def test_a_failed_first_mount_leaves_nothing_but_an_event(
    driver: Driver, provider: ScriptedProvider
) -> None:
    """No mount, no folder, no status, no Secret; the pod's events tell why."""
    provider.fails(ObjectNotFoundError("there is no db", "Make one."))
    status = await refused(driver, driver.publish_request("web"))
    assert "there is no db. Make one." in (status.details() or "")
    assert [("Warning", "FailedToMountObjects")] == [event[:2] for event in driver.events()]
    assert "there is no db. Make one." in driver.events()[0][2]
    provider.serves({"a": "1"})
    assert {"a": b"1"} == read_through_links(await driver.publish("web"))


async def test_the_folder_of_kubelet_stays_after_a_failed_first_mount(
    driver: Driver, provider: ScriptedProvider
) -> None:
    """Only what the call made is taken away again."""
    driver.target().mkdir(parents=True)
    provider.fails(VaultError("no"))
    with pytest.raises(grpc.aio.AioRpcError):
        await driver.publish("web")
    assert [] == list(driver.target().iterdir())
    assert not driver.target().is_mount()


async def test_a_class_whose_files_have_no_names_is_refused_before_anything_is_written(
    mount_home: Path,
) -> None:
    """Neither the volume nor its record is made when its Secrets could not be."""
    scripted = ScriptedProvider()
    async with running_driver(mount_home, built_in={"azure": scripted}) as driver:
        driver.write_class(
            "odd", provider="azure", parameters={"objects": "no list"}, secret_objects=[OPAQUE]
        )
        status = await refused(driver, driver.publish_request("odd"))
        assert "objects" in (status.details() or "")
        assert 1 == len(scripted.calls)


def break_statuses(driver: Driver) -> None:
    """The store cannot write pod statuses any more."""
    folder = driver.manifests / "secretproviderclasspodstatuses"
    if folder.exists():
        folder.rename(driver.home / "statuses of before")
    folder.write_text("in the way")


async def test_a_record_that_cannot_be_written_does_not_fail_a_first_mount(driver: Driver) -> None:
    """Upstream fails here (row 19); but the volume is whole, and the event tells."""
    break_statuses(driver)
    assert {"a": b"1"} == read_through_links(await driver.publish("web"))
    assert [("Warning", "FailedToWritePodStatus")] == [event[:2] for event in driver.events()]
    assert {} == driver.metric_values("node_publish_error_total")
    assert 1.0 <= driver.metric_values("keyferry_pod_status_errors_total")["error_type=Store"]


async def test_a_record_that_cannot_be_written_does_not_fail_a_refresh(
    rotating: Driver, provider: ScriptedProvider
) -> None:
    """Row 19; the new content is there, and the event tells."""
    target = await rotating.publish("web")
    break_statuses(rotating)
    provider.serves({"a": "2"})
    rotating.clock.now = 120
    await rotating.publish("web")
    assert {"a": b"2"} == read_through_links(target)
    told = {event[1] for event in rotating.events()}
    assert {"FailedToWritePodStatus", "MountRotationComplete"} == told


async def test_a_secret_that_cannot_be_made_does_not_fail_the_volume(driver: Driver) -> None:
    """The files are what the pod waits for; the event names class, Secret and candidates."""
    wrong = OPAQUE | {"data": [{"objectName": "b", "key": "password"}]}
    driver.write_class("wrong", secret_objects=[wrong])
    assert {"a": b"1"} == read_through_links(await driver.publish("wrong"))
    assert driver.secret("db") is None
    ((kind, reason, message),) = driver.events()
    assert ("Warning", "FailedToCreateSecret") == (kind, reason)
    assert "shop/wrong" in message
    assert "'a'" in message or " a" in message


# --- three defects of the original (issue 2, item 2) ----------------------------------------------


async def test_a_retry_after_a_failed_first_mount_is_a_real_mount(
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
async def test_an_empty_tmpfs_of_a_crash_is_filled_and_not_accepted(
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


async def test_the_path_dot_is_refused_and_does_not_empty_the_volume(
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
    status = await refused(rotating, rotating.publish_request("web"))
    assert "'.'" in (status.details() or "")


# --- rotation -------------------------------------------------------------------------------------


async def test_a_refresh_follows_the_vault_in_file_secret_and_status(
    rotating: Driver, provider: ScriptedProvider
) -> None:
    """When the volume is due, and not before: its tick comes once in an interval."""
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


async def test_a_provider_hears_whether_a_pod_waits_for_it(
    rotating: Driver, provider: ScriptedProvider
) -> None:
    """A first mount goes before a refresh, on the way to the vault."""
    await rotating.publish("web")
    rotating.clock.now = 120
    await rotating.publish("web")
    assert [Purpose.FIRST, Purpose.REFRESH] == [call.purpose for call in provider.calls]


async def test_an_unchanged_refresh_touches_nothing_and_says_nothing(
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


async def test_an_object_that_left_the_class_leaves_the_volume(
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
        ObjectNotFoundError("gone"),
        ClassInvalidError("objects is not YAML any more"),
    ],
)
async def test_a_failed_refresh_keeps_the_old_content_whole_and_tells_it(
    rotating: Driver, provider: ScriptedProvider, error: Exception
) -> None:
    """Kubelet hears OK, because the running pod's volume is whole; event, metric and log tell."""
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


async def test_a_class_that_was_deleted_is_an_error_of_a_refresh(rotating: Driver) -> None:
    """As upstream: only failures of provider and status are masked; the volume stays."""
    target = await rotating.publish("web")
    rotating.remove_class("web")
    rotating.clock.now = 120
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rotating.publish("web")
    assert grpc.StatusCode.UNKNOWN == caught.value.code()
    assert {"a": b"1"} == read_through_links(target)


async def test_after_a_restart_the_volume_is_refreshed_at_once(
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
async def test_after_a_restart_a_record_of_something_else_does_not_count(
    mount_home: Path, provider: ScriptedProvider, other: str
) -> None:
    """A pod of the same name that was made anew, or the pod's other volume of the same class."""
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


async def test_after_a_restart_without_rotation_nobody_is_asked(
    mount_home: Path, provider: ScriptedProvider
) -> None:
    """The record says that the volume is whole; its Secrets are looked after from its files."""
    settings = {"scripted": provider}
    async with running_driver(mount_home, built_in=settings) as driver:
        driver.write_class("web", secret_objects=[OPAQUE])
        await driver.publish("web")
        (driver.manifests / "secrets" / NAMESPACE / "db.yaml").unlink()
    async with running_driver(mount_home, built_in=settings) as driver:
        await driver.publish("web")
        await driver.publish("web")
        assert "1" == password(driver)
        assert {"secret/a": "v1"} == await driver.objects_in_status("web")
    assert 1 == len(provider.calls)


# --- calls at the same time -----------------------------------------------------------------------


async def test_two_calls_for_one_target_never_interleave(
    rotating: Driver, provider: ScriptedProvider
) -> None:
    """The second waits, finds the work done, and asks nobody."""
    provider.gate.clear()
    calls = [asyncio.create_task(rotating.publish("web")) for _ in range(5)]
    await provider.wait_for_calls(1)
    # The call for another volume, sent last, arrives after the others.
    calls.append(asyncio.create_task(rotating.publish("web", pod="web-1")))
    await provider.wait_for_calls(2)
    provider.gate.set()
    await asyncio.gather(*calls)
    targets = [call.target_path for call in provider.calls]
    assert [str(rotating.target(pod)) for pod in ("web-0", "web-1")] == targets
    await rotating.unpublish("web-1")
    await rotating.unpublish()
    assert [] == rotating.leftovers()


async def test_an_unpublish_tells_the_providers(driver: Driver, provider: ScriptedProvider) -> None:
    """What they made for the volume alone can be given back."""
    await driver.publish("web")
    assert [] == provider.removed_volumes
    await driver.unpublish()
    assert [str(driver.target())] == provider.removed_volumes


async def test_an_unpublish_does_not_wait_for_a_mount_that_hangs(
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


async def test_an_unpublish_does_not_wait_for_a_refresh_that_hangs(
    rotating: Driver, provider: ScriptedProvider
) -> None:
    """The pod is gone, so its files need not be kept whole any longer."""
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


async def test_calls_for_different_targets_run_side_by_side(
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


async def test_a_call_that_kubelet_gave_up_on_leaves_nothing(
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


@pytest.mark.parametrize("field", ["volume_id", "target_path"])
async def test_an_unpublish_call_without_a_field_is_an_invalid_argument(
    driver: Driver, field: str
) -> None:
    """Volume id, target path."""
    message = csi.NodeUnpublishVolumeRequest(volume_id="1", target_path="/t")
    message.ClearField(field)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await driver.call("Node/NodeUnpublishVolume", message, csi.NodeUnpublishVolumeResponse)
    assert grpc.StatusCode.INVALID_ARGUMENT == caught.value.code()


async def test_a_secret_that_two_pods_share_goes_with_the_last(driver: Driver) -> None:
    """Its owners are their pod statuses."""
    await driver.publish("web", "web-0")
    await driver.publish("web", "web-1")
    await driver.unpublish("web-0")
    assert "1" == password(driver)
    await driver.unpublish("web-1")
    assert [] == driver.leftovers("web-1")


async def test_what_cannot_be_unmounted_is_internal_and_counted(driver: Driver) -> None:
    """The message begins as upstream's log line, which people search for."""
    target = driver.target()
    target.parent.mkdir(parents=True)
    target.write_text("a file")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await driver.unpublish()
    assert grpc.StatusCode.INTERNAL == caught.value.code()
    assert str(target) in (caught.value.details() or "")
    assert 1.0 == sum(driver.metric_values("node_unpublish_error_total").values())
