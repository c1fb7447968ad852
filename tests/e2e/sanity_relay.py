"""A relay between csi-sanity and a driver that adds what a cluster adds.

csi-sanity takes the context of a volume from CreateVolume, which a driver of inline volumes does
not have, and publishes with `readonly: false`, which kubelet never does for a volume with
`readOnly: true`. The relay therefore answers CreateVolume and DeleteVolume itself and sets
`readonly`. It forwards everything else unchanged in both directions.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from keyferry.proto import csi_pb2 as csi

Context = grpc.aio.ServicerContext[bytes, bytes]


@dataclass
class Relay(grpc.GenericRpcHandler):
    """Forwards gRPC calls to the driver.

    Attributes:
        driver: the channel to the driver.
        context: the volume context of every volume that is "created".
        published: called with the target path after each successful publish.
        calls: number of calls by method.
    """

    driver: grpc.aio.Channel
    context: Mapping[str, str]
    published: Callable[[Path], None]
    calls: dict[str, int] = field(default_factory=dict)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return a handler of raw bytes for any method."""
        method = handler_call_details.method

        async def handle(request: bytes, context: Context) -> bytes:
            name = method.rpartition("/")[2]
            self.calls[name] = self.calls.get(name, 0) + 1
            match method:
                case "/csi.v1.Controller/CreateVolume":
                    return created_volume(f"volume-{uuid.uuid4()}", self.context)
                case "/csi.v1.Controller/DeleteVolume":
                    return b""
                case "/csi.v1.Node/NodePublishVolume":
                    return await self._publish(method, request, context)
                case _:
                    return await self._pass(method, request, context)

        return grpc.unary_unary_rpc_method_handler(handle)

    async def _publish(self, method: str, request: bytes, context: Context) -> bytes:
        message = csi.NodePublishVolumeRequest.FromString(request)
        message.readonly = True
        response = await self._pass(method, message.SerializeToString(), context)
        self.published(Path(message.target_path))
        return response

    async def _pass(self, method: str, request: bytes, context: Context) -> bytes:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self.driver.unary_unary(method)
        try:
            return await call(request)
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details() or "")


def created_volume(volume_id: str, context: Mapping[str, str]) -> bytes:
    """Return a CreateVolumeResponse: field 1 is the volume, with its id (2) and its context (3).

    The driver's protocol does not contain these messages, so they are encoded by hand.
    """
    entries = b"".join(
        _field(3, _field(1, key.encode()) + _field(2, value.encode()))
        for key, value in context.items()
    )
    return _field(1, _field(2, volume_id.encode()) + entries)


@asynccontextmanager
async def relaying(
    socket: Path,
    driver: Path,
    *,
    context: Mapping[str, str],
    published: Callable[[Path], None],
) -> AsyncIterator[Relay]:
    """Forward calls from `socket` to the socket `driver` while the block runs."""
    async with grpc.aio.insecure_channel(f"unix:{driver}") as channel:
        relay = Relay(channel, context, published)
        server = grpc.aio.server()
        server.add_generic_rpc_handlers([relay])
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
        try:
            yield relay
        finally:
            await server.stop(None)


def _field(number: int, content: bytes) -> bytes:
    """Return a length-delimited field in protobuf's wire format."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])
