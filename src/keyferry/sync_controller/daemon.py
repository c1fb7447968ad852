"""The controller process: builds everything from the settings, serves, and shuts down in order.

Caches of the cluster run in every replica. Providers, their caches and the queue run in the leader.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from msgspec import Struct, field

from keyferry import __version__
from keyferry.aio.clock import SystemClock
from keyferry.aio.tasks import spawn, spawn_until_exit
from keyferry.isolation.child import ChildSupervisor
from keyferry.isolation.parser_pool import ParserPool
from keyferry.isolation.spawner import Role
from keyferry.kubernetes.api.client import open_api
from keyferry.kubernetes.api.config import load_config
from keyferry.kubernetes.api.events import EventRecorder
from keyferry.kubernetes.api.secret_store import SecretStore
from keyferry.kubernetes.api.syncs.cache import SyncCache
from keyferry.kubernetes.api.syncs.leader_election import (
    LeaderElection,
    SoleLeader,
    new_identity,
)
from keyferry.kubernetes.api.syncs.permissions import sync_rbac_remedy
from keyferry.kubernetes.markings import SYNC_FIELD_MANAGER
from keyferry.net.grpc_server import stop_signal
from keyferry.net.http_client import HttpsSettings
from keyferry.net.status_server import serving_status
from keyferry.plugins.children import all_jobs, open_emulator
from keyferry.plugins.providers import Providers
from keyferry.providers.host import ProviderHost, check_names
from keyferry.providers.settings import ProviderDependencies
from keyferry.records import replace
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.metrics import ResilienceMetrics
from keyferry.sync_controller.cluster import SyncCluster, WriteGuard
from keyferry.sync_controller.content import SyncContent
from keyferry.sync_controller.controller import SyncController
from keyferry.sync_controller.reconciler import SyncReconciler
from keyferry.sync_controller.reporter import SyncReporter
from keyferry.sync_controller.tokens import ServiceAccountTokens
from keyferry.telemetry.audit import open_audit_log
from keyferry.telemetry.help_links import HelpLinks
from keyferry.telemetry.logs import get_logger
from keyferry.telemetry.metrics import Metrics, ProviderMetrics
from keyferry.telemetry.sync_metrics import SyncMetrics

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from keyferry.aio.clock import Clock
    from keyferry.aio.jobs import JobRunner
    from keyferry.isolation.spawner import Spawner
    from keyferry.kubernetes.api.client import KubeApi
    from keyferry.kubernetes.api.syncs.leader_election import Leadership
    from keyferry.kubernetes.syncs.changes import SyncEvent
    from keyferry.sync_controller.settings import SyncControllerSettings
    from keyferry.telemetry.audit import AuditLog

DRAIN_SECONDS = 2.0
"""How long the end of the process waits for unwritten events."""

_log = get_logger("daemon")


async def run_sync_controller(settings: SyncControllerSettings, *, spawner: Spawner) -> None:
    """Serve until the first SIGTERM or SIGINT, then finish, and release the Lease.

    Args:
        settings: of the controller.
        spawner: starts the parser.

    Raises:
        PlatformError: this machine does not support a setting.
        StoreError: no Kubernetes API is configured.
    """
    stop = stop_signal()
    check_names(settings.built_in)
    clock, metrics = SystemClock(), Metrics()
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(_open_api(settings))
        recorder = EventRecorder(api, clock=clock, links=HelpLinks(settings.help_url))
        spawn_until_exit(stack, recorder.run(), name="event recorder")
        audit_log = stack.enter_context(open_audit_log(settings.audit, metrics))
        supervisor = ChildSupervisor(spawner, Role.PARSER, metrics, clock)
        jobs = await stack.enter_async_context(ParserPool(supervisor, all_jobs, clock))
        cache = SyncCache(
            api,
            groups=settings.scope.groups,
            namespaces=settings.scope.namespaces,
            watches_service_accounts=settings.tokens.requires_opt_in,
        )
        cache.start()
        stack.push_async_callback(cache.stop)
        leadership = _leadership(settings, api, clock)
        sync_metrics = SyncMetrics(metrics.registry, clock.wall)
        leadership.on_change.append(sync_metrics.leads)
        leader = Leader(
            settings,
            api=api,
            cache=cache,
            recorder=recorder,
            leadership=leadership,
            jobs=jobs,
            metrics=metrics,
            sync_metrics=sync_metrics,
            audit_log=audit_log,
            clock=clock,
        )
        web = await _serve_status_pages(stack, settings, metrics, cache, spawner)
        await _serve_status_page(stack, settings, api, cache, metrics=metrics, clock=clock)
        _log.info("ready", metrics=web, version=__version__, providers=",".join(settings.built_in))
        await _run_until(stop, leadership, leader)
        _log.info("stopping")
        await recorder.drain(DRAIN_SECONDS)


async def _run_until(stop: asyncio.Event, leadership: Leadership, leader: Leader) -> None:
    """Lead or follow until the signal; end earlier only with an internal error."""
    working = asyncio.create_task(leadership.run(leader.work))
    stopping = spawn(_wait(stop), name="stop signal")
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)


async def _wait(stop: asyncio.Event) -> None:
    await stop.wait()


def _open_api(settings: SyncControllerSettings) -> AbstractAsyncContextManager[KubeApi]:
    return open_api(
        load_config(settings.kubeconfig),
        field_manager=SYNC_FIELD_MANAGER,
        rbac_remedy=sync_rbac_remedy,
    )


def _leadership(settings: SyncControllerSettings, api: KubeApi, clock: Clock) -> Leadership:
    if not settings.elects_leader:
        return SoleLeader()
    return LeaderElection(
        api,
        namespace=settings.election_namespace,
        name=settings.lease_name,
        identity=new_identity(settings.pod.name or "keyferry"),
        clock=clock,
    )


async def _serve_status_pages(
    stack: AsyncExitStack,
    settings: SyncControllerSettings,
    metrics: Metrics,
    cache: SyncCache,
    spawner: Spawner,
) -> str:
    """Serve the status pages; return the address of the metrics."""

    async def health() -> str | None:
        return spawner.problem()

    async def readiness() -> str | None:
        return cache.problem()

    await stack.enter_async_context(
        serving_status(
            settings.health_address,
            metrics=None,
            checks={"/healthz": health, "/readyz": readiness},
            flag="--health-probe-bind-address",
        )
    )
    return await stack.enter_async_context(
        serving_status(
            settings.metrics_address,
            metrics=metrics.read,
            checks={},
            flag="--metrics-bind-address",
        )
    )


async def _serve_status_page(
    stack: AsyncExitStack,
    settings: SyncControllerSettings,
    api: KubeApi,
    cache: SyncCache,
    *,
    metrics: Metrics,
    clock: Clock,
) -> None:
    """Serve the status page, if it is enabled."""
    if settings.status_page is None:
        return
    # Only now: most controllers do without the page.
    from keyferry.status_page.server import serving_page
    from keyferry.sync_controller.status_source import ControllerSource

    source = ControllerSource(
        api,
        cache=cache,
        metrics=metrics,
        namespace=settings.pod.namespace,
        pod=settings.pod.name,
        clock=clock,
    )
    await stack.enter_async_context(source)
    port = await stack.enter_async_context(
        serving_page(
            settings.status_page,
            source,
            server=settings.pod.name or "sync-controller",
            clock=clock,
            flag="--status-page-addr",
        )
    )
    _log.info("status page", port=port)


class _Subscription(Struct):
    """Passes the changes of the cluster to the controller while this process leads."""

    handler: Callable[[SyncEvent], None] | None = field(default=None)

    def __call__(self, event: SyncEvent) -> None:
        if self.handler is not None:
            self.handler(event)


class Leader:
    """What only the leader does.

    Args:
        settings: of the controller.
        api: the Kubernetes API.
        cache: the cached objects of the cluster.
        recorder: writes events.
        leadership: permits writes.
        jobs: runs parse jobs.
        metrics: of the process.
        sync_metrics: of SecretSyncs.
        audit_log: records the accesses to vaults.
        clock: the time.
    """

    def __init__(
        self,
        settings: SyncControllerSettings,
        *,
        api: KubeApi,
        cache: SyncCache,
        recorder: EventRecorder,
        leadership: Leadership,
        jobs: JobRunner,
        metrics: Metrics,
        sync_metrics: SyncMetrics,
        audit_log: AuditLog,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._api = api
        self._cache = cache
        self._recorder = recorder
        self._guard = WriteGuard(leadership)
        self._jobs = jobs
        self._sync_metrics = sync_metrics
        self._audit_log = audit_log
        self._clock = clock
        self._provider_metrics = ProviderMetrics(metrics.registry)
        self._resilience_metrics = ResilienceMetrics(metrics.registry)
        self._subscription = _Subscription()
        cache.subscribe(self._subscription)

    async def work(self) -> None:
        """Sync SecretSyncs until cancelled."""
        await self._cache.wait_synced()
        settings = self._settings
        async with self._providers() as providers:
            cluster = SyncCluster(
                self._api,
                cache=self._cache,
                guard=self._guard,
                tokens=settings.tokens,
                node=settings.pod.node,
            )
            tokens = ServiceAccountTokens(cluster, settings.tokens, self._clock)
            content = SyncContent(
                providers=providers,
                tokens=tokens,
                credentials=cluster,
                jobs=self._jobs,
                audit_log=self._audit_log,
                clock=self._clock,
                pod=settings.pod,
            )
            reconciler = SyncReconciler(
                view=self._cache,
                content=content,
                secrets=SecretStore(self._api, self._guard.check),
                reporter=SyncReporter(
                    view=self._cache,
                    statuses=cluster,
                    event_sink=self._recorder,
                    metrics=self._sync_metrics,
                    settings=settings,
                    clock=self._clock,
                ),
                providers=providers,
                jobs=self._jobs,
                metrics=self._sync_metrics,
                settings=settings,
                clock=self._clock,
            )
            controller = SyncController(
                reconciler,
                source=self._cache,
                leases=providers,
                tokens=tokens,
                metrics=self._sync_metrics,
                groups=settings.scope.groups,
                clock=self._clock,
            )
            async with controller.running():
                self._subscription.handler = controller.on_event
                try:
                    await asyncio.Event().wait()
                finally:
                    self._subscription.handler = None

    def _providers(self) -> Providers:
        """Build the providers, with caches of their own for this leadership."""
        settings = self._settings
        emulator = open_emulator(settings.dev_vault) if settings.dev_vault else None
        resilience = replace(
            settings.resilience, refresh_interval=settings.interval, tracks_volumes=True
        )
        deps = ProviderDependencies(
            emulator.https if emulator else HttpsSettings(proxies=settings.proxies),
            settings.provider_settings,
            Fetcher(resilience, metrics=self._resilience_metrics),
            self._jobs,
            self._provider_metrics,
            emulator,
        )
        return Providers(
            built_in=ProviderHost.build(settings.built_in, deps),
            socket_folders=settings.provider_folders,
            max_receive_bytes=settings.max_receive_bytes,
        )
