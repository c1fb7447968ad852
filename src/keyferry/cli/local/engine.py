"""Composition root of `keyferry mount`, `run` and `get`: the engine without a cluster."""

from __future__ import annotations

import os
import time
from contextlib import asynccontextmanager
from math import ceil
from typing import TYPE_CHECKING

from keyferry.aio.clock import SystemClock
from keyferry.aio.jobs import ThreadJobRunner
from keyferry.cli.console import console
from keyferry.cli.local.content import FetchedContent, missing_warnings
from keyferry.cli.local.options import STDIN
from keyferry.cli.local.progress import with_progress
from keyferry.cli.local.requests import publish_request
from keyferry.cli.local.signals import StopSignal
from keyferry.cli.local.unknown_fields import UnknownFieldWarnings
from keyferry.driver.engine import EngineDependencies, running_engine
from keyferry.driver.node import choose_mounter
from keyferry.driver.request import PublishRequest, mount_call
from keyferry.driver.settings import DEFAULT_MAX_RECEIVE_BYTES, VolumeKind
from keyferry.driver.status.expiry_monitor import ExpiryMonitor
from keyferry.errors import KeyferryError
from keyferry.kubernetes.class_check import check_class
from keyferry.kubernetes.files.store import ManifestsStore
from keyferry.kubernetes.placeholders import with_placeholder_remedy
from keyferry.net.http_client import HttpsSettings
from keyferry.net.proxies import Proxies
from keyferry.plugins.children import open_emulator
from keyferry.plugins.derivation import with_derived_files
from keyferry.plugins.providers import Providers
from keyferry.process import can_mount
from keyferry.providers.emulator import EmulatorCommands
from keyferry.providers.expiry import near_expiry_warnings
from keyferry.providers.host import ProviderHost
from keyferry.providers.registry import provider_names
from keyferry.providers.settings import ProviderDependencies, ProviderSettings
from keyferry.providers.vault.provider import VaultProvider
from keyferry.rendering.class_options import parse_volume_options
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.settings import ResilienceSettings
from keyferry.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from pathlib import Path
    from typing import TypeVar

    from keyferry.cli.local.options import LocalOptions
    from keyferry.driver.publish.delivery import PublishResult
    from keyferry.driver.publish.publisher import Publisher
    from keyferry.kubernetes import SecretProviderClass

    T = TypeVar("T")


class LocalEngine:
    """The engine for one SecretProviderClass; each call of it fetches from the vault.

    Attributes:
        publisher: mounts and unmounts volumes.
        store: reads SecretProviderClasses from files.
        stop: the signal that stops the command.
    """

    def __init__(
        self,
        options: LocalOptions,
        publisher: Publisher,
        store: ManifestsStore,
        providers: Providers,
        host: ProviderHost,
    ) -> None:
        self.publisher = publisher
        self.store = store
        self.stop = StopSignal()
        self._options = options
        self._providers = providers
        self._host = host
        self._warnings = UnknownFieldWarnings()

    async def request(self, target: str) -> PublishRequest:
        """Return the request that kubelet would send for a pod that is named after the target.

        Args:
            target: the absolute mount path.

        Raises:
            KeyferryError: an input file is invalid, or does not name one SecretProviderClass.
        """
        return await publish_request(self._options, self.store, target, self._warnings)

    async def publish(self, request: PublishRequest) -> PublishResult:
        """Mount or refresh the volume of `request`.

        Raises:
            KeyferryError: the mount failed.
            ConnectionFailedError: it took longer than --timeout.
            InterruptedBySignalError: a signal arrived.
        """
        await self._read_class(request)
        return await self._call_vault(self.publisher.publish(request))

    async def fetch(self, request: PublishRequest) -> FetchedContent:
        """Fetch the content of the volume of `request`, and write nothing.

        Raises:
            KeyferryError: an object could not be fetched.
            InterruptedBySignalError: a signal arrived.
        """
        return await self._call_vault(self._fetch(request))

    async def _fetch(self, request: PublishRequest) -> FetchedContent:
        spc = check_class(await self._read_class(request))
        provider = self._providers.resolve(spc.provider)
        named_files = await provider.named_files(spc.parameters)
        call = mount_call(request, spc)
        options = parse_volume_options(call.attributes)
        try:
            result = await provider.mount(call)
        except KeyferryError as error:
            raise with_placeholder_remedy(error, spc.parameters) from error.__cause__
        for warning in near_expiry_warnings(result.expiries, time.time()):
            console().warn(warning)
        for warning in missing_warnings(result.missing):
            console().warn(warning)
        files = await with_derived_files(
            result.files, result.missing, options, jobs=ThreadJobRunner(), tenant=""
        )
        return FetchedContent(
            spc, files, named_files, options.env_file, result.versions, result.expiries
        )

    @property
    def has_leases(self) -> bool:
        """Whether a provider renews leases of dynamic secrets."""
        built = map(self._host.get, self._host.names)
        return any(isinstance(one, VaultProvider) and len(one.leases) > 0 for one in built)

    def release(self, request: PublishRequest) -> None:
        """Revoke the leases of the volume of `request` before the engine is closed."""
        self._providers.volume_removed(request.target_path, unpublished=True)

    async def _read_class(self, request: PublishRequest) -> SecretProviderClass:
        """Return the SecretProviderClass, and warn of fields that have no effect."""
        spc = await self.store.get_class(request.pod.namespace, request.class_name)
        self._warnings.check_class(spc, request.secrets)
        return spc

    async def _call_vault(self, work: Coroutine[None, None, T]) -> T:
        """Wait for `work`, which sends requests to vaults; every command waits here."""
        folder = self._options.dev_vault
        emulator = EmulatorCommands(folder) if folder else None
        waiting = with_progress(work, timeout=self._options.timeout, emulator=emulator)
        return await self.stop.interrupts(waiting)


@asynccontextmanager
async def local_engine(
    options: LocalOptions, *, secrets_dir: Path | None = None
) -> AsyncIterator[LocalEngine]:
    """Yield the engine with all built-in providers.

    Args:
        options: the SecretProviderClass and the credentials.
        secrets_dir: folder for manifests of Secrets; None writes none.
    """
    if options.dev_vault:
        console().note("DEVELOPMENT ONLY: all requests go to the development vault, not the cloud")
    store = ManifestsStore(
        options.spc_file, secrets_dir, clock=SystemClock(), content=options.spc_text
    )
    async with _running(store, options) as (publisher, providers, host):
        yield LocalEngine(options, publisher, store, providers, host)


@asynccontextmanager
async def local_publisher(secrets_dir: Path | None) -> AsyncIterator[Publisher]:
    """Yield a publisher that can unmount; it runs no provider and connects to nothing.

    Args:
        secrets_dir: folder with the manifests of Secrets that a mount wrote, or None.
    """
    store = ManifestsStore(STDIN, secrets_dir, clock=SystemClock(), content=b"")
    async with _running(store, None) as (publisher, _, _):
        yield publisher


@asynccontextmanager
async def _running(
    store: ManifestsStore, options: LocalOptions | None
) -> AsyncIterator[tuple[Publisher, Providers, ProviderHost]]:
    """Run an engine that refreshes on every call; without options, it has no providers."""
    clock, jobs, metrics = SystemClock(), ThreadJobRunner(), Metrics()
    dev_vault = options.dev_vault if options else None
    emulator = open_emulator(dev_vault) if dev_vault else None
    proxies = Proxies.from_environment(os.environ) if options else Proxies()
    deps = ProviderDependencies(
        emulator.https if emulator else HttpsSettings(proxies=proxies),
        options.settings if options else ProviderSettings(),
        _fetcher(options.vault_qps if options else 0.0),
        jobs,
        emulator=emulator,
    )
    host = ProviderHost.build(provider_names() if options else (), deps)
    async with (
        Providers(
            built_in=host,
            socket_folders=(),
            max_receive_bytes=DEFAULT_MAX_RECEIVE_BYTES,
        ) as providers,
        running_engine(
            EngineDependencies(
                store=store,
                mounter=choose_mounter(VolumeKind.TMPFS if can_mount() else VolumeKind.FOLDER),
                providers=providers,
                jobs=jobs,
                metrics=metrics,
                expiry_monitor=ExpiryMonitor(store, metrics, clock=clock),
                node="",
                rotation_interval=0,
                clock=clock,
                ignores_foreign_owners=True,
            )
        ) as engine,
    ):
        yield engine.publisher, providers, host


def _fetcher(qps: float) -> Fetcher:
    """Return a fetcher without a cache: each refresh must show the current content.

    One volume has nobody to share the vault with, so a burst is one second of requests.
    """
    return Fetcher(ResilienceSettings(cache_ttl=0.0, qps=qps, burst=max(1, ceil(qps))))


def absolute_path(target: Path) -> str:
    """Return the path that identifies a target, independent of the working directory."""
    return os.path.abspath(target)  # noqa: PTH100 - resolve() would follow a link at the target
