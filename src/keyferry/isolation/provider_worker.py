"""The program of the provider worker: the built-in providers, for the driver in another process."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import Struct

from keyferry.errors import KeyferryError
from keyferry.isolation.channel import Channel
from keyferry.isolation.methods import (
    CLUSTER_CA,
    EXPIRING_LEASES,
    METRICS,
    MOUNT,
    NAMED_FILES,
    NODE_KEY,
    PING,
    READ_CHALLENGE_KEY,
    REQUEST_TOKEN,
    RESTORE,
    SHARED_KEY,
    UNKNOWN_FIELDS,
    VERSION,
    VOLUME_REMOVED,
    ChallengeKeyCall,
    NamedFilesCall,
    PodTokenCall,
    ProviderMount,
    UnknownFieldsCall,
    VolumeRemoval,
)
from keyferry.isolation.parser_pool import RemoteJobRunner
from keyferry.net.connector import load_system_tls_soon
from keyferry.providers.host import ProviderHost
from keyferry.providers.settings import ProviderDependencies
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.metrics import ResilienceMetrics
from keyferry.telemetry.metrics import ProviderMetrics

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Mapping

    from keyferry.aio.jobs import JobRunner
    from keyferry.content import NamedFile
    from keyferry.formats.unknown_fields import UnknownField
    from keyferry.isolation.messages import Method
    from keyferry.net.http_client import HttpsSettings
    from keyferry.providers.api import MountResult, PodTokenRequest, ProviderVersion
    from keyferry.providers.emulator import Emulator
    from keyferry.providers.settings import ProviderSettings
    from keyferry.resilience.settings import ResilienceSettings

_THREAD_STACK_BYTES = 1024 * 1024
"""Enough for lookups of names and parsers; the default of 8 MiB counts against the memory limit."""


class WorkerSettings(Struct, frozen=True):
    """What the provider worker is built from.

    Attributes:
        built_in: the names of the providers.
        settings: their settings.
        https: settings of connections.
        resilience: the cache and rate limits that they share.
        emulator: the emulator that `https` connects to; None in production.
    """

    built_in: tuple[str, ...]
    settings: ProviderSettings
    https: HttpsSettings
    resilience: ResilienceSettings
    emulator: Emulator | None = None


Handlers: TypeAlias = "Mapping[str, tuple[Method[Any, Any], Callable[[Any], Awaitable[Any]]]]"
"""Methods that another process may call, by name."""
MoreMethods: TypeAlias = "Callable[[ProviderHost, JobRunner], Handlers]"
"""Returns further methods of the worker; they work with its providers and its parse jobs."""


def run_provider_worker(
    connection: socket.socket, settings: WorkerSettings, more_methods: MoreMethods | None = None
) -> None:
    """Serve the driver over `connection` until it closes the connection.

    Args:
        connection: to the driver.
        settings: of the providers.
        more_methods: of a program that needs more than the driver does; None for none.
    """
    threading.stack_size(_THREAD_STACK_BYTES)
    asyncio.run(_serve(connection, settings, more_methods))


async def _serve(
    connection: socket.socket, settings: WorkerSettings, more_methods: MoreMethods | None
) -> None:
    try:
        worker = _Worker(settings, more_methods)
    except KeyferryError as error:
        await _report(connection, error)
        return
    await worker.channel.open(connection)
    if settings.emulator is None:
        load_system_tls_soon()
    try:
        await worker.channel.wait_closed()
    finally:
        await worker.host.close()


async def _report(connection: socket.socket, error: KeyferryError) -> None:
    """Answer the first call with the error that kept the providers from being built."""

    async def fail(_: None) -> frozenset[str]:
        raise error

    channel = Channel({RESTORE.name: (RESTORE, fail)})
    await channel.open(connection)
    await channel.wait_closed()


class _Worker:
    """The providers, and the methods that the driver calls."""

    def __init__(self, settings: WorkerSettings, more_methods: MoreMethods | None) -> None:
        handlers: dict[str, tuple[Method[Any, Any], Callable[[Any], Awaitable[Any]]]] = {
            MOUNT.name: (MOUNT, self._mount),
            VERSION.name: (VERSION, self._version),
            NAMED_FILES.name: (NAMED_FILES, self._named_files),
            UNKNOWN_FIELDS.name: (UNKNOWN_FIELDS, self._unknown_fields),
            RESTORE.name: (RESTORE, lambda _: self.host.restore()),
            VOLUME_REMOVED.name: (VOLUME_REMOVED, self._volume_removed),
            EXPIRING_LEASES.name: (EXPIRING_LEASES, lambda _: self.host.expiring_leases()),
            METRICS.name: (METRICS, self._metrics_text),
            PING.name: (PING, _pong),
        }
        self.channel = Channel(handlers)
        self._metrics = ProviderMetrics()
        deps = ProviderDependencies(
            settings.https,
            settings.settings,
            Fetcher(settings.resilience, metrics=ResilienceMetrics(self._metrics.registry)),
            RemoteJobRunner(self.channel),
            self._metrics,
            settings.emulator,
        )
        self.host = ProviderHost.build(
            settings.built_in,
            deps,
            privileges=lambda name: RemotePrivileges(self.channel, name),
        )
        if more_methods is not None:
            handlers |= more_methods(self.host, deps.jobs)

    async def _mount(self, argument: ProviderMount) -> MountResult:
        return await self.host.mount(argument.provider, argument.call)

    async def _version(self, name: str) -> ProviderVersion:
        return await self.host.version(name)

    async def _named_files(self, argument: NamedFilesCall) -> tuple[NamedFile, ...]:
        return await self.host.named_files(argument.provider, argument.parameters)

    async def _unknown_fields(self, argument: UnknownFieldsCall) -> tuple[UnknownField, ...]:
        return await self.host.unknown_fields(argument.provider, argument.check)

    async def _volume_removed(self, argument: VolumeRemoval) -> None:
        self.host.volume_removed(argument.target_path, unpublished=argument.unpublished)

    async def _metrics_text(self, _: None) -> bytes:
        return self._metrics.exposition()


async def _pong(_: None) -> None:
    """Answer the watchdog."""


class RemotePrivileges:
    """Implements `Privileges` with the driver.

    Args:
        channel: to the driver.
        provider: the name of the provider.
    """

    def __init__(self, channel: Channel, provider: str) -> None:
        self._channel = channel
        self._provider = provider

    async def request_token(self, request: PodTokenRequest) -> str:
        """Let the driver request the token; see `Privileges`."""
        return await self._channel.call(REQUEST_TOKEN, PodTokenCall(self._provider, request))

    async def load_shared_key(self) -> bytes:
        """Let the driver read the Secret; see `Privileges`."""
        return await self._channel.call(SHARED_KEY, self._provider)

    async def load_node_key(self) -> bytes:
        """Let the driver read the file; see `Privileges`."""
        return await self._channel.call(NODE_KEY, self._provider)

    async def read_challenge_key(self, path: str) -> str:
        """Let the driver read the file; see `Privileges`."""
        return await self._channel.call(READ_CHALLENGE_KEY, ChallengeKeyCall(self._provider, path))

    async def load_cluster_ca(self) -> bytes:
        """Let the driver read the file; see `Privileges`."""
        return await self._channel.call(CLUSTER_CA, self._provider)

    async def close(self) -> None:
        """Do nothing: the driver owns the privileged side."""
