"""Puts the parts of the engine together; the composition roots give it what is outside."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.aio.work_queue import exponential_backoff
from keyferry.driver.publish.delivery import ContentDelivery
from keyferry.driver.publish.publisher import Publisher
from keyferry.driver.publish.schedule import RefreshSchedule
from keyferry.driver.rotation.lease_watch import LeaseExpiryWatcher
from keyferry.driver.rotation.restore import restore_leases, restore_volumes
from keyferry.driver.rotation.rotator import Rotator
from keyferry.driver.secrets.controller import SecretController
from keyferry.driver.secrets.garbage_collector import SecretGarbageCollector
from keyferry.driver.secrets.reconciler import SecretReconciler
from keyferry.driver.settings import DRIVER_NAME
from keyferry.driver.status.pod_status_writer import PodStatusWriter
from keyferry.driver.status.refresh_condition import RefreshConditionWriter
from keyferry.driver.volumes.volume_table import VolumeTable
from keyferry.errors import KeyferryError
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from keyferry.aio.clock import Clock
    from keyferry.driver.providers import Providers
    from keyferry.driver.status.expiry_monitor import ExpiryMonitor
    from keyferry.driver.volumes.mounter import Mounter
    from keyferry.kubernetes import ObjectStore
    from keyferry.telemetry.metrics import Metrics


_log = get_logger("engine")


@dataclass(frozen=True, slots=True)
class Engine:
    """The parts that a composition root or a test may want to reach."""

    publisher: Publisher
    volumes: VolumeTable
    secret_controller: SecretController
    status_writer: PodStatusWriter


@dataclass(frozen=True, slots=True)
class EngineDependencies:
    """What the engine is given.

    Attributes:
        store: where classes are read and everything else is written.
        mounter: how the files of a volume are kept.
        providers: the providers.
        metrics: what is counted.
        expiry_monitor: who hears of objects that end.
        clock: the time.
        node: the name of this node.
        rotation_interval: seconds that content is left alone; None when rotation is off, 0 when
            every publish refreshes and nothing else does.
        driver_name: the name of the CSI driver.
        backoff: seconds to wait after so many failures in a row.
    """

    store: ObjectStore
    mounter: Mounter
    providers: Providers
    metrics: Metrics
    expiry_monitor: ExpiryMonitor
    clock: Clock
    node: str
    rotation_interval: float | None
    driver_name: str = DRIVER_NAME
    backoff: Callable[[int], float] = exponential_backoff


@asynccontextmanager
async def running_engine(deps: EngineDependencies) -> AsyncIterator[Engine]:
    """The engine; what it does beside the calls of kubelet ends with the block."""
    volumes = VolumeTable()
    statuses = PodStatusWriter(
        deps.store,
        volumes=volumes,
        metrics=deps.metrics.volumes,
        clock=deps.clock,
        backoff=deps.backoff,
    )
    health = RefreshConditionWriter(deps.store, clock=deps.clock, backoff=deps.backoff)
    secrets = _secret_controller(deps, volumes, statuses)
    secrets.reconnect_callbacks.append(health.retry)
    delivery = ContentDelivery(
        mounter=deps.mounter,
        volumes=volumes,
        status_writer=statuses,
        secret_controller=secrets,
        condition_writer=health,
        expiry_monitor=deps.expiry_monitor,
        node=deps.node,
        clock=deps.clock,
    )
    interval = deps.rotation_interval
    schedule = None if interval is None else _schedule(deps, interval)
    publisher = Publisher(
        store=deps.store,
        mounter=deps.mounter,
        providers=deps.providers,
        delivery=delivery,
        volumes=volumes,
        status_writer=statuses,
        secret_controller=secrets,
        condition_writer=health,
        expiry_monitor=deps.expiry_monitor,
        metrics=deps.metrics,
        node=deps.node,
        schedule=schedule,
        clock=deps.clock,
    )
    async with AsyncExitStack() as stack:
        await restore_leases(deps.providers, deps.mounter)
        await stack.enter_async_context(statuses.running())
        await stack.enter_async_context(health.running())
        await stack.enter_async_context(secrets.running())
        spawn(stack, _restore(deps, publisher, volumes, secrets))
        timer = None
        if schedule and interval:
            timer = _rotator(deps, publisher, volumes, schedule)
            secrets.class_change_callbacks.append(timer.class_changed)
            spawn(stack, timer.run())
        if interval != 0:
            spawn(stack, _lease_watcher(deps, volumes, timer).run())
        yield Engine(publisher, volumes, secrets, statuses)


def spawn(stack: AsyncExitStack, coroutine: Coroutine[None, None, None]) -> None:
    """Runs `coroutine` beside everything else, until the stack is unwound."""
    task = asyncio.create_task(coroutine)
    task.add_done_callback(_log_task_failure)

    async def end() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(end)


def _log_task_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        _log.error("stopped by a defect of Keyferry", type=type(error).__name__)


async def _restore(
    deps: EngineDependencies,
    publisher: Publisher,
    volumes: VolumeTable,
    secret_controller: SecretController,
) -> None:
    """Once the cluster is known, what an earlier process published is looked after, too."""
    cluster = deps.store.cluster
    await cluster.wait_synced()
    unrecorded = await restore_volumes(volumes, cluster, deps.mounter, driver_name=deps.driver_name)
    secret_controller.load_secret_names()
    secret_controller.enqueue_all()
    for request in unrecorded:
        try:
            await publisher.refresh(request, rebuilt=True)
        except KeyferryError as error:
            _log.error(
                "a volume without a pod status is left as it is",
                targetPath=request.target_path,
                **error.log_pairs(),
            )


def _schedule(deps: EngineDependencies, interval: float) -> RefreshSchedule:
    return RefreshSchedule(deps.providers, interval=interval, node=deps.node, clock=deps.clock)


def _rotator(
    deps: EngineDependencies, publisher: Publisher, volumes: VolumeTable, schedule: RefreshSchedule
) -> Rotator:
    return Rotator(
        publisher,
        volumes=volumes,
        cluster=deps.store.cluster,
        schedule=schedule,
        driver_name=deps.driver_name,
        clock=deps.clock,
    )


def _lease_watcher(
    deps: EngineDependencies, volumes: VolumeTable, rotator: Rotator | None
) -> LeaseExpiryWatcher:
    return LeaseExpiryWatcher(
        deps.providers,
        volumes=volumes,
        rotator=rotator,
        expiry_monitor=deps.expiry_monitor,
        clock=deps.clock,
    )


def _secret_controller(
    deps: EngineDependencies, volumes: VolumeTable, status_writer: PodStatusWriter
) -> SecretController:
    sync = SecretReconciler(
        store=deps.store,
        volumes=volumes,
        providers=deps.providers,
        garbage_collector=SecretGarbageCollector(deps.store),
        metrics=deps.metrics.secrets,
    )
    secrets = SecretController(
        sync,
        volumes=volumes,
        cluster=deps.store.cluster,
        status_writer=status_writer,
        clock=deps.clock,
        backoff=deps.backoff,
    )
    deps.metrics.secrets.watch(
        queue_length=lambda: len(secrets), managed=lambda: len(volumes.secret_keys())
    )
    deps.metrics.volumes.watch(
        oldest_content_age=lambda: volumes.oldest_content_age(deps.clock.wall()),
        versions=volumes.version_counts,
    )
    deps.metrics.secrets.watch_pending("podstatus", lambda: len(status_writer))
    deps.metrics.secrets.watch_pending("event", lambda: deps.store.pending_events)
    return secrets
