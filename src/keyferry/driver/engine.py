"""Builds the parts of the engine and connects them; composition roots supply its dependencies."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from msgspec import Struct, field

from keyferry.aio.backoff import exponential_backoff
from keyferry.aio.foreground import Foreground
from keyferry.aio.tasks import spawn_until_exit
from keyferry.driver.publish.delivery import ContentDelivery
from keyferry.driver.publish.planner import PublishHistory, PublishPlanner
from keyferry.driver.publish.publisher import Publisher
from keyferry.driver.publish.schedule import RefreshSchedule
from keyferry.driver.rotation.lease_watch import LeaseExpiryWatcher
from keyferry.driver.rotation.refresh_requests import RefreshRequests
from keyferry.driver.rotation.restore import restore_leases, restore_volumes
from keyferry.driver.rotation.rotator import Rotator
from keyferry.driver.secrets.controller import SecretController
from keyferry.driver.secrets.garbage_collector import SecretGarbageCollector
from keyferry.driver.secrets.reconciler import SecretReconciler
from keyferry.driver.secrets.unused import UnusedSecrets
from keyferry.driver.status.missing_object_reporter import MissingObjectReporter
from keyferry.driver.status.pod_status_writer import PodStatusWriter
from keyferry.driver.status.stale_content_reporter import StaleContentReporter
from keyferry.driver.status.unknown_field_reporter import UnknownFieldReporter
from keyferry.driver.volumes.operations import VolumeOperations
from keyferry.driver.volumes.volume_events import VolumeEvents, VolumeRemoved
from keyferry.driver.volumes.volume_table import VolumeTable, pod_of
from keyferry.errors import KeyferryError
from keyferry.kubernetes.names import DRIVER_NAME
from keyferry.telemetry.audit import NullAuditLog
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from keyferry.aio.clock import Clock
    from keyferry.aio.jobs import JobRunner
    from keyferry.driver.status.expiry_monitor import ExpiryMonitor
    from keyferry.driver.volumes.mounter import Mounter
    from keyferry.driver.volumes.volume_events import VolumeEvent
    from keyferry.kubernetes import ObjectStore
    from keyferry.kubernetes.cluster import ClusterView
    from keyferry.plugins.providers import Providers
    from keyferry.telemetry.audit import AuditLog
    from keyferry.telemetry.metrics import Metrics


_log = get_logger("engine")


class Engine(Struct, frozen=True):
    """The parts that a composition root or a test needs."""

    publisher: Publisher
    volumes: VolumeTable
    operations: VolumeOperations
    secret_controller: SecretController
    status_writer: PodStatusWriter
    field_reporter: UnknownFieldReporter


class EngineDependencies(Struct, frozen=True):
    """What a composition root supplies.

    Attributes:
        store: reads SecretProviderClasses; writes Secrets, pod statuses and Kubernetes events.
        mounter: mounts and unmounts volumes.
        providers: the built-in and external providers.
        jobs: runs the parse jobs of Secrets.
        metrics: the metrics of the process.
        expiry_monitor: reports objects that are about to expire.
        clock: timestamps and delays.
        node: the name of this node.
        rotation_interval: seconds between two refreshes of a volume; None when rotation is off, 0
            when every publish refreshes and nothing else does.
        driver_name: the name of the CSI driver.
        allow_attribute_overrides: whether `volumeAttributes` of a pod may override parameters of
            its SecretProviderClass.
        backoff: seconds to wait after this number of consecutive failures.
        audit_log: records the accesses to vaults.
        secret_grace_period: seconds between the last use of a Secret and its deletion; 0 deletes it
            at once.
        unused_secrets_file: keeps the names of unused Secrets across restarts; None for memory.
        ignores_foreign_owners: whether `fileOwner` has no effect where this process may not give
            files to other users. Otherwise the publish fails.
    """

    store: ObjectStore
    mounter: Mounter
    providers: Providers
    jobs: JobRunner
    metrics: Metrics
    expiry_monitor: ExpiryMonitor
    clock: Clock
    node: str
    rotation_interval: float | None
    driver_name: str = DRIVER_NAME
    allow_attribute_overrides: bool = True
    backoff: Callable[[int], float] = exponential_backoff
    audit_log: AuditLog = field(default_factory=NullAuditLog)
    secret_grace_period: float = 0.0
    unused_secrets_file: Path | None = None
    ignores_foreign_owners: bool = False


@asynccontextmanager
async def running_engine(deps: EngineDependencies) -> AsyncIterator[Engine]:
    """Build the engine and run its background tasks while the block runs."""
    volumes, events, foreground = VolumeTable(), VolumeEvents(), Foreground()
    operations = VolumeOperations(deps.mounter, ignores_foreign_owners=deps.ignores_foreign_owners)
    status_writer = PodStatusWriter(
        deps.store,
        volumes=volumes,
        events=events,
        metrics=deps.metrics.volumes,
        clock=deps.clock,
        backoff=deps.backoff,
        foreground=foreground,
    )
    field_reporter = UnknownFieldReporter(deps.store, deps.providers, foreground)
    secret_controller = _secret_controller(deps, volumes, operations)
    schedule = _schedule(deps)
    publisher = _publisher(
        deps,
        volumes,
        operations,
        events,
        secret_controller,
        schedule=schedule,
        field_reporter=field_reporter,
        foreground=foreground,
    )
    rotator, requests = _rotation(deps, publisher, volumes, schedule)
    _subscribe(
        deps,
        events,
        status_writer=status_writer,
        secret_controller=secret_controller,
        rotator=rotator,
        requests=requests,
    )
    _watch_metrics(deps, volumes, secret_controller, status_writer, schedule=schedule)
    async with AsyncExitStack() as stack:
        stack.callback(operations.close)
        await restore_leases(deps.providers, operations)
        await stack.enter_async_context(status_writer.running())
        await stack.enter_async_context(field_reporter.running())
        await stack.enter_async_context(secret_controller.running())
        restoring = _restore(
            deps, publisher, volumes, operations, secret_controller, requests=requests
        )
        spawn_until_exit(stack, restoring, name="restore volumes")
        if rotator and requests:
            spawn_until_exit(stack, rotator.run(), name="rotation")
            spawn_until_exit(stack, requests.run(), name="refresh requests")
            watching = _lease_watcher(deps, volumes, rotator if schedule else None).run()
            spawn_until_exit(stack, watching, name="lease watch")
        yield Engine(
            publisher, volumes, operations, secret_controller, status_writer, field_reporter
        )


def _schedule(deps: EngineDependencies) -> RefreshSchedule | None:
    if deps.rotation_interval is None:
        return None
    return RefreshSchedule(interval=deps.rotation_interval, node=deps.node, clock=deps.clock)


def _rotation(
    deps: EngineDependencies,
    publisher: Publisher,
    volumes: VolumeTable,
    schedule: RefreshSchedule | None,
) -> tuple[Rotator | None, RefreshRequests | None]:
    """Return what refreshes volumes without kubelet; nothing if each call of kubelet does."""
    if deps.rotation_interval == 0:
        return None, None
    rotator = Rotator(
        publisher,
        volumes=volumes,
        cluster=deps.store.cluster,
        schedule=schedule,
        driver_name=deps.driver_name,
        clock=deps.clock,
    )
    return rotator, RefreshRequests(
        rotator, volumes=volumes, store=deps.store, node=deps.node, clock=deps.clock
    )


def _subscribe(
    deps: EngineDependencies,
    events: VolumeEvents,
    *,
    status_writer: PodStatusWriter,
    secret_controller: SecretController,
    rotator: Rotator | None,
    requests: RefreshRequests | None,
) -> None:
    """Connect every subscriber of volume events and cluster events. The order matters.

    1. The pod status writer comes first: a Secret needs the written pod status as its owner, and no
       pod status may be written after the store has deleted those of a removed volume.
    2. The Secret controller comes last: it deletes Secrets that the store did not delete.
    """

    async def release_from_providers(event: VolumeEvent) -> None:
        if isinstance(event, VolumeRemoved):
            deps.providers.volume_removed(event.target_path, unpublished=event.unpublished)

    async def remove_from_store(event: VolumeEvent) -> None:
        if isinstance(event, VolumeRemoved) and event.unpublished:
            await deps.store.volume_removed(event.target_path)

    events.subscribe(status_writer.on_volume_event)
    events.subscribe(deps.expiry_monitor.on_volume_event)
    events.subscribe(StaleContentReporter(deps.store, deps.clock).on_volume_event)
    events.subscribe(MissingObjectReporter(deps.store).on_volume_event)
    events.subscribe(release_from_providers)
    events.subscribe(remove_from_store)
    events.subscribe(secret_controller.on_volume_event)

    cluster = deps.store.cluster
    if rotator is not None:
        cluster.subscribe(rotator.on_cluster_event)
    if requests is not None:
        cluster.subscribe(requests.on_cluster_event)
    cluster.subscribe(status_writer.on_cluster_event)
    cluster.subscribe(secret_controller.on_cluster_event)


def _watch_metrics(
    deps: EngineDependencies,
    volumes: VolumeTable,
    secret_controller: SecretController,
    status_writer: PodStatusWriter,
    *,
    schedule: RefreshSchedule | None,
) -> None:
    """Register the gauges that are computed when metrics are read."""
    secrets = deps.metrics.secrets
    secrets.watch(
        queue_length=lambda: len(secret_controller), managed=lambda: len(volumes.secret_keys())
    )
    secrets.watch_pending("podstatus", lambda: len(status_writer))
    secrets.watch_pending("event", lambda: deps.store.pending_events)
    deps.metrics.volumes.watch(
        oldest_content_age=lambda: volumes.oldest_content_age(deps.clock.wall()),
        overdue=lambda: _count_overdue(volumes, deps.store.cluster, schedule),
        versions=volumes.version_counts,
    )


def _count_overdue(
    volumes: VolumeTable, cluster: ClusterView, schedule: RefreshSchedule | None
) -> int:
    """Count volumes with old content; completed and terminating pods are not refreshed."""
    if schedule is None:
        return 0
    overdue = [pod_of(volume, cluster) for volume in volumes if schedule.is_overdue(volume)]
    return sum(pod is None or not (pod.completed or pod.terminating) for pod in overdue)


async def _restore(
    deps: EngineDependencies,
    publisher: Publisher,
    volumes: VolumeTable,
    operations: VolumeOperations,
    secret_controller: SecretController,
    *,
    requests: RefreshRequests | None,
) -> None:
    """Take over the volumes of an earlier process, once the cluster is known."""
    cluster = deps.store.cluster
    await cluster.wait_synced()
    unrecorded = await restore_volumes(volumes, cluster, operations, driver_name=deps.driver_name)
    secret_controller.load_secret_names()
    await secret_controller.restore_unused()
    secret_controller.enqueue_all()
    if requests is not None:
        requests.check_restored()
    for request in unrecorded:
        try:
            await publisher.refresh(request, rebuilt=True)
        except KeyferryError as error:
            _log.error(
                "restored volume has no pod status and was not refreshed",
                targetPath=request.target_path,
                **error.log_pairs(),
            )


def _publisher(
    deps: EngineDependencies,
    volumes: VolumeTable,
    operations: VolumeOperations,
    events: VolumeEvents,
    secret_controller: SecretController,
    *,
    schedule: RefreshSchedule | None,
    field_reporter: UnknownFieldReporter,
    foreground: Foreground,
) -> Publisher:
    history = PublishHistory(deps.store, node=deps.node, clock=deps.clock)
    deps.store.cluster.subscribe(history.on_cluster_event)
    return Publisher(
        store=deps.store,
        operations=operations,
        providers=deps.providers,
        planner=PublishPlanner(
            operations=operations, history=history, store=deps.store, schedule=schedule
        ),
        delivery=ContentDelivery(
            operations=operations,
            volumes=volumes,
            events=events,
            secret_controller=secret_controller,
            history=history,
            clock=deps.clock,
            jobs=deps.jobs,
            allow_attribute_overrides=deps.allow_attribute_overrides,
            audit_log=deps.audit_log,
        ),
        volumes=volumes,
        events=events,
        field_reporter=field_reporter,
        foreground=foreground,
        metrics=deps.metrics,
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
    deps: EngineDependencies, volumes: VolumeTable, operations: VolumeOperations
) -> SecretController:
    unused = UnusedSecrets(
        deps.clock, grace_period=deps.secret_grace_period, file=deps.unused_secrets_file
    )
    reconciler = SecretReconciler(
        store=deps.store,
        volumes=volumes,
        operations=operations,
        providers=deps.providers,
        garbage_collector=SecretGarbageCollector(deps.store, unused),
        metrics=deps.metrics.secrets,
        jobs=deps.jobs,
        clock=deps.clock,
    )
    return SecretController(
        reconciler,
        volumes=volumes,
        cluster=deps.store.cluster,
        clock=deps.clock,
        unused=unused,
        backoff=deps.backoff,
    )
