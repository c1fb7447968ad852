"""The engine of the driver on a plain machine: the composition root of `keyferry mount`."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from math import ceil
from typing import TYPE_CHECKING

import click

from keyferry.aio.clock import SystemClock
from keyferry.driver.daemon import choose_mounter, open_providers, vault_http_settings
from keyferry.driver.engine import EngineDependencies, running_engine
from keyferry.driver.settings import VolumeKind
from keyferry.driver.status.expiry_monitor import ExpiryMonitor
from keyferry.driver.volumes.mounter import can_mount
from keyferry.kubernetes.files.store import ManifestsStore
from keyferry.net.proxies import Proxies
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.settings import ResilienceSettings
from keyferry.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from keyferry.driver.publish.publisher import Publisher
    from keyferry.providers.settings import ProviderSettings


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
    """A publisher that refreshes with every call, and the store that it uses.

    Args:
        spc_file: the file with the classes; not read by an unpublish.
        secrets_dir: where manifests of Secrets go; None for nowhere.
        built_in: the providers to have.
        settings: what they are told.
        dev_vault: the data folder of the development vault that stands for all clouds, or None.
        vault_qps: calls a second to one vault; 0: no limit.
    """
    if dev_vault:
        click.echo("DEVELOPMENT: every vault call goes to the development vault, not the cloud")
    clock = SystemClock()
    store = ManifestsStore(spc_file, secrets_dir, clock=clock.wall)
    metrics = Metrics()
    # An unmount has no provider and goes nowhere.
    proxies = Proxies.from_environment(os.environ) if built_in else Proxies()
    # One volume shares with nobody, and each refresh is to show what the vault holds then.
    burst = max(1, ceil(vault_qps))
    economy = Fetcher(ResilienceSettings(cache_ttl=0.0, qps=vault_qps, burst=burst))
    async with (
        open_providers(
            built_in,
            https=vault_http_settings(dev_vault, proxies),
            settings=settings,
            fetcher=economy,
        ) as plugins,
        running_engine(
            EngineDependencies(
                store=store,
                mounter=choose_mounter(VolumeKind.TMPFS if can_mount() else VolumeKind.FOLDER),
                providers=plugins,
                metrics=metrics,
                expiry_monitor=ExpiryMonitor(store, metrics),
                node="",
                rotation_interval=0,
                clock=clock,
            )
        ) as engine,
    ):
        yield engine.publisher, store
