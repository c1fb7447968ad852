"""The gRPC front of any built-in provider, for clusters that run another driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from keyferry.contract import decode_call, encode_result
from keyferry.grpc_edge import Context, abort
from keyferry.proto import provider_v1alpha1_pb2 as wire

if TYPE_CHECKING:
    from keyferry.contract import Provider


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

    async def mount(self, message: wire.MountRequest, context: Context) -> wire.MountResponse:
        try:
            return encode_result(await self._provider.mount(decode_call(message)))
        except Exception as error:  # noqa: BLE001  (the edge of the process)
            await abort(context, error, step="mount")

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
