"""How `keyferry provider NAME` is told what to do: the flags of each original, what they mean."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry import __version__
from keyferry.cli.flags.go_flags import FlagKind, GoFlag
from keyferry.cli.flags.providers import AZURE_FLAGS, azure_settings
from keyferry.cli.flags.resilience import RESILIENCE_FLAGS, resilience_settings
from keyferry.cli.flags.vault import (
    LEASE_DIR_FLAG,
    hmac_flag,
    vault_flags,
    vault_settings,
    warn_ignored_variables,
)
from keyferry.errors import PlatformError, Stage
from keyferry.net.sockets import parse_endpoint
from keyferry.providers.settings import ProviderSettings
from keyferry.providers.vault.product import OPENBAO, VAULT

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry.cli.flags.go_flags import ParsedFlags
    from keyferry.providers.vault.product import Product
    from keyferry.resilience.settings import ResilienceSettings

_KLOG_IGNORED = "the log goes to standard error, in one place and one format"
_BOOL, _INT, _STRING, _DURATION = FlagKind.BOOL, FlagKind.INT, FlagKind.STRING, FlagKind.DURATION
_MIN_DRIVER_VERSION = "v0.0.21"


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """How one provider is served.

    Attributes:
        endpoint: of gRPC.
        status_address: the address of the health page and of the metrics.
        status_address_flag: the flag that it comes from.
        health_path: of the health page.
        health_timeout: seconds that the provider may take to answer it.
        settings: of the provider.
        resilience: how vaults are spared.
        log_as_json: whether the log is JSON.
        verbosity: of the log.
        log_off: whether nothing is logged.
        dev_vault: the data folder of a development vault, "" for none.
    """

    endpoint: str
    status_address: str
    status_address_flag: str
    health_path: str
    settings: ProviderSettings
    resilience: ResilienceSettings
    health_timeout: float = 5.0
    log_as_json: bool = False
    verbosity: int = 0
    log_off: bool = False
    dev_vault: str = ""


@dataclass(frozen=True, slots=True)
class ProviderCommand:
    """The command line of one original.

    Attributes:
        flags: that it takes.
        version: what `--version` prints.
        serve_options: what the flags ask for; may raise a PlatformError.
    """

    flags: tuple[GoFlag, ...]
    version: Callable[[ParsedFlags], str]
    serve_options: Callable[[ParsedFlags], ServeOptions]


def provider_command(name: str) -> ProviderCommand:
    """The command line of the provider `name`, one of the table."""
    match name:
        case "azure":
            return ProviderCommand(_azure_flags(), _azure_version, _azure_serve_options)
        case "vault":
            return _vault_command(VAULT)
        case "openbao":
            return _vault_command(OPENBAO)
        case _:
            raise KeyError(name)


# --- Azure (docs/reference/upstream-azure-provider.md#flags) ---


def _azure_flags() -> tuple[GoFlag, ...]:
    return (
        GoFlag("endpoint", _STRING, "unix:///tmp/azure.sock", "where the provider is served"),
        GoFlag("healthz-port", _INT, "8989", "port of the health page, on all interfaces"),
        GoFlag("healthz-path", _STRING, "/healthz", "its path"),
        GoFlag("healthz-timeout", _DURATION, "5s", "how long the provider may take to answer it"),
        GoFlag("log-format-json", _BOOL, "false", "log JSON instead of text"),
        GoFlag("v", _INT, "0", "verbosity of the log; 2 shows the details of each call"),
        GoFlag(
            "dev-vault", _STRING, "", "DEVELOPMENT: data folder of a running `keyferry devvault`"
        ),
        GoFlag("version", _BOOL, "false", "print the version as JSON and exit"),
        GoFlag(
            "prometheus-port", _INT, "8898", "", "the metrics are on the port of the health page"
        ),
        GoFlag("metrics-backend", _STRING, "Prometheus", "", "Prometheus is the only one"),
        *AZURE_FLAGS,
        *RESILIENCE_FLAGS,
        GoFlag("custom-user-agent", _STRING, "", "", "upstream does not send it either"),
        GoFlag("enable-pprof", _BOOL, "false", "", "pprof profiles Go programs; use py-spy"),
        GoFlag("pprof-port", _INT, "6060", "", "pprof profiles Go programs; use py-spy"),
        GoFlag("logtostderr", _BOOL, "true", "", _KLOG_IGNORED),
    )


def _azure_version(_: ParsedFlags) -> str:
    return json.dumps({"version": f"v{__version__}", "buildDate": ""})


def _azure_serve_options(flags: ParsedFlags) -> ServeOptions:
    values = flags.values
    if str(values["metrics-backend"]).lower() != "prometheus":
        raise PlatformError(
            f"unsupported metrics backend {values['metrics-backend']!r}",
            "Leave --metrics-backend out.",
            stage=Stage.REQUEST,
        )
    return ServeOptions(
        endpoint=str(values["endpoint"]),
        status_address=f":{values['healthz-port']}",
        status_address_flag="--healthz-port",
        health_path=str(values["healthz-path"]),
        settings=azure_settings(values),
        resilience=resilience_settings(flags),
        health_timeout=float(values["healthz-timeout"]),
        log_as_json=bool(values["log-format-json"]),
        verbosity=int(values["v"]),
        dev_vault=str(values["dev-vault"]),
    )


# --- Vault and OpenBao (docs/reference/upstream-vault-provider.md#flags) ---


def _vault_command(product: Product) -> ProviderCommand:
    def service(flags: ParsedFlags) -> ServeOptions:
        return _vault_serve_options(product, flags)

    def version(flags: ParsedFlags) -> str:
        return _version_text(product, str(flags.values["output"]))

    return ProviderCommand(_vault_command_flags(product), version, service)


def _vault_command_flags(product: Product) -> tuple[GoFlag, ...]:
    name = product.name
    return (
        GoFlag("endpoint", _STRING, f"/tmp/{name}.sock", "path of the socket it is served on"),  # noqa: S108
        GoFlag("health-addr", _STRING, ":8080", "address of /health/ready and of /metrics"),
        GoFlag("log-level", _STRING, "info", "trace, debug, info, warn, error or off"),
        GoFlag("debug", _BOOL, "false", "log the details of each call, as --log-level=debug does"),
        GoFlag("cache-size", _INT, "1000", "so many logins are kept; 0: every mount logs in"),
        *vault_flags(product, creates_tokens=True),
        hmac_flag(product),
        *RESILIENCE_FLAGS,
        LEASE_DIR_FLAG,
        GoFlag("version", _BOOL, "false", "print the version and exit"),
        GoFlag("output", _STRING, "json", "of --version: json, json-pretty or yaml"),
    )


_LEASE_IDLE_SECONDS = 600.0
"""Five polls of the driver, at its own default."""
_VERBOSITY = {"trace": 4, "debug": 2}


def _vault_serve_options(product: Product, flags: ParsedFlags) -> ServeOptions:
    values = flags.values
    level = str(values["log-level"]).lower()
    verbosity = _VERBOSITY.get(level, 2 if values["debug"] else 0)
    endpoint = str(values["endpoint"])
    if "://" not in endpoint:
        endpoint = f"unix://{os.path.abspath(endpoint)}"  # noqa: PTH100 - resolve() would follow a link there
    socket = parse_endpoint(endpoint).socket
    warn_ignored_variables(os.environ, product)
    settings = vault_settings(
        product,
        os.environ,
        values,
        lease_idle=_LEASE_IDLE_SECONDS,
        hmac_key_folder=socket.parent if socket else None,
    )
    return ServeOptions(
        endpoint=endpoint,
        status_address=str(values["health-addr"]),
        status_address_flag="--health-addr",
        health_path="/health/ready",
        settings=(
            ProviderSettings(vault=settings)
            if product is VAULT
            else ProviderSettings(openbao=settings)
        ),
        resilience=resilience_settings(flags),
        verbosity=verbosity,
        log_off=level == "off",
    )


def _version_text(product: Product, output: str) -> str:
    if product is OPENBAO:
        keys = {"version": f"v{__version__}", "buildDate": "", "goVersion": ""}
        return json.dumps({**keys, "minDriverVersion": _MIN_DRIVER_VERSION})
    major, minor, patch = __version__.split(".")[:3]
    found = {
        "major": major,
        "minor": minor,
        "patch": patch,
        "gitVersion": f"v{__version__}",
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "",
        "goVersion": "",
        "compiler": platform.python_implementation(),
        "platform": f"linux/{platform.machine()}",
        "minDriverVersion": _MIN_DRIVER_VERSION,
    }
    match output:
        case "json":
            return json.dumps(found, separators=(",", ":"))
        case "json-pretty":
            return json.dumps(found, indent=2)
        case "yaml":
            return "\n".join(f"{key}: {json.dumps(value)}" for key, value in found.items())
        case _:
            raise PlatformError(
                f"--output is {output!r}", "Write json, json-pretty or yaml.", stage=Stage.REQUEST
            )
