"""Composition root of `keyferry mount`: the engine of the driver without a cluster."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from math import ceil
from typing import TYPE_CHECKING

import click

from keyferry.aio.clock import SystemClock
from keyferry.aio.jobs import ThreadJobRunner
from keyferry.driver.children import open_emulator
from keyferry.driver.daemon import choose_mounter
from keyferry.driver.engine import EngineDependencies, running_engine
from keyferry.driver.providers import Providers
from keyferry.driver.settings import DEFAULT_MAX_RECEIVE_BYTES, VolumeKind
from keyferry.driver.status.expiry_monitor import ExpiryMonitor
from keyferry.driver.volumes.mounter import can_mount
from keyferry.kubernetes.files.store import ManifestsStore
from keyferry.net.http_client import HttpsSettings
from keyferry.net.proxies import Proxies
from keyferry.providers.host import ProviderHost
from keyferry.providers.settings import ProviderDependencies, ProviderSettings
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.settings import ResilienceSettings
from keyferry.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from keyferry.driver.publish.publisher import Publisher


@asynccontextmanager
async def local_engine(
    spc_file: Path,
    secrets_dir: Path | None,
    *,
    built_in: Sequence[str] = (),
    settings: ProviderSettings | None = None,
    dev_vault: Path | None = None,
    vault_qps: float = ResilienceSettings().qps,
) -> AsyncIterator[tuple[Publisher, ManifestsStore]]:
    """Yield a publisher that refreshes on every call, and its store.

    Args:
        spc_file: file with SecretProviderClasses; not read by an unpublish.
        secrets_dir: folder for manifests of Secrets; None writes none.
        built_in: names of the providers to run.
        settings: settings of the providers.
        dev_vault: data folder of the emulator that replaces all clouds, or None.
        vault_qps: maximum requests per second to one vault; 0 means no limit.
    """
    if dev_vault:
        click.echo("DEVELOPMENT ONLY: all requests go to the development vault, not to the cloud")
    clock, jobs = SystemClock(), ThreadJobRunner()
    store = ManifestsStore(spc_file, secrets_dir, clock=clock)
    metrics = Metrics()
    # An unmount runs no provider and connects to nothing.
    proxies = Proxies.from_environment(os.environ) if built_in else Proxies()
    # One volume has nobody to share with, and each refresh must show the current content.
    burst = max(1, ceil(vault_qps))
    fetcher = Fetcher(ResilienceSettings(cache_ttl=0.0, qps=vault_qps, burst=burst))
    emulator = open_emulator(dev_vault) if dev_vault else None
    deps = ProviderDependencies(
        emulator.https if emulator else HttpsSettings(proxies=proxies),
        settings or ProviderSettings(),
        fetcher,
        jobs,
        emulator=emulator,
    )
    async with (
        Providers(
            built_in=ProviderHost.build(built_in, deps),
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
            )
        ) as engine,
    ):
        yield engine.publisher, store
