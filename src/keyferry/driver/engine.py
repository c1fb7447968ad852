"""Puts the parts of the engine together; the composition roots give it what is outside."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.driver.deliver import Delivery
from keyferry.driver.ending_watch import EndingWatch
from keyferry.driver.health import HealthKeeper
from keyferry.driver.publish import Publisher
from keyferry.driver.release import SecretRelease
from keyferry.driver.restore import restore_held, restore_volumes
from keyferry.driver.rotation import RotationTimer
from keyferry.driver.schedule import RefreshSchedule
from keyferry.driver.secret_loop import SecretLoop
from keyferry.driver.settings import DRIVER_NAME
from keyferry.driver.statuses import StatusKeeper
from keyferry.driver.sync import SecretSync
from keyferry.driver.volumes import Volumes
from keyferry.driver.work_queue import backoff
from keyferry.errors import KeyferryError
from keyferry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from keyferry.clocks import Clock
    from keyferry.driver.expiry_watch import ExpiryWatch
    from keyferry.driver.mounts import Mounts
    from keyferry.driver.plugins import Plugins
    from keyferry.metrics import Metrics
    from keyferry.store import ObjectStore


_log = get_logger("engine")


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
        rotation_interval: seconds that content is left alone; None when rotation is off, 0 when
            every publish refreshes and nothing else does.
        driver_name: the name of the CSI driver.
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
    driver_name: str = DRIVER_NAME
    pause: Callable[[int], float] = backoff


@asynccontextmanager
async def running_engine(given: Surroundings) -> AsyncIterator[Engine]:
    """The engine; what it does beside the calls of kubelet ends with the block."""
    volumes = Volumes()
    statuses = StatusKeeper(
        given.store,
        volumes=volumes,
        metrics=given.metrics.volumes,
        clock=given.clock,
        pause=given.pause,
    )
    health = HealthKeeper(given.store, clock=given.clock, pause=given.pause)
    secrets = _secrets(given, volumes, statuses)
    secrets.on_api_back.append(health.retry)
    delivery = Delivery(
        mounts=given.mounts,
        volumes=volumes,
        statuses=statuses,
        secrets=secrets,
        health=health,
        expiries=given.expiries,
        node=given.node,
        clock=given.clock,
    )
    interval = given.rotation_interval
    schedule = None if interval is None else _schedule(given, interval)
    publisher = Publisher(
        store=given.store,
        mounts=given.mounts,
        plugins=given.plugins,
        delivery=delivery,
        volumes=volumes,
        statuses=statuses,
        secrets=secrets,
        health=health,
        expiries=given.expiries,
        metrics=given.metrics,
        node=given.node,
        schedule=schedule,
        clock=given.clock,
    )
    async with AsyncExitStack() as stack:
        await restore_held(given.plugins, given.mounts)
        await stack.enter_async_context(statuses.running())
        await stack.enter_async_context(health.running())
        await stack.enter_async_context(secrets.running())
        keep_running(stack, _restore(given, publisher, volumes, secrets))
        timer = None
        if schedule and interval:
            timer = _timer(given, publisher, volumes, schedule)
            secrets.on_class_change.append(timer.class_changed)
            keep_running(stack, timer.run())
        if interval != 0:
            keep_running(stack, _endings(given, volumes, timer).run())
        yield Engine(publisher, volumes, secrets, statuses)


def keep_running(stack: AsyncExitStack, work: Coroutine[None, None, None]) -> None:
    """Runs `work` beside everything else, until the stack is unwound."""
    task = asyncio.create_task(work)
    task.add_done_callback(_tell_of_end)

    async def end() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(end)


def _tell_of_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        _log.error("stopped by a defect of Keyferry", type=type(error).__name__)


async def _restore(
    given: Surroundings, publisher: Publisher, volumes: Volumes, secrets: SecretLoop
) -> None:
    """Once the cluster is known, what an earlier process published is looked after, too."""
    cluster = given.store.cluster
    await cluster.wait_synced()
    unrecorded = await restore_volumes(
        volumes, cluster, given.mounts, driver_name=given.driver_name
    )
    secrets.read_classes()
    secrets.add_all()
    for request in unrecorded:
        try:
            await publisher.refresh(request, rebuilt=True)
        except KeyferryError as error:
            _log.error(
                "a volume without a pod status is left as it is",
                targetPath=request.target_path,
                **error.log_pairs(),
            )


def _schedule(given: Surroundings, interval: float) -> RefreshSchedule:
    return RefreshSchedule(given.plugins, interval=interval, node=given.node, clock=given.clock)


def _timer(
    given: Surroundings, publisher: Publisher, volumes: Volumes, schedule: RefreshSchedule
) -> RotationTimer:
    return RotationTimer(
        publisher,
        volumes=volumes,
        cluster=given.store.cluster,
        schedule=schedule,
        driver_name=given.driver_name,
        clock=given.clock,
    )


def _endings(given: Surroundings, volumes: Volumes, timer: RotationTimer | None) -> EndingWatch:
    return EndingWatch(
        given.plugins, volumes=volumes, timer=timer, expiries=given.expiries, clock=given.clock
    )


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
    given.metrics.volumes.watch(
        oldest=lambda: volumes.oldest_age(given.clock.wall()), versions=volumes.versions
    )
    given.metrics.secrets.watch_pending("podstatus", lambda: len(statuses))
    given.metrics.secrets.watch_pending("event", lambda: given.store.events_waiting)
    return secrets
