"""Builds everything that the node daemon runs from the settings, and connects it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, assert_never

from msgspec import Struct

from keyferry import __version__
from keyferry.aio.clock import SystemClock
from keyferry.aio.tasks import spawn_until_exit
from keyferry.driver.built_in import build_built_in
from keyferry.driver.children import worker_settings
from keyferry.driver.engine import EngineDependencies, running_engine
from keyferry.driver.readiness import Readiness
from keyferry.driver.registration import Registration, serving_registration
from keyferry.driver.settings import DEFAULT_MAX_RECEIVE_BYTES, DriverSettings, VolumeKind
from keyferry.driver.status.expiry_monitor import ExpiryMonitor
from keyferry.driver.volumes.mounter import DirectoryMounter, TmpfsMounter
from keyferry.errors import PlatformError, Stage, StoreError
from keyferry.kubernetes.files.store import ManifestsStore
from keyferry.net.connector import load_system_tls_soon
from keyferry.net.sockets import parse_endpoint
from keyferry.net.status_server import serving_status
from keyferry.plugins.providers import Providers
from keyferry.process import can_mount
from keyferry.records import replace
from keyferry.telemetry.audit import open_audit_log
from keyferry.telemetry.help_links import HelpLinks
from keyferry.telemetry.logs import get_logger
from keyferry.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from keyferry.aio.clock import Clock
    from keyferry.aio.jobs import JobRunner
    from keyferry.driver.publish.publisher import Publisher
    from keyferry.driver.volumes.mounter import Mounter
    from keyferry.isolation.provider_worker import WorkerSettings
    from keyferry.isolation.spawner import Spawner
    from keyferry.kubernetes import ObjectStore
    from keyferry.net.status_server import MetricsPage

TAINT_CHECK_SECONDS = 0.5
"""Seconds between two checks whether the startup taint can be removed."""

_log = get_logger("daemon")


class RunningNode(Struct, frozen=True):
    """What the daemon serves.

    Attributes:
        publisher: publishes and unpublishes volumes.
        registering: registers the driver with kubelet, and removes the startup taint, while its
            block runs. Enter it once volumes can be published.
    """

    publisher: Publisher
    registering: Callable[[], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def running_node(
    settings: DriverSettings, *, worker: WorkerSettings | None, spawner: Spawner | None
) -> AsyncIterator[RunningNode]:
    """Build everything from the settings, and run it while the block runs; see `run_driver`.

    Raises:
        PlatformError: this machine does not support a setting.
    """
    endpoint = parse_endpoint(settings.endpoint)
    metrics, clock = Metrics(), SystemClock()
    worker = worker or worker_settings(settings)
    built_in = build_built_in(settings, worker, metrics, spawner=spawner, clock=clock)
    if spawner is None and worker.emulator is None:
        load_system_tls_soon()
    async with AsyncExitStack() as stack:
        plugins = await stack.enter_async_context(
            Providers(
                built_in=built_in.providers,
                socket_folders=settings.provider_folders,
                max_receive_bytes=settings.max_receive_bytes,
            )
        )
        store = await stack.enter_async_context(_open_store(settings, clock))
        audit_log = stack.enter_context(open_audit_log(settings.audit, metrics))
        parts = _engine_dependencies(settings, store, plugins, metrics, clock, jobs=built_in.jobs)
        engine = await stack.enter_async_context(
            running_engine(replace(parts, audit_log=audit_log))
        )
        if settings.health_interval is not None:
            checking = _run_health_checks(plugins, settings.health_interval)
            spawn_until_exit(stack, checking, name="provider health")
        registration = _registration(settings, metrics)
        readiness = Readiness(
            endpoint.address,
            engine.operations,
            (store.problem, *((lambda: registration.problem,) if registration else ())),
            fatal=built_in.problem,
        )
        stack.push_async_callback(readiness.close)
        web = await _serve_status_pages(stack, settings, built_in.metrics, readiness)

        @asynccontextmanager
        async def registering() -> AsyncIterator[None]:
            async with AsyncExitStack() as inner:
                if registration is not None:
                    await inner.enter_async_context(serving_registration(registration))
                if settings.startup_taint:
                    removing = _remove_taint(settings, store, readiness)
                    spawn_until_exit(inner, removing, name="remove taint")
                _log.info(
                    "ready",
                    endpoint=endpoint.address,
                    metrics=web,
                    node=settings.node_id,
                    version=__version__,
                    isolation=built_in.isolation.value,
                )
                yield

        yield RunningNode(engine.publisher, registering)


def _engine_dependencies(
    settings: DriverSettings,
    store: ObjectStore,
    providers: Providers,
    metrics: Metrics,
    clock: Clock,
    *,
    jobs: JobRunner,
) -> EngineDependencies:
    return EngineDependencies(
        store=store,
        mounter=choose_mounter(settings.volume_kind, settings.max_receive_bytes),
        providers=providers,
        jobs=jobs,
        metrics=metrics,
        expiry_monitor=ExpiryMonitor(store, metrics, clock=clock),
        clock=clock,
        node=settings.node_id,
        rotation_interval=settings.rotation_interval,
        driver_name=settings.driver_name,
        allow_attribute_overrides=settings.allow_attribute_overrides,
        # Without a cluster nothing outlives a pod that could use its Secrets again.
        secret_grace_period=0.0 if settings.manifests else settings.secret_grace_period,
        unused_secrets_file=None if settings.manifests else settings.unused_secrets_file,
    )


def _registration(settings: DriverSettings, metrics: Metrics) -> Registration | None:
    """Build the registration with kubelet; None when a sidecar registers the driver."""
    if settings.registration_folder is None:
        return None
    own = parse_endpoint(settings.endpoint).socket
    return Registration(
        settings.registration_folder,
        driver_name=settings.driver_name,
        csi_socket=settings.kubelet_registration_path or str(own or ""),
        metrics=metrics,
    )


async def _serve_status_pages(
    stack: AsyncExitStack, settings: DriverSettings, metrics: MetricsPage, readiness: Readiness
) -> str:
    """Serve the status pages; return the address of the metrics."""
    checks = {"/healthz": readiness.health, "/readyz": readiness.readiness}
    if settings.health_address:
        await stack.enter_async_context(
            serving_status(
                settings.health_address, metrics=None, checks=checks, flag="--health-addr"
            )
        )
    return await stack.enter_async_context(
        serving_status(
            settings.metrics_address, metrics=metrics, checks=checks, flag="--metrics-addr"
        )
    )


async def _remove_taint(settings: DriverSettings, store: ObjectStore, readiness: Readiness) -> None:
    """Remove the startup taint as soon as pods can be served; retry until it succeeds."""
    while problem := await readiness.readiness():
        _log.debug("startup taint not removed: driver is not ready", problem=problem)
        await asyncio.sleep(TAINT_CHECK_SECONDS)
    while True:
        try:
            if await store.remove_taint(settings.node_id, settings.startup_taint):
                _log.info("startup taint removed", taint=settings.startup_taint)
        except StoreError as error:
            _log.error("failed to remove the startup taint", error=str(error))
            await asyncio.sleep(TAINT_CHECK_SECONDS)
        else:
            return


def choose_mounter(kind: VolumeKind, max_bytes: int = DEFAULT_MAX_RECEIVE_BYTES) -> Mounter:
    """Return the mounter of that kind.

    Args:
        kind: tmpfs or folder.
        max_bytes: the maximum size of the files of a volume.

    Raises:
        PlatformError: this process may not mount a tmpfs.
    """
    match kind:
        case VolumeKind.TMPFS:
            if not can_mount():
                raise PlatformError(
                    "this process may not mount a tmpfs (CAP_SYS_ADMIN is missing)",
                    "Run it as root, on a node in a privileged container;"
                    " without root, for development only, use --volumes=folder --isolation=none.",
                    stage=Stage.VOLUME,
                )
            return TmpfsMounter(max_bytes)
        case VolumeKind.FOLDER:
            _log.warning("volumes are private folders on disk, not tmpfs: for development only")
            return DirectoryMounter()
        case _:
            assert_never(kind)


@asynccontextmanager
async def _open_store(settings: DriverSettings, clock: Clock) -> AsyncIterator[ObjectStore]:
    """Open the manifests store if a folder is set, else the Kubernetes API."""
    links = HelpLinks(settings.help_url)
    if settings.manifests is not None:
        yield ManifestsStore(settings.manifests, settings.manifests, clock=clock, links=links)
        return
    # Imported on use: the client library takes 20 MiB, which the manifests store does not need.
    from keyferry.kubernetes.api.store import open_kube_store

    async with open_kube_store(
        settings.kubeconfig,
        node=settings.node_id,
        driver_name=settings.driver_name,
        clock=clock,
        links=links,
    ) as store:
        yield store


async def _run_health_checks(providers: Providers, interval: float) -> None:
    while True:
        await asyncio.sleep(interval)
        await providers.check_health()
