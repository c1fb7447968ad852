"""A provider with scripted responses, built in or behind a socket.

provider = ScriptedProvider()
provider.serves({"db": "s3cret"})
...
provider.fails(ObjectNotFoundError("db not found"))
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from keyferry.content import ObjectVersion, SecretFile
from keyferry.net.grpc_server import Context
from keyferry.proto import provider_v1alpha1_pb2 as wire
from keyferry.providers.api import (
    MountCall,
    MountResult,
    ProviderVersion,
    decode_call,
    encode_result,
)
from keyferry.providers.expiry import ExpiringLease

MountHandler = Callable[[wire.MountRequest, Context], Awaitable[wire.MountResponse]]


def mount_result(files: Mapping[str, str], version: str = "v1") -> MountResult:
    """Return a result with one object per file."""
    return MountResult(
        versions=tuple(ObjectVersion(f"secret/{path}", version) for path in files),
        files=tuple(SecretFile(path, 0o644, text.encode()) for path, text in files.items()),
    )


class ScriptedProvider:
    """Implements `Provider` with scripted responses.

    Attributes:
        calls: all calls, in order.
        removed_volumes: the targets passed to `volume_removed`.
        leases: returned by `expiring_leases`.
        restored_volumes: returned by `restore`.
        in_flight: the number of calls in flight; `max_in_flight` is the greatest so far.
        gate: while it is cleared, calls block.
    """

    def __init__(self) -> None:
        self.calls: list[MountCall] = []
        self.removed_volumes: list[str] = []
        self.restored_volumes: frozenset[str] = frozenset()
        self.leases: tuple[ExpiringLease, ...] = ()
        self.in_flight = 0
        self.max_in_flight = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self._outcome: MountResult | BaseException = mount_result({"a": "1"})
        self._changed = asyncio.Condition()

    def serves(self, files: Mapping[str, str], version: str = "v1") -> None:
        """Return these files from now on."""
        self._outcome = mount_result(files, version)

    def returns(self, result: MountResult) -> None:
        """Return this result from now on."""
        self._outcome = result

    def fails(self, error: BaseException) -> None:
        """Raise `error` from now on."""
        self._outcome = error

    async def wait_for_calls(self, count: int) -> None:
        """Wait until `count` calls have arrived."""
        async with asyncio.timeout(100), self._changed:
            await self._changed.wait_for(lambda: len(self.calls) >= count)

    async def wait_idle(self) -> None:
        """Wait until no call is in flight."""
        async with asyncio.timeout(100), self._changed:
            await self._changed.wait_for(lambda: not self.in_flight)

    async def mount(self, call: MountCall) -> MountResult:
        """Return the scripted files or raise the scripted error."""
        self.calls.append(call)
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            async with self._changed:
                self._changed.notify_all()
            await self.gate.wait()
            if isinstance(self._outcome, BaseException):
                raise self._outcome
            return self._outcome
        finally:
            self.in_flight -= 1
            async with self._changed:
                self._changed.notify_all()

    async def version(self) -> ProviderVersion:
        """Return the version."""
        return ProviderVersion("v1alpha1", "scripted", "1.2.3")

    def restore(self) -> frozenset[str]:
        """Return `restored_volumes`."""
        return self.restored_volumes

    def expiring_leases(self) -> tuple[ExpiringLease, ...]:
        """Return `leases`."""
        return self.leases

    def volume_removed(self, target_path: str) -> None:
        """Record the removed volume."""
        self.removed_volumes.append(target_path)

    async def close(self) -> None:
        """Do nothing."""


@asynccontextmanager
async def external_provider(
    socket: Path, handler: MountHandler | None = None
) -> AsyncIterator[None]:
    """Run a v1alpha1 gRPC server on `socket`, as an installed provider does.

    Args:
        socket: the path of the socket, which is removed at the end.
        handler: of Mount calls; by default each returns one file, `a`.
    """

    async def mount(message: wire.MountRequest, context: Context) -> wire.MountResponse:
        if handler is not None:
            return await handler(message, context)
        decode_call(message)
        return encode_result(mount_result({"a": "external"}))

    async def version(_: wire.VersionRequest, __: Context) -> wire.VersionResponse:
        return wire.VersionResponse(version="v1alpha1", runtime_name="ext", runtime_version="9.9")

    server = grpc.aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Mount": grpc.unary_unary_rpc_method_handler(
            mount,
            request_deserializer=wire.MountRequest.FromString,
            response_serializer=wire.MountResponse.SerializeToString,
        ),
        "Version": grpc.unary_unary_rpc_method_handler(
            version,
            request_deserializer=wire.VersionRequest.FromString,
            response_serializer=wire.VersionResponse.SerializeToString,
        ),
    }
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("v1alpha1.CSIDriverProvider", handlers)]
    )
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)
        socket.unlink(missing_ok=True)


@asynccontextmanager
async def recording_relay(listen_socket: Path, target_socket: Path) -> AsyncIterator[bytearray]:
    """Relay `listen_socket` to `target_socket` and yield the bytes that the client sends.

    They contain the raw headers of the client, such as its authority, which no server shows.
    """
    said = bytearray()
    writers: list[asyncio.StreamWriter] = []

    async def pump(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, record: bytearray | None
    ) -> None:
        while chunk := await reader.read(65536):
            if record is not None:
                record += chunk
            writer.write(chunk)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        their_reader, their_writer = await asyncio.open_unix_connection(str(target_socket))
        writers.extend((writer, their_writer))
        await asyncio.gather(pump(reader, their_writer, said), pump(their_reader, writer, None))

    server = await asyncio.start_unix_server(serve, str(listen_socket))
    try:
        yield said
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await server.wait_closed()
