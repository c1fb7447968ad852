"""Puts the parts of the engine together; the composition roots give it what is outside."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.driver.deliver import Delivery
from keyferry.driver.publish import Publisher
from keyferry.driver.release import SecretRelease
from keyferry.driver.secret_loop import SecretLoop
from keyferry.driver.statuses import StatusKeeper
from keyferry.driver.sync import SecretSync
from keyferry.driver.volumes import Volumes
from keyferry.driver.work_queue import backoff

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from keyferry.clocks import Clock
    from keyferry.driver.expiry_watch import ExpiryWatch
    from keyferry.driver.mounts import Mounts
    from keyferry.driver.plugins import Plugins
    from keyferry.metrics import Metrics
    from keyferry.store import ObjectStore


@dataclass(frozen=True, slots=True)
class Engine:
    """The parts that a composition root or a test may want to reach."""

    publisher: Publisher
    volumes: Volumes
    secrets: SecretLoop
    statuses: StatusKeeper


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the engine is given.

    Attributes:
        store: where classes are read and everything else is written.
        mounts: how the files of a volume are kept.
        plugins: the providers.
        metrics: what is counted.
        expiries: who hears of objects that end.
        clock: the time.
        node: the name of this node.
        rotation_interval: seconds that content is left alone; None when rotation is off.
        pause: seconds to wait after so many failures in a row.
    """

    store: ObjectStore
    mounts: Mounts
    plugins: Plugins
    metrics: Metrics
    expiries: ExpiryWatch
    clock: Clock
    node: str
    rotation_interval: float | None
    pause: Callable[[int], float] = backoff


@asynccontextmanager
async def running_engine(given: Surroundings) -> AsyncIterator[Engine]:
    """The engine; what it does beside the calls of kubelet ends with the block."""
    volumes = Volumes()
    statuses = StatusKeeper(given.store, volumes=volumes, clock=given.clock, pause=given.pause)
    secrets = _secrets(given, volumes, statuses)
    delivery = Delivery(
        mounts=given.mounts,
        volumes=volumes,
        statuses=statuses,
        secrets=secrets,
        expiries=given.expiries,
        node=given.node,
        clock=given.clock,
    )
    publisher = Publisher(
        store=given.store,
        mounts=given.mounts,
        plugins=given.plugins,
        delivery=delivery,
        volumes=volumes,
        statuses=statuses,
        secrets=secrets,
        expiries=given.expiries,
        metrics=given.metrics,
        node=given.node,
        rotation_interval=given.rotation_interval,
        clock=given.clock,
    )
    async with statuses.running(), secrets.running():
        yield Engine(publisher, volumes, secrets, statuses)


def _secrets(given: Surroundings, volumes: Volumes, statuses: StatusKeeper) -> SecretLoop:
    sync = SecretSync(
        store=given.store,
        volumes=volumes,
        plugins=given.plugins,
        release=SecretRelease(given.store),
        metrics=given.metrics.secrets,
    )
    secrets = SecretLoop(
        sync,
        volumes=volumes,
        cluster=given.store.cluster,
        statuses=statuses,
        clock=given.clock,
        pause=given.pause,
    )
    given.metrics.secrets.watch(queue=lambda: len(secrets), kept=lambda: len(volumes.secret_keys()))
    given.metrics.secrets.watch_pending("podstatus", lambda: len(statuses))
    given.metrics.secrets.watch_pending("event", lambda: given.store.events_waiting)
    return secrets
