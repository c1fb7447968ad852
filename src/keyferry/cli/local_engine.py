"""The engine of the driver on a plain machine: the composition root of `keyferry mount`."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from keyferry.driver.daemon import choose_mounts, open_plugins, vault_connections
from keyferry.driver.expiry_watch import ExpiryWatch
from keyferry.driver.mounts import can_mount
from keyferry.driver.publish import Publisher
from keyferry.driver.settings import VolumeKind
from keyferry.driver.sync import SecretSync
from keyferry.metrics import Metrics
from keyferry.store.manifests import ManifestsStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path


@asynccontextmanager
async def local_engine(
    classes: Path,
    secrets_dir: Path | None,
    *,
    built_in: Sequence[str] = (),
    dev_vault: Path | None = None,
) -> AsyncIterator[tuple[Publisher, ManifestsStore]]:
    """A publisher that refreshes with every call, and the store that it uses.

    Args:
        classes: the file with the classes; not read by an unpublish.
        secrets_dir: where manifests of Secrets go; None for nowhere.
        built_in: the providers to have.
        dev_vault: the data folder of the development vault that stands for all clouds, or None.
    """
    if dev_vault:
        click.echo("DEVELOPMENT: every vault call goes to the development vault, not the cloud")
    store = ManifestsStore(classes, secrets_dir, clock=lambda: datetime.now(UTC))
    metrics = Metrics()
    async with open_plugins(built_in, https=vault_connections(dev_vault)) as plugins:
        publisher = Publisher(
            store=store,
            mounts=choose_mounts(VolumeKind.TMPFS if can_mount() else VolumeKind.FOLDER),
            plugins=plugins,
            sync=SecretSync(store),
            metrics=metrics,
            expiries=ExpiryWatch(store, metrics),
            node="",
            rotation_interval=0,
        )
        yield publisher, store
