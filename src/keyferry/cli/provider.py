"""`keyferry provider NAME`: one built-in provider on a socket, for clusters with another driver."""

from __future__ import annotations

import asyncio
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keyferry.aio.clock import SystemClock
from keyferry.cli.commands import FlagCommand
from keyferry.cli.console import console
from keyferry.cli.exit_codes import ExitCode
from keyferry.cli.flags.go_flags import (
    FlagError,
    ParsedFlags,
    completions,
    help_text,
    parse_flags,
    warn_ignored,
)
from keyferry.cli.provider_commands import ProviderCommand, provider_command
from keyferry.driver.children import all_jobs, open_emulator, parser_program
from keyferry.isolation.child import ChildSupervisor
from keyferry.isolation.parser_pool import ParserPool
from keyferry.isolation.spawner import Role, Spawner
from keyferry.net.grpc_server import serving_grpc, stop_signal
from keyferry.net.http_client import HttpsSettings
from keyferry.net.proxies import Proxies
from keyferry.net.sockets import parse_endpoint
from keyferry.net.status_server import serving_status
from keyferry.process import protect_memory, raise_descriptor_limit, return_freed_memory
from keyferry.providers.host import ProviderHost
from keyferry.providers.registry import provider_names
from keyferry.providers.server import HealthProbe, add_provider
from keyferry.providers.settings import ProviderDependencies
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.metrics import ResilienceMetrics
from keyferry.telemetry.audit import open_audit_log
from keyferry.telemetry.logs import configure_logs, get_logger
from keyferry.telemetry.metrics import Metrics, ProviderMetrics

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = get_logger("provider")

_HELP = f"""\
Usage: keyferry provider NAME [flags]

Serve one built-in provider on a socket, for the upstream driver.

NAME is one of: {", ".join(provider_names())}.
`keyferry provider NAME --help` lists the flags.

Examples:
  keyferry provider azure --endpoint=unix:///provider/azure.sock
"""


def _flags_after(words: Sequence[str]) -> list[tuple[str, str]]:
    known = [word for word in words if word in provider_names()]
    return completions(provider_command(known[0]).flags) if known else []


def _complete_name(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    chosen = ctx.params.get(str(param.name)) or ()
    return [] if chosen else [name for name in provider_names() if name.startswith(incomplete)]


@click.command(
    cls=FlagCommand,
    flags=_flags_after,
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, shell_complete=_complete_name)
def provider(arguments: tuple[str, ...]) -> None:
    """Serve one built-in provider on a socket, for the upstream driver."""
    name, *rest = arguments or ("",)
    if name in {"", "-h", "--help"}:
        click.echo(_HELP, err=not name)
        sys.exit(ExitCode.DONE if name else ExitCode.INVALID)
    if name not in provider_names():
        console().error(
            f"there is no built-in provider {name!r}",
            f"Choose from: {', '.join(provider_names())}.",
        )
        sys.exit(ExitCode.INVALID)
    command = provider_command(name)
    try:
        parsed = parse_flags(rest, command.flags)
    except FlagError as error:
        console().error(str(error), f"Run 'keyferry provider {name} --help' for the flags.")
        sys.exit(ExitCode.INVALID)
    if parsed.wants_help:
        click.echo(f"Usage: keyferry provider {name} [flags]\n\n{help_text(command.flags)}")
    elif parsed.values["version"]:
        print(command.version(parsed))
    else:
        protect_memory()
        raise_descriptor_limit()
        return_freed_memory()
        # Before the first thread and event loop.
        spawner = Spawner({Role.PARSER: parser_program()})
        try:
            asyncio.run(_run(name, command, parsed, spawner=spawner))
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
