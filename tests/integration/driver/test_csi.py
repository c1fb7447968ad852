"""Each CSI method of the driver: capabilities, invalid arguments, status codes.

Source: docs/reference/upstream-driver.md#nodepublishvolume
Source: docs/reference/upstream-driver.md#nodeunpublishvolume
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from keyferry.proto import csi_pb2 as csi
from tests.fakes.driver import NAMESPACE, Driver
from tests.fakes.provider import ScriptedProvider
from tests.integration.driver.calls import rejection

# --- identity, controller, capabilities -----------------------------------------------------------


async def test_plugin_info_is_name_and_version(driver: Driver) -> None:
    """Kubelet registers it by this name."""
    info = await driver.call(
        "Identity/GetPluginInfo", csi.GetPluginInfoRequest(), csi.GetPluginInfoResponse
    )
    assert ("secrets-store.csi.k8s.io", "9.8.7") == (info.name, info.vendor_version)
    assert {} == dict(info.manifest)


async def test_node_info_is_the_name_without_limits(driver: Driver) -> None:
    """No topology, no maximum of volumes."""
    info = await driver.call("Node/NodeGetInfo", csi.NodeGetInfoRequest(), csi.NodeGetInfoResponse)
    assert csi.NodeGetInfoResponse(node_id="node-1") == info


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("Identity/GetPluginCapabilities", "0a 04 0a 02 08 01"),
        ("Identity/Probe", "0a 02 08 01"),
        # A Keyferry extension: VOLUME_MOUNT_GROUP.
        ("Node/NodeGetCapabilities", "0a 04 0a 02 08 01 0a 04 0a 02 08 06"),
        ("Controller/ControllerGetCapabilities", "0a 02 0a 00"),
    ],
)
async def test_capabilities_have_the_same_bytes_as_upstream(
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
async def test_other_methods_are_unimplemented(driver: Driver, method: str) -> None:
    """The status that callers of optional methods expect."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await driver.call_raw(method)
    assert grpc.StatusCode.UNIMPLEMENTED == caught.value.code()


async def test_staging_only_checks_its_arguments(driver: Driver) -> None:
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


# --- rejected publish calls -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "field", ["volume_capability", "volume_id", "target_path", "volume_context"]
)
async def test_publish_without_a_required_field_is_an_invalid_argument(
    driver: Driver, field: str
) -> None:
    """Rows 1 to 4."""
    message = driver.publish_request("web")
    message.ClearField(field)
    status = await rejection(driver, message)
    assert grpc.StatusCode.INVALID_ARGUMENT == status.code()
    assert field in (status.details() or "")


async def test_volume_without_secret_provider_class_fails_with_unknown(driver: Driver) -> None:
    """Row 10."""
    status = await rejection(driver, driver.publish_request(""))
    assert grpc.StatusCode.UNKNOWN == status.code()
    assert "volumeAttributes.secretProviderClass" in (status.details() or "")


async def test_missing_secret_provider_class_fails_with_the_message_of_upstream(
    driver: Driver,
) -> None:
    """Row 11: people and upstream's end-to-end tests search for these words."""
    status = await rejection(driver, driver.publish_request("nope"))
    assert grpc.StatusCode.UNKNOWN == status.code()
    assert f"failed to get secretproviderclass {NAMESPACE}/nope" in (status.details() or "")
    assert "not found" in (status.details() or "")
    errors = driver.metric_values("node_publish_error_total")
    assert {"error_type=SecretProviderClassNotFound provider=": 1.0} == errors


async def test_secret_provider_class_of_another_namespace_is_not_found(driver: Driver) -> None:
    """A class is read in the namespace of the pod, and nowhere else."""
    driver.write_class("elsewhere", namespace="other")
    status = await rejection(driver, driver.publish_request("elsewhere"))
    assert "failed to get secretproviderclass shop/elsewhere" in (status.details() or "")


@pytest.mark.parametrize(
    ("named", "parameters", "words"),
    [
        ("", {"x": "y"}, "spec.provider is empty"),
        ("a/b", {"x": "y"}, "is not a valid provider name"),
        ("scripted", {}, "spec.parameters is empty"),
    ],
)
async def test_incomplete_secret_provider_class_fails_with_unknown(
    driver: Driver, named: str, parameters: dict[str, str], words: str
) -> None:
    """Rows 12 and 13, with the class named."""
    driver.write_class("poor", provider=named, parameters=parameters)
    status = await rejection(driver, driver.publish_request("poor"))
    assert grpc.StatusCode.UNKNOWN == status.code()
    assert words in (status.details() or "")
    assert "shop/poor" in (status.details() or "")


async def test_writable_volume_is_an_invalid_argument(
    driver: Driver, provider: ScriptedProvider
) -> None:
    """Row 15: after the class was found, before the provider is asked."""
    message = driver.publish_request("web")
    message.readonly = False
    status = await rejection(driver, message)
    assert grpc.StatusCode.INVALID_ARGUMENT == status.code()
    assert "readOnly: true" in (status.details() or "")
    assert [] == provider.calls
    missing = driver.publish_request("nope")
    missing.readonly = False
    assert grpc.StatusCode.UNKNOWN == (await rejection(driver, missing)).code()


@pytest.mark.parametrize("kind", ["file", "link"])
async def test_target_that_is_not_a_folder_is_an_internal_error(driver: Driver, kind: str) -> None:
    """Row 7; existing files are not changed."""
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


async def test_defect_is_an_internal_error_that_shows_only_its_type(
    driver: Driver, provider: ScriptedProvider
) -> None:
    """The text of a foreign exception could contain anything."""
    provider.fails(ZeroDivisionError("canary-value"))
    status = await rejection(driver, driver.publish_request("web"))
    assert grpc.StatusCode.INTERNAL == status.code()
    assert "ZeroDivisionError" in (status.details() or "")
    assert "canary-value" not in (status.details() or "") + driver.log.getvalue()
    assert "provider.py" in driver.log.getvalue()


async def test_unexpected_cancellation_is_answered(
    driver: Driver, provider: ScriptedProvider
) -> None:
    """As a defect; gRPC leaves who called without an answer when a call ends as cancelled."""
    provider.fails(asyncio.CancelledError())
    async with asyncio.timeout(100):
        status = await rejection(driver, driver.publish_request("web"))
    assert grpc.StatusCode.INTERNAL == status.code()
    assert "CancelledError" in (status.details() or "")


# --- rejected unpublish calls ---------------------------------------------------------------------


@pytest.mark.parametrize("field", ["volume_id", "target_path"])
async def test_unpublish_without_a_required_field_is_an_invalid_argument(
    driver: Driver, field: str
) -> None:
    """Volume id, target path."""
    message = csi.NodeUnpublishVolumeRequest(volume_id="1", target_path="/t")
    message.ClearField(field)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await driver.call("Node/NodeUnpublishVolume", message, csi.NodeUnpublishVolumeResponse)
    assert grpc.StatusCode.INVALID_ARGUMENT == caught.value.code()
