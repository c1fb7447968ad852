"""Registers the driver with kubelet, without a sidecar.

Kubelet watches a folder for plugin sockets, asks each plugin for its name, and reports whether it
registered it. When a socket is removed, kubelet unregisters the plugin. Kubelet scans the folder
again when it restarts, so an existing socket is registered again; a removed one is recreated here.

Source: docs/reference/upstream-driver.md#plugin-registration
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc

from keyferry.net.grpc_server import serving_grpc
from keyferry.net.sockets import GrpcEndpoint
from keyferry.proto import pluginregistration_pb2 as wire
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from keyferry.net.grpc_server import Context
    from keyferry.telemetry.metrics import Metrics

PLUGIN_TYPE = "CSIPlugin"
SUPPORTED_VERSIONS = ("1.0.0",)
CHECK_SECONDS = 2.0
"""Seconds between two checks whether the socket still exists."""

_log = get_logger("registration")


class Registration:
    """The registration service, and the state of the registration.

    Args:
        folder: kubelet's folder of plugin sockets.
        driver_name: the name of the CSI driver.
        csi_socket: the path of the CSI socket as kubelet sees it.
        metrics: exposes the state of the registration.
    """

    def __init__(
        self, folder: Path, *, driver_name: str, csi_socket: str, metrics: Metrics
    ) -> None:
        self.socket = folder / f"{driver_name}-reg.sock"
        """The path of the registration socket."""
        self._driver_name = driver_name
        self._csi_socket = csi_socket
        self._metrics = metrics
        self._problem: str | None = "kubelet has not registered this driver yet"

    @property
    def problem(self) -> str | None:
        """Why the driver is not registered; None when it is."""
        return self._problem

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the service on `server`."""
        get_info = grpc.unary_unary_rpc_method_handler(
            self.get_info,
            request_deserializer=wire.InfoRequest.FromString,
            response_serializer=wire.PluginInfo.SerializeToString,
        )
        notify = grpc.unary_unary_rpc_method_handler(
            self.notify,
            request_deserializer=wire.RegistrationStatus.FromString,
            response_serializer=wire.RegistrationStatusResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(
                    "pluginregistration.Registration",
                    {"GetInfo": get_info, "NotifyRegistrationStatus": notify},
                )
            ]
        )

    async def get_info(self, _: wire.InfoRequest, __: Context) -> wire.PluginInfo:
        """Return the name of the driver and the path of its CSI socket."""
        return wire.PluginInfo(
            type=PLUGIN_TYPE,
            name=self._driver_name,
            endpoint=self._csi_socket,
            supported_versions=SUPPORTED_VERSIONS,
        )

    async def notify(
        self, message: wire.RegistrationStatus, _: Context
    ) -> wire.RegistrationStatusResponse:
        """Record whether kubelet registered the driver.

        Upstream's sidecar exits on a rejection, to be restarted. Kubelet retries with backoff, and
        an exit would abort mounts in flight, so the driver keeps running.
        """
        self._metrics.registered(message.plugin_registered)
        if message.plugin_registered:
            self._problem = None
            _log.info("registered with kubelet", driver=self._driver_name)
        else:
            self._problem = f"kubelet rejected the registration: {message.error}"
            _log.error(
                "kubelet rejected the registration and will retry;"
                " check --kubelet-registration-path, the path of the CSI socket on the node",
                error=message.error,
                path=self._csi_socket,
            )
        return wire.RegistrationStatusResponse()

    def socket_removed(self) -> None:
        """Record that the socket was removed, so that kubelet unregistered the driver."""
        self._metrics.registered(False)
        self._problem = "the registration socket was removed and is being recreated"


@asynccontextmanager
async def serving_registration(
    registration: Registration, *, check_seconds: float = CHECK_SECONDS
) -> AsyncIterator[None]:
    """Serve `registration` while the block runs, and recreate its socket when it is removed.

    Raises:
        PlatformError: the socket cannot be created at the start.
    """
    first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    keeper = asyncio.create_task(_keep_serving(registration, check_seconds, first))
    try:
        await asyncio.wait([first, keeper], return_when=asyncio.FIRST_COMPLETED)
        if keeper.done():
            keeper.result()
        yield
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)


async def _keep_serving(
    registration: Registration, check_seconds: float, started: asyncio.Future[None]
) -> None:
    endpoint = GrpcEndpoint(f"unix:{registration.socket}", registration.socket)
    while True:
        try:
            async with serving_grpc(endpoint, registration.add_to, drain=0) as bound:
                assert bound is not None
                if not started.done():
                    started.set_result(None)
                while bound.is_current():  # noqa: ASYNC110 - no event for a removed file
                    await asyncio.sleep(check_seconds)
            registration.socket_removed()
            _log.warning(
                "registration socket was removed, recreating it", socket=str(registration.socket)
            )
        except Exception as error:
            if not started.done():
                raise
            _log.error("failed to create the registration socket", error=str(error))
            await asyncio.sleep(check_seconds)
