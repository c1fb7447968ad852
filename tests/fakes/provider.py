"""A provider that answers as the test says: built in, or behind a socket.

provider = ScriptedProvider()
provider.serves({"db": "s3cret"})
...
provider.fails(ObjectNotFoundError("there is no db"))
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from keyferry.net.grpc_server import Context
from keyferry.proto import provider_v1alpha1_pb2 as wire
from keyferry.providers.api import (
    MountCall,
    MountResult,
    ObjectVersion,
    ProviderVersion,
    SecretFile,
    decode_call,
    encode_result,
)
from keyferry.providers.expiry import ExpiringLease

MountHandler = Callable[[wire.MountRequest, Context], Awaitable[wire.MountResponse]]


def mount_result(files: Mapping[str, str], version: str = "v1") -> MountResult:
    """Files with these texts, each an object of its own."""
    return MountResult(
        versions=tuple(ObjectVersion(f"secret/{path}", version) for path in files),
        files=tuple(SecretFile(path, 0o644, text.encode()) for path, text in files.items()),
    )


class ScriptedProvider:
    """Implements `contract.Provider`.

    Attributes:
        calls: what it was asked, in order.
        removed_volumes: the volumes that it heard are gone.
        leases: what only a refresh replaces.
        restored_volumes: the volumes that an earlier process held something for.
        in_flight: how many calls are in it now; `max_in_flight` is the greatest number so far.
        gate: while it is closed, calls wait in it.
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
        """From now on it delivers these files."""
        self._outcome = mount_result(files, version)

    def fails(self, error: BaseException) -> None:
        """From now on it raises `error`."""
        self._outcome = error

    async def wait_for_calls(self, count: int) -> None:
        """Wait until `count` calls have come in."""
        async with asyncio.timeout(100), self._changed:
            await self._changed.wait_for(lambda: len(self.calls) >= count)

    async def wait_idle(self) -> None:
        """Wait until no call is in it."""
        async with asyncio.timeout(100), self._changed:
            await self._changed.wait_for(lambda: not self.in_flight)

    async def mount(self, call: MountCall) -> MountResult:
        """Deliver what the script says."""
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
        """Tell what it is."""
        return ProviderVersion("v1alpha1", "scripted", "1.2.3")

    def restore(self) -> frozenset[str]:
        """What the test says."""
        return self.restored_volumes

    def expiring_leases(self) -> tuple[ExpiringLease, ...]:
        """What the test says."""
        return self.leases

    def volume_removed(self, target_path: str) -> None:
        """Takes note."""
        self.removed_volumes.append(target_path)

    async def close(self) -> None:
        """Nothing to close."""


@asynccontextmanager
async def external_provider(
    socket: Path, handler: MountHandler | None = None
) -> AsyncIterator[None]:
    """A real v1alpha1 server on `socket`, as an installed provider has one.

    Args:
        socket: its file; made here, gone at the end.
        handler: to Mount; one file `a` when left out.
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
    """Relay `listen_socket` to `target_socket`; yields the bytes that the client sends.

    It shows what no server tells: the raw headers of the client, such as its authority.
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
