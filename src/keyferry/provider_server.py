"""The gRPC front of any built-in provider, for clusters that run another driver."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import grpc

from keyferry.contract import ExpiryState, decode_call, encode_result
from keyferry.grpc_edge import Context, abort
from keyferry.logs import get_logger
from keyferry.proto import provider_v1alpha1_pb2 as wire
from keyferry.reminders import Reminders

if TYPE_CHECKING:
    from keyferry.contract import MountResult, Provider

_log = get_logger("provider")


def add_provider(server: grpc.aio.Server, provider: Provider) -> None:
    """Serves `provider` as v1alpha1.CSIDriverProvider on `server`."""
    front = _Front(provider)
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(
                "v1alpha1.CSIDriverProvider",
                {
                    "Mount": grpc.unary_unary_rpc_method_handler(
                        front.mount,
                        request_deserializer=wire.MountRequest.FromString,
                        response_serializer=wire.MountResponse.SerializeToString,
                    ),
                    "Version": grpc.unary_unary_rpc_method_handler(
                        front.version,
                        request_deserializer=wire.VersionRequest.FromString,
                        response_serializer=wire.VersionResponse.SerializeToString,
                    ),
                },
            )
        ]
    )


class _Front:
    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._reminders = Reminders()

    async def mount(self, message: wire.MountRequest, context: Context) -> wire.MountResponse:
        try:
            result = await self._provider.mount(decode_call(message))
            self._tell(result)
            return encode_result(result)
        except Exception as error:  # noqa: BLE001  (the edge of the process)
            await abort(context, error, step="mount")

    def _tell(self, result: MountResult) -> None:
        """Log what the wire has no place for."""
        now = time.time()
        for expiry in result.expiries:
            if expiry.state(now) is not ExpiryState.FAR and self._reminders.due(expiry):
                _log.warning(expiry.sentence(now))

    async def version(self, _: wire.VersionRequest, context: Context) -> wire.VersionResponse:
        try:
            version = await self._provider.version()
        except Exception as error:  # noqa: BLE001  (the edge of the process)
            await abort(context, error, step="version")
        return wire.VersionResponse(
            version=version.api_version,
            runtime_name=version.runtime_name,
            runtime_version=version.runtime_version,
        )
