"""Where the built-in providers and the parse jobs of the driver run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.aio.jobs import ThreadJobRunner
from keyferry.driver.children import provider_resilience
from keyferry.driver.settings import Isolation
from keyferry.isolation.child import ChildSupervisor
from keyferry.isolation.isolated_providers import IsolatedProviders
from keyferry.isolation.parser_pool import ParserPool
from keyferry.isolation.spawner import Role
from keyferry.plugins.children import all_jobs
from keyferry.providers.host import ProviderHost, check_names
from keyferry.providers.registry import PROVIDERS
from keyferry.providers.settings import ProviderDependencies
from keyferry.records import replace
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.metrics import ResilienceMetrics
from keyferry.telemetry.metrics import ProviderMetrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry.aio.clock import Clock
    from keyferry.aio.jobs import JobRunner
    from keyferry.driver.settings import DriverSettings
    from keyferry.isolation.provider_worker import WorkerSettings
    from keyferry.isolation.spawner import Spawner
    from keyferry.net.status_server import MetricsPage
    from keyferry.providers.host import BuiltInProviders
    from keyferry.telemetry.metrics import Metrics


class BuiltIn(Struct, frozen=True):
    """What the driver uses.

    Attributes:
        providers: the built-in providers.
        jobs: runs parse jobs.
        metrics: returns the series of the driver and of the providers.
        isolation: where they run.
        problem: returns why the process must be restarted, or None.
    """

    providers: BuiltInProviders
    jobs: JobRunner
    metrics: MetricsPage
    isolation: Isolation
    problem: Callable[[], str | None]


def build_built_in(
    settings: DriverSettings,
    worker: WorkerSettings,
    metrics: Metrics,
    *,
    spawner: Spawner | None,
    clock: Clock,
) -> BuiltIn:
    """Build the built-in providers.

    Args:
        settings: of the driver.
        worker: of the providers.
        metrics: of the driver.
        spawner: starts child processes; None to run everything in this process.
        clock: the time.

    Raises:
        PlatformError: a name or a setting of a provider is invalid.
    """
    check_names(settings.built_in)
    if spawner is None:
        return _in_process(settings, worker, metrics)
    return _isolated(settings, worker, metrics, spawner=spawner, clock=clock)


def _in_process(settings: DriverSettings, worker: WorkerSettings, metrics: Metrics) -> BuiltIn:
    """Run providers and parse jobs in this process."""
    jobs = ThreadJobRunner()
    fetcher = Fetcher(provider_resilience(settings), metrics=ResilienceMetrics(metrics.registry))
    deps = ProviderDependencies(
        worker.https,
        worker.settings,
        fetcher,
        jobs,
        ProviderMetrics(metrics.registry),
        worker.emulator,
    )
    return BuiltIn(
        ProviderHost.build(settings.built_in, deps),
        jobs,
        metrics.read,
        Isolation.NONE,
        lambda: None,
    )


def _isolated(
    settings: DriverSettings,
    worker: WorkerSettings,
    metrics: Metrics,
    *,
    spawner: Spawner,
    clock: Clock,
) -> BuiltIn:
    """Run providers and parse jobs in child processes."""
    parser = ParserPool(ChildSupervisor(spawner, Role.PARSER, metrics, clock), all_jobs, clock)
    # For the Kubernetes API, which the privileged side calls.
    deps = ProviderDependencies(
        worker.https,
        worker.settings,
        Fetcher(replace(settings.resilience, cache_ttl=0.0)),
        parser,
        emulator=worker.emulator,
    )
    providers = IsolatedProviders(
        frozenset(settings.built_in),
        supervisor=ChildSupervisor(spawner, Role.PROVIDERS, metrics, clock),
        privileges={
            row.name: row.build_privileges(deps)
            for row in PROVIDERS
            if row.name in settings.built_in
        },
        parser=parser,
    )

    async def read_metrics() -> bytes:
        return metrics.exposition() + await providers.exposition()

    return BuiltIn(providers, parser, read_metrics, Isolation.PROCESS, spawner.problem)
