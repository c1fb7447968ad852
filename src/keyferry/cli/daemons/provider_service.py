"""Serves one built-in provider for `keyferry provider`."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from keyferry.aio.clock import SystemClock
from keyferry.cli.flags.go_flags import warn_ignored
from keyferry.isolation.child import ChildSupervisor
from keyferry.isolation.parser_pool import ParserPool
from keyferry.isolation.spawner import Role, Spawner
from keyferry.net.grpc_server import serving_grpc, stop_signal
from keyferry.net.http_client import HttpsSettings
from keyferry.net.proxies import Proxies
from keyferry.net.sockets import parse_endpoint
from keyferry.net.status_server import serving_status
from keyferry.plugins.children import all_jobs, open_emulator, parser_program
from keyferry.process import prepare_daemon
from keyferry.providers.host import ProviderHost
from keyferry.providers.server import HealthProbe, add_provider
from keyferry.providers.settings import ProviderDependencies
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.metrics import ResilienceMetrics
from keyferry.telemetry.audit import open_audit_log
from keyferry.telemetry.logs import configure_logs, get_logger
from keyferry.telemetry.metrics import Metrics, ProviderMetrics

if TYPE_CHECKING:
    from keyferry.cli.flags.go_flags import ParsedFlags
    from keyferry.cli.flags.provider_commands import ProviderCommand

_log = get_logger("provider")


def serve_provider(name: str, command: ProviderCommand, flags: ParsedFlags) -> None:
    """Serve a provider until a signal arrives.

    Args:
        name: the provider.
        command: its command line.
        flags: the parsed flags.

    Raises:
        PlatformError: a setting cannot be used.
    """
    prepare_daemon()
    # Before the first thread and event loop.
    spawner = Spawner({Role.PARSER: parser_program()})
    try:
        asyncio.run(_run(name, command, flags, spawner=spawner))
    finally:
        spawner.close()


async def _run(
    name: str, command: ProviderCommand, flags: ParsedFlags, *, spawner: Spawner
) -> None:
    configure_logs(as_json=False, verbosity=0)
    options = command.serve_options(flags)
    configure_logs(as_json=options.log_as_json, verbosity=options.verbosity, quiet=options.log_off)
    warn_ignored(flags)
    stop = stop_signal()
    endpoint = parse_endpoint(options.endpoint)
    metrics = Metrics()
    probe = HealthProbe(endpoint.address, options.health_timeout)
    status = serving_status(
        options.status_address,
        metrics=metrics.read,
        checks={options.health_path: probe.problem},
        flag=options.status_address_flag,
    )
    clock = SystemClock()
    parser = ParserPool(ChildSupervisor(spawner, Role.PARSER, metrics, clock), all_jobs, clock)
    dev_vault = Path(options.dev_vault) if options.dev_vault else None
    emulator = open_emulator(dev_vault) if dev_vault else None
    https = HttpsSettings(proxies=Proxies.from_environment(os.environ))
    deps = ProviderDependencies(
        emulator.https if emulator else https,
        options.settings,
        Fetcher(options.resilience, metrics=ResilienceMetrics(metrics.registry)),
        parser,
        ProviderMetrics(metrics.registry),
        emulator,
    )
    with open_audit_log(options.audit, metrics) as audit_log:
        async with parser, ProviderHost.build((name,), deps) as host, probe, status:
            await host.restore()
            add = partial(
                add_provider,
                provider=host.get(name),
                name=name,
                audit_log=audit_log,
                check_fields=partial(host.unknown_fields, name),
            )
            async with serving_grpc(endpoint, add):
                _log.info("ready", provider=name, endpoint=endpoint.address)
                await stop.wait()
                _log.info("stopping: calls in flight finish first; a second signal stops at once")
