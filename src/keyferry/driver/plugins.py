"""Finds the provider that a class names: built into this process, or behind a socket.

Source: driver-wire, sections 2.3 to 2.8.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from keyferry.contract import (
    API_VERSION,
    MountCall,
    MountResult,
    NamedFile,
    Provider,
    ProviderVersion,
    decode_result,
    encode_call,
)
from keyferry.errors import (
    AuthorError,
    Code,
    ProviderNotFoundError,
    ProviderReportedError,
    ProviderUnreachableError,
)
from keyferry.logs import get_logger
from keyferry.proto import provider_v1alpha1_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from keyferry.economy.hub import Economy
    from keyferry.providers import ProviderRow

SERVICE = "v1alpha1.CSIDriverProvider"
_CONNECT_SECONDS = 5.0
_HEALTH_SECONDS = 5.0
_SERVICE_CONFIG = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{"service": SERVICE}],
                "waitForReady": True,
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "1s",
                    "maxBackoff": "10s",
                    "backoffMultiplier": 1.1,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)
_log = get_logger("plugins")


class ExternalProvider:
    """A provider on a unix socket, connected to at the first call.

    Args:
        name: what the class calls it.
        socket: its socket file.
        max_receive_bytes: the largest reply that is taken.
        connect_seconds: how long a provider that just restarts is waited for. Upstream waits as
            long as kubelet does (two minutes), and says nothing; we say which socket is dead.
    """

    def __init__(
        self,
        name: str,
        socket: Path,
        *,
        max_receive_bytes: int,
        connect_seconds: float = _CONNECT_SECONDS,
    ) -> None:
        self._name = name
        self._socket = socket
        self._connect_seconds = connect_seconds
        self._channel = grpc.aio.insecure_channel(
            f"unix:{socket}",
            options=[
                ("grpc.default_authority", "localhost"),
                ("grpc.max_receive_message_length", max_receive_bytes),
                ("grpc.service_config", _SERVICE_CONFIG),
                ("grpc.enable_http_proxy", 0),
            ],
        )
        self._mount = self._channel.unary_unary(
            f"/{SERVICE}/Mount",
            request_serializer=wire.MountRequest.SerializeToString,
            response_deserializer=wire.MountResponse.FromString,
        )
        self._version = self._channel.unary_unary(
            f"/{SERVICE}/Version",
            request_serializer=wire.VersionRequest.SerializeToString,
            response_deserializer=wire.VersionResponse.FromString,
        )

    async def mount(self, call: MountCall) -> MountResult:
        """Asks the provider; its gRPC status passes through in a `ProviderReportedError`."""
        await self._connect()
        try:
            reply = await self._mount(encode_call(call))
        except grpc.aio.AioRpcError as error:
            raise self._translate(error) from error
        return decode_result(reply, provider=self._name)

    async def version(self) -> ProviderVersion:
        """Asks the provider for its version, within five seconds."""
        await self._connect()
        try:
            reply = await self._version(
                wire.VersionRequest(version=API_VERSION), timeout=_HEALTH_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            raise self._translate(error) from error
        return ProviderVersion(reply.version, reply.runtime_name, reply.runtime_version)

    def volume_gone(self, target_path: str) -> None:
        """Nothing to do: the protocol has no such call."""

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()

    async def _connect(self) -> None:
        try:
            await asyncio.wait_for(self._channel.channel_ready(), self._connect_seconds)
        except TimeoutError as error:
            raise ProviderUnreachableError(
                f"provider {self._name!r} does not answer: nobody listens on {self._socket}",
                "Check the provider's pod on this node; the mount is tried again by itself.",
            ) from error

    def _translate(self, error: grpc.aio.AioRpcError) -> ProviderReportedError:
        code = error.code().value[0]
        details = error.details() or error.code().name
        remedy = ""
        if code == Code.RESOURCE_EXHAUSTED and "larger than max" in details.lower():
            remedy = (
                "Raise --max-call-recv-msg-size (and the memory limit of the driver), "
                "or split the class."
            )
        problem = f"provider {self._name!r} failed: {details}"
        return ProviderReportedError(problem, remedy, code=code, reason="GRPCProviderError")


@dataclass(frozen=True, slots=True)
class Plugin:
    """A provider, ready to be called.

    Attributes:
        provider: it.
        writes_itself: whether it may write into the volume instead of returning files, so that the
            volume must be mounted before it is called.
        row: its row in the table of built-in providers, which can tell file names from a class.
    """

    provider: Provider
    writes_itself: bool
    row: ProviderRow | None

    def named_files(self, parameters: Mapping[str, str]) -> tuple[NamedFile, ...]:
        """Which files a class makes and how they may be called.

        Nothing for providers that we do not know, nor for a class that only the external provider
        behind a name of ours understands: its files then go by their paths.
        """
        return _named_files(self.row, parameters, built_in=not self.writes_itself)


class Plugins:
    """All providers of this process.

    Args:
        built_in: the providers of the table that run in this process, by name.
        rows: the whole table; an external provider that bears the name of a row reads the same
            classes.
        folders: where sockets are looked for, in order.
        max_receive_bytes: for replies of external providers.
        connect_seconds: how long an external provider that does not answer is waited for.
        economy: what the built-in providers share.
    """

    def __init__(
        self,
        *,
        built_in: Mapping[str, Provider],
        rows: Sequence[ProviderRow],
        folders: Sequence[Path],
        max_receive_bytes: int,
        connect_seconds: float = _CONNECT_SECONDS,
        economy: Economy | None = None,
    ) -> None:
        self._built_in = built_in
        self._economy = economy
        self._rows = {row.name: row for row in rows}
        self._folders = folders
        self._max_receive_bytes = max_receive_bytes
        self._connect_seconds = connect_seconds
        self._external: dict[str, ExternalProvider] = {}

    def find(self, name: str) -> Plugin:
        """The provider called `name`, which the class check has found well-formed.

        Raises:
            ProviderNotFoundError: no such provider; it lists those that there are. Nothing is
                remembered, so a socket is found as soon as it appears.
        """
        row = self._rows.get(name)
        if built_in := self._built_in.get(name):
            return Plugin(built_in, writes_itself=False, row=row)
        if external := self._external.get(name):
            return Plugin(external, writes_itself=True, row=row)
        for folder in self._folders:
            socket = folder / f"{name}.sock"
            if socket.exists():
                external = ExternalProvider(
                    name,
                    socket,
                    max_receive_bytes=self._max_receive_bytes,
                    connect_seconds=self._connect_seconds,
                )
                self._external[name] = external
                return Plugin(external, writes_itself=True, row=row)
        raise self._not_found(name)

    def named_files(self, name: str, parameters: Mapping[str, str]) -> tuple[NamedFile, ...]:
        """What `Plugin.named_files` tells, though the provider called `name` may be away."""
        return _named_files(self._rows.get(name), parameters, built_in=name in self._built_in)

    async def check_health(self) -> None:
        """Calls Version on every external provider that was used, side by side.

        Says in the log how it went.
        """
        await asyncio.gather(
            *(self._check_one(name, provider) for name, provider in self._external.items())
        )

    def unpublished(self, target_path: str) -> None:
        """Tells every provider that a volume is gone; which one filled it is no longer known."""
        for provider in (*self._built_in.values(), *self._external.values()):
            provider.volume_gone(target_path)

    def volume_gone(self, target_path: str) -> None:
        """Nothing needs to be held for this volume any more."""
        if self._economy is not None:
            self._economy.volume_gone(target_path)

    async def close(self) -> None:
        """Closes all providers, built-in ones too."""
        for provider in (*self._built_in.values(), *self._external.values()):
            await provider.close()

    async def _check_one(self, name: str, provider: ExternalProvider) -> None:
        try:
            version = await provider.version()
        except (ProviderUnreachableError, ProviderReportedError) as error:
            _log.warning("provider is not healthy", provider=name, error=str(error))
        else:
            _log.debug("provider is healthy", provider=name, version=version.runtime_version)

    def _not_found(self, name: str) -> ProviderNotFoundError:
        known = sorted({*self._built_in, *(s.stem for f in self._folders for s in _sockets(f))})
        looked = ", ".join(str(folder) for folder in self._folders)
        return ProviderNotFoundError(
            f"provider not found: provider {name!r} is not built in,"
            f" and no {name}.sock is in {looked}",
            f"Known providers here: {', '.join(known) or 'none'}."
            " Correct spec.provider, or install that provider.",
        )


def _sockets(folder: Path) -> list[Path]:
    try:
        return sorted(folder.glob("*.sock"))
    except OSError:
        return []


def _named_files(
    row: ProviderRow | None, parameters: Mapping[str, str], *, built_in: bool
) -> tuple[NamedFile, ...]:
    if row is None:
        return ()
    try:
        return row.named_files(parameters)
    except AuthorError:
        if built_in:
            raise
        return ()
