"""The CSI services Identity, Controller and Node.

Translates messages to requests and errors to gRPC statuses, and logs each failure once.

Source: docs/reference/upstream-driver.md#csi-services
Source: docs/reference/upstream-driver.md#nodepublishvolume
Source: docs/reference/upstream-driver.md#nodeunpublishvolume
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import grpc
from google.protobuf.wrappers_pb2 import BoolValue

from keyferry.driver.request import (
    parse_publish,
    parse_stage,
    parse_unpublish,
    parse_unstage,
)
from keyferry.net.grpc_server import Context, abort
from keyferry.proto import csi_pb2 as csi
from keyferry.providers.known_fields.attributes import POD_NAME, POD_NAMESPACE, SPC_ATTRIBUTE
from keyferry.telemetry.logs import ObjectName, lazy_log_context

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from google.protobuf.message import Message

    from keyferry.driver.request import PublishRequest, UnpublishRequest

Request = TypeVar("Request", bound="Message")
Response = TypeVar("Response", bound="Message")


class VolumePublisher(Protocol):
    """What publishes volumes, such as `Publisher`."""

    async def publish(self, request: PublishRequest, /) -> object:
        """Make the volume hold its content."""

    async def unpublish(self, request: UnpublishRequest, /) -> None:
        """Unmount the volume."""


class CsiServices:
    """The CSI methods of the driver; gRPC answers all others with UNIMPLEMENTED.

    Args:
        publisher: publishes and unpublishes volumes.
        driver_name: the name of the CSI driver.
        version: the version of Keyferry.
        node_id: the Kubernetes name of this node.
    """

    def __init__(
        self, publisher: VolumePublisher, *, driver_name: str, version: str, node_id: str
    ) -> None:
        self._publisher = publisher
        self._driver_name = driver_name
        self._version = version
        self._node_id = node_id

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the three services on `server`."""
        server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(
                    "csi.v1.Identity",
                    {
                        "GetPluginInfo": _unary_handler(csi.GetPluginInfoRequest, self.plugin_info),
                        "GetPluginCapabilities": _unary_handler(
                            csi.GetPluginCapabilitiesRequest, self.plugin_capabilities
                        ),
                        "Probe": _unary_handler(csi.ProbeRequest, self.probe),
                    },
                ),
                grpc.method_handlers_generic_handler(
                    "csi.v1.Controller",
                    {
                        "ControllerGetCapabilities": _unary_handler(
                            csi.ControllerGetCapabilitiesRequest, self.controller_capabilities
                        ),
                    },
                ),
                grpc.method_handlers_generic_handler(
                    "csi.v1.Node",
                    {
                        "NodeGetInfo": _unary_handler(csi.NodeGetInfoRequest, self.node_info),
                        "NodeGetCapabilities": _unary_handler(
                            csi.NodeGetCapabilitiesRequest, self.node_capabilities
                        ),
                        "NodeStageVolume": _unary_handler(csi.NodeStageVolumeRequest, self.stage),
                        "NodeUnstageVolume": _unary_handler(
                            csi.NodeUnstageVolumeRequest, self.unstage
                        ),
                        "NodePublishVolume": _unary_handler(
                            csi.NodePublishVolumeRequest, self.publish
                        ),
                        "NodeUnpublishVolume": _unary_handler(
                            csi.NodeUnpublishVolumeRequest, self.unpublish
                        ),
                    },
                ),
            ]
        )

    async def plugin_info(self, _: csi.GetPluginInfoRequest) -> csi.GetPluginInfoResponse:
        """Return the name and the version of the driver."""
        return csi.GetPluginInfoResponse(name=self._driver_name, vendor_version=self._version)

    async def plugin_capabilities(
        self, _: csi.GetPluginCapabilitiesRequest
    ) -> csi.GetPluginCapabilitiesResponse:
        """Return CONTROLLER_SERVICE only, as upstream."""
        service = csi.PluginCapability.Service(type=csi.PluginCapability.Service.CONTROLLER_SERVICE)
        return csi.GetPluginCapabilitiesResponse(
            capabilities=[csi.PluginCapability(service=service)]
        )

    async def probe(self, _: csi.ProbeRequest) -> csi.ProbeResponse:
        """Report ready: a driver that responds is ready."""
        return csi.ProbeResponse(ready=BoolValue(value=True))

    async def controller_capabilities(
        self, _: csi.ControllerGetCapabilitiesRequest
    ) -> csi.ControllerGetCapabilitiesResponse:
        """Return one capability of type UNKNOWN, as upstream."""
        rpc = csi.ControllerServiceCapability.RPC(type=csi.ControllerServiceCapability.RPC.UNKNOWN)
        return csi.ControllerGetCapabilitiesResponse(
            capabilities=[csi.ControllerServiceCapability(rpc=rpc)]
        )

    async def node_info(self, _: csi.NodeGetInfoRequest) -> csi.NodeGetInfoResponse:
        """Return the name of the node."""
        return csi.NodeGetInfoResponse(node_id=self._node_id)

    async def node_capabilities(
        self, _: csi.NodeGetCapabilitiesRequest
    ) -> csi.NodeGetCapabilitiesResponse:
        """Return the node capabilities.

        1. STAGE_UNSTAGE_VOLUME, as upstream, although kubelet does not stage inline volumes.
        2. VOLUME_MOUNT_GROUP: kubelet does not apply fsGroup to read-only volumes itself, but
           delegates it to a driver with this capability.
        """
        kinds = csi.NodeServiceCapability.RPC
        return csi.NodeGetCapabilitiesResponse(
            capabilities=[
                csi.NodeServiceCapability(rpc=kinds(type=kind))
                for kind in (kinds.STAGE_UNSTAGE_VOLUME, kinds.VOLUME_MOUNT_GROUP)
            ]
        )

    async def stage(self, message: csi.NodeStageVolumeRequest) -> csi.NodeStageVolumeResponse:
        """Check the arguments; there is nothing to stage."""
        parse_stage(message)
        return csi.NodeStageVolumeResponse()

    async def unstage(self, message: csi.NodeUnstageVolumeRequest) -> csi.NodeUnstageVolumeResponse:
        """Check the arguments; there is nothing to unstage."""
        parse_unstage(message)
        return csi.NodeUnstageVolumeResponse()

    async def publish(self, message: csi.NodePublishVolumeRequest) -> csi.NodePublishVolumeResponse:
        """Publish a volume."""
        await self._publisher.publish(parse_publish(message))
        return csi.NodePublishVolumeResponse()

    async def unpublish(
        self, message: csi.NodeUnpublishVolumeRequest
    ) -> csi.NodeUnpublishVolumeResponse:
        """Unpublish a volume."""
        await self._publisher.unpublish(parse_unpublish(message))
        return csi.NodeUnpublishVolumeResponse()


def _unary_handler(
    request: type[Request], method: Callable[[Request], Awaitable[Response]]
) -> grpc.RpcMethodHandler[Request, Response]:
    operation = method.__name__

    async def handle(message: Request, context: Context) -> Response:
        with lazy_log_context(partial(_log_fields, message)):
            try:
                return await method(message)
            except Exception as error:  # noqa: BLE001  (the edge of the process)
                await abort(context, error, operation=operation)
            except asyncio.CancelledError as error:
                if _caller_cancelled():
                    raise
                # gRPC would treat it as cancelled by the caller, and never respond.
                await abort(context, error, operation=operation)

    return grpc.unary_unary_rpc_method_handler(
        handle,
        request_deserializer=request.FromString,
        response_serializer=lambda response: response.SerializeToString(),
    )


def _caller_cancelled() -> bool:
    """Whether this call was cancelled, as gRPC does when the caller disconnects."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _log_fields(message: Message) -> dict[str, object]:
    """Return the fields of every log line of this call: pod, SecretProviderClass and volume.

    An unpublish names no pod, but kubelet's target path contains its uid.
    """
    match message:
        case csi.NodePublishVolumeRequest():
            context = message.volume_context
            namespace = context.get(POD_NAMESPACE, "")
            names = {"pod": context.get(POD_NAME, ""), "spc": context.get(SPC_ATTRIBUTE, "")}
            pairs = {key: ObjectName(namespace, name) for key, name in names.items() if name}
            return pairs | _volume_fields(message)
        case csi.NodeUnpublishVolumeRequest():
            return _volume_fields(message)
        case _:
            return {}


def _volume_fields(
    message: csi.NodePublishVolumeRequest | csi.NodeUnpublishVolumeRequest,
) -> dict[str, object]:
    pairs = {"targetPath": message.target_path, "volumeId": message.volume_id}
    return {key: value for key, value in pairs.items() if value}
