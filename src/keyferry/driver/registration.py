"""Registration with kubelet, by the driver itself.

Kubelet watches a folder for sockets of plugins, asks each what it is, and tells it whether it took
it. A socket that goes is a plugin that goes. Kubelet looks through the folder anew when it starts,
so a socket that stays is found again; one that was swept away is made anew.

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
"""How often the driver looks whether its socket still stands."""

_log = get_logger("registration")


class Registration:
    """What kubelet is told, and what it answered.

    Args:
        folder: kubelet's folder of plugin sockets.
        driver_name: the name of the CSI driver.
        csi_socket: the path of the CSI socket as kubelet sees it.
        metrics: told of each answer.
    """

    def __init__(
        self, folder: Path, *, driver_name: str, csi_socket: str, metrics: Metrics
    ) -> None:
        self.socket = folder / f"{driver_name}-reg.sock"
        """Where it is served."""
        self._driver_name = driver_name
        self._csi_socket = csi_socket
        self._metrics = metrics
        self._problem: str | None = "kubelet has not registered this driver yet"

    @property
    def problem(self) -> str | None:
        """Why kubelet does not know this driver; None when it does."""
        return self._problem

    def add_to(self, server: grpc.aio.Server) -> None:
        """Registers the service on `server`."""
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
        """What this plugin is, and where it is served."""
        return wire.PluginInfo(
            type=PLUGIN_TYPE,
            name=self._driver_name,
            endpoint=self._csi_socket,
            supported_versions=SUPPORTED_VERSIONS,
        )

    async def notify(
        self, message: wire.RegistrationStatus, _: Context
    ) -> wire.RegistrationStatusResponse:
        """Hear whether kubelet took it.

        The sidecar of upstream exits on a refusal, to be restarted. Kubelet asks again by itself,
        with a growing pause, and an exit would take the mounts in flight along: so this stays.
        """
        self._metrics.registered(message.plugin_registered)
        if message.plugin_registered:
            self._problem = None
            _log.info("registered with kubelet", driver=self._driver_name)
        else:
            self._problem = f"kubelet refused the registration: {message.error}"
            _log.error(
                "kubelet refused the registration and will ask again;"
                " check --kubelet-registration-path, the path of the CSI socket on the node",
                error=message.error,
                path=self._csi_socket,
            )
        return wire.RegistrationStatusResponse()

    def socket_removed(self) -> None:
        """The socket went, by which kubelet forgets the driver."""
        self._metrics.registered(False)
        self._problem = "the registration socket was removed and is being made anew"


@asynccontextmanager
async def serving_registration(
    registration: Registration, *, check_seconds: float = CHECK_SECONDS
) -> AsyncIterator[None]:
    """Serves `registration` while the block runs, and makes its socket anew if it goes.

    Raises:
        PlatformError: the socket cannot be made at the start.
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
                while bound.is_current():  # noqa: ASYNC110 - a file that goes tells nobody
                    await asyncio.sleep(check_seconds)
            registration.socket_removed()
            _log.warning(
                "the registration socket is gone; making it anew", socket=str(registration.socket)
            )
        except Exception as error:
            if not started.done():
                raise
            _log.error("cannot make the registration socket", error=str(error))
            await asyncio.sleep(check_seconds)
