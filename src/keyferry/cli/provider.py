"""`keyferry provider NAME`: one built-in provider on a socket, for clusters with another driver."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import click

from keyferry import __version__
from keyferry.cli.economy_flags import ECONOMY_FLAGS, economy_settings
from keyferry.cli.goflags import (
    FlagError,
    Flags,
    GoFlag,
    Kind,
    help_text,
    parse_flags,
    warn_ignored,
)
from keyferry.cli.provider_flags import PROVIDER_FLAGS, provider_settings
from keyferry.driver.daemon import open_plugins, vault_connections
from keyferry.economy.hub import Economy
from keyferry.economy.metrics import EconomyMetrics
from keyferry.errors import Hop, PlatformError
from keyferry.grpc_edge import serving_grpc, stop_signal
from keyferry.logs import configure_logs, get_logger
from keyferry.metrics import Metrics
from keyferry.provider_server import HealthProbe, add_provider
from keyferry.providers import provider_names
from keyferry.sockets import parse_endpoint
from keyferry.web import serving_web

_log = get_logger("provider")
_KLOG = "the log goes to standard error, in one place and one format"
_B, _I, _S, _D = Kind.BOOL, Kind.INT, Kind.STRING, Kind.DURATION


def flags_of(name: str) -> tuple[GoFlag, ...]:
    """The flags of the provider `name`: those of upstream's (azure.md, section 6.1) and ours."""
    return (
        GoFlag("endpoint", _S, f"unix:///tmp/{name}.sock", "where the provider is served"),
        GoFlag("healthz-port", _I, "8989", "port of the health page, on all interfaces"),
        GoFlag("healthz-path", _S, "/healthz", "its path"),
        GoFlag("healthz-timeout", _D, "5s", "how long the provider may take to answer it"),
        GoFlag("log-format-json", _B, "false", "log JSON instead of text"),
        GoFlag("v", _I, "0", "verbosity of the log; 2 shows the details of each call"),
        GoFlag("dev-vault", _S, "", "DEVELOPMENT: data folder of a running `keyferry devvault`"),
        GoFlag("version", _B, "false", "print the version as JSON and exit"),
        GoFlag("prometheus-port", _I, "8898", "", "the metrics are on the port of the health page"),
        GoFlag("metrics-backend", _S, "Prometheus", "", "Prometheus is the only one"),
        *PROVIDER_FLAGS,
        *ECONOMY_FLAGS,
        GoFlag("custom-user-agent", _S, "", "", "upstream does not send it either"),
        GoFlag("enable-pprof", _B, "false", "", "pprof profiles Go programs; use py-spy"),
        GoFlag("pprof-port", _I, "6060", "", "pprof profiles Go programs; use py-spy"),
        GoFlag("logtostderr", _B, "true", "", _KLOG),
    )


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def provider(arguments: tuple[str, ...]) -> None:
    """Serve one built-in provider on its socket (for the upstream driver)."""
    name, *rest = arguments or ("--help",)
    if name in ("-h", "--help") or name not in provider_names():
        click.echo(
            "Usage: keyferry provider NAME [flags]\n\n"
            f"NAME is one of: {', '.join(provider_names())}.",
            err=name not in ("-h", "--help"),
        )
        sys.exit(0 if name in ("-h", "--help") else 2)
    table = flags_of(name)
    try:
        given = parse_flags(rest, table)
    except FlagError as error:
        click.echo(
            f"keyferry provider {name}: {error}\nSee: keyferry provider {name} --help", err=True
        )
        sys.exit(2)
    if given.wants_help:
        click.echo(f"Usage: keyferry provider {name} [flags]\n\n{help_text(table)}")
    elif given.values["version"]:
        print(json.dumps({"version": f"v{__version__}", "buildDate": ""}))
    else:
        asyncio.run(_run(name, given))


async def _run(name: str, flags: Flags) -> None:
    values = flags.values
    configure_logs(as_json=bool(values["log-format-json"]), verbosity=int(values["v"]))
    warn_ignored(flags)
    if str(values["metrics-backend"]).lower() != "prometheus":
        raise PlatformError(
            f"unsupported metrics backend {values['metrics-backend']!r}",
            "Leave --metrics-backend out.",
            hop=Hop.REQUEST,
        )
    stop = stop_signal()
    dev_vault = Path(str(values["dev-vault"])) if values["dev-vault"] else None
    endpoint = parse_endpoint(str(values["endpoint"]))
    metrics = Metrics()
    probe = HealthProbe(endpoint.address, float(values["healthz-timeout"]))
    web = serving_web(
        f":{values['healthz-port']}",
        metrics=metrics,
        checks={str(values["healthz-path"]): probe.problem},
        flag="--healthz-port",
    )
    opened = open_plugins(
        (name,),
        https=vault_connections(dev_vault),
        settings=provider_settings(flags.values),
        economy=Economy(economy_settings(flags), metrics=EconomyMetrics(metrics.registry)),
    )
    async with opened as plugins, probe, web:
        plugin = plugins.find(name)
        async with serving_grpc(endpoint, lambda server: add_provider(server, plugin.provider)):
            _log.info("ready", provider=name, endpoint=endpoint.address)
            await stop.wait()
            _log.info("stopping: calls in flight finish first; a second signal stops at once")
