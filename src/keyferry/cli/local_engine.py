"""The engine of the driver on a plain machine: the composition root of `keyferry mount`."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from math import ceil
from typing import TYPE_CHECKING

import click

from keyferry.clocks import SystemClock
from keyferry.driver.daemon import choose_mounts, open_plugins, vault_connections
from keyferry.driver.engine import Surroundings, running_engine
from keyferry.driver.expiry_watch import ExpiryWatch
from keyferry.driver.mounts import can_mount
from keyferry.driver.settings import VolumeKind
from keyferry.economy.hub import Economy
from keyferry.economy.settings import EconomySettings
from keyferry.metrics import Metrics
from keyferry.proxies import Proxies
from keyferry.store.manifests import ManifestsStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from keyferry.driver.publish import Publisher
    from keyferry.provider_settings import ProviderSettings


@asynccontextmanager
async def local_engine(
    classes: Path,
    secrets_dir: Path | None,
    *,
    built_in: Sequence[str] = (),
    settings: ProviderSettings | None = None,
    dev_vault: Path | None = None,
    vault_rate: float = EconomySettings().rate,
) -> AsyncIterator[tuple[Publisher, ManifestsStore]]:
    """A publisher that refreshes with every call, and the store that it uses.

    Args:
        classes: the file with the classes; not read by an unpublish.
        secrets_dir: where manifests of Secrets go; None for nowhere.
        built_in: the providers to have.
        settings: what they are told.
        dev_vault: the data folder of the development vault that stands for all clouds, or None.
        vault_rate: calls a second to one vault; 0: no limit.
    """
    if dev_vault:
        click.echo("DEVELOPMENT: every vault call goes to the development vault, not the cloud")
    clock = SystemClock()
    store = ManifestsStore(classes, secrets_dir, clock=clock.wall)
    metrics = Metrics()
    # An unmount has no provider and goes nowhere.
    proxies = Proxies.of_environment(os.environ) if built_in else Proxies()
    # One volume shares with nobody, and each refresh is to show what the vault holds then.
    burst = max(1, ceil(vault_rate))
    economy = Economy(EconomySettings(reuse=0.0, rate=vault_rate, burst=burst))
    async with (
        open_plugins(
            built_in,
            https=vault_connections(dev_vault, proxies),
            settings=settings,
            economy=economy,
        ) as plugins,
        running_engine(
            Surroundings(
                store=store,
                mounts=choose_mounts(VolumeKind.TMPFS if can_mount() else VolumeKind.FOLDER),
                plugins=plugins,
                metrics=metrics,
                expiries=ExpiryWatch(store, metrics),
                node="",
                rotation_interval=0,
                clock=clock,
            )
        ) as engine,
    ):
        yield engine.publisher, store
