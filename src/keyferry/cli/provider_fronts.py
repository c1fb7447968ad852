"""How `keyferry provider NAME` is told what to do: the flags of each original, what they mean."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry import __version__
from keyferry.cli.economy_flags import ECONOMY_FLAGS, economy_settings
from keyferry.cli.goflags import GoFlag, Kind
from keyferry.cli.provider_flags import AZURE_FLAGS, azure_settings
from keyferry.cli.vault_flags import (
    LEASE_FLAG,
    hmac_flag,
    vault_flags,
    vault_settings,
    warn_ignored_variables,
)
from keyferry.errors import Hop, PlatformError
from keyferry.provider_settings import ProviderSettings
from keyferry.sockets import parse_endpoint
from keyferry.vault.product import OPENBAO, VAULT

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry.cli.goflags import Flags
    from keyferry.economy.settings import EconomySettings
    from keyferry.vault.product import Product

_KLOG = "the log goes to standard error, in one place and one format"
_B, _I, _S, _D = Kind.BOOL, Kind.INT, Kind.STRING, Kind.DURATION
_MIN_DRIVER = "v0.0.21"


@dataclass(frozen=True, slots=True)
class Service:
    """How one provider is served.

    Attributes:
        endpoint: of gRPC.
        pages: the address of the health page and of the metrics.
        pages_flag: the flag that it comes from.
        health_path: of the health page.
        health_timeout: seconds that the provider may take to answer it.
        settings: of the provider.
        economy: how vaults are spared.
        as_json: whether the log is JSON.
        verbosity: of the log.
        quiet: whether nothing is logged.
        dev_vault: the data folder of a development vault, "" for none.
    """

    endpoint: str
    pages: str
    pages_flag: str
    health_path: str
    settings: ProviderSettings
    economy: EconomySettings
    health_timeout: float = 5.0
    as_json: bool = False
    verbosity: int = 0
    quiet: bool = False
    dev_vault: str = ""


@dataclass(frozen=True, slots=True)
class Front:
    """The command line of one original.

    Attributes:
        flags: that it takes.
        version: what `--version` prints.
        service: what the flags ask for; may raise a PlatformError.
    """

    flags: tuple[GoFlag, ...]
    version: Callable[[Flags], str]
    service: Callable[[Flags], Service]


def front_of(name: str) -> Front:
    """The command line of the provider `name`, one of the table."""
    match name:
        case "azure":
            return Front(_azure_flags(), _azure_version, _azure_service)
        case "vault":
            return _vault_front(VAULT)
        case "openbao":
            return _vault_front(OPENBAO)
        case _:
            raise KeyError(name)


# --- Azure (azure.md, section 6.1) ---


def _azure_flags() -> tuple[GoFlag, ...]:
    return (
        GoFlag("endpoint", _S, "unix:///tmp/azure.sock", "where the provider is served"),
        GoFlag("healthz-port", _I, "8989", "port of the health page, on all interfaces"),
        GoFlag("healthz-path", _S, "/healthz", "its path"),
        GoFlag("healthz-timeout", _D, "5s", "how long the provider may take to answer it"),
        GoFlag("log-format-json", _B, "false", "log JSON instead of text"),
        GoFlag("v", _I, "0", "verbosity of the log; 2 shows the details of each call"),
        GoFlag("dev-vault", _S, "", "DEVELOPMENT: data folder of a running `keyferry devvault`"),
        GoFlag("version", _B, "false", "print the version as JSON and exit"),
        GoFlag("prometheus-port", _I, "8898", "", "the metrics are on the port of the health page"),
        GoFlag("metrics-backend", _S, "Prometheus", "", "Prometheus is the only one"),
        *AZURE_FLAGS,
        *ECONOMY_FLAGS,
        GoFlag("custom-user-agent", _S, "", "", "upstream does not send it either"),
        GoFlag("enable-pprof", _B, "false", "", "pprof profiles Go programs; use py-spy"),
        GoFlag("pprof-port", _I, "6060", "", "pprof profiles Go programs; use py-spy"),
        GoFlag("logtostderr", _B, "true", "", _KLOG),
    )


def _azure_version(_: Flags) -> str:
    return json.dumps({"version": f"v{__version__}", "buildDate": ""})


def _azure_service(flags: Flags) -> Service:
    values = flags.values
    if str(values["metrics-backend"]).lower() != "prometheus":
        raise PlatformError(
            f"unsupported metrics backend {values['metrics-backend']!r}",
            "Leave --metrics-backend out.",
            hop=Hop.REQUEST,
        )
    return Service(
        endpoint=str(values["endpoint"]),
        pages=f":{values['healthz-port']}",
        pages_flag="--healthz-port",
        health_path=str(values["healthz-path"]),
        settings=azure_settings(values),
        economy=economy_settings(flags),
        health_timeout=float(values["healthz-timeout"]),
        as_json=bool(values["log-format-json"]),
        verbosity=int(values["v"]),
        dev_vault=str(values["dev-vault"]),
    )


# --- Vault and OpenBao (vault.md, sections 1.2 and 3) ---


def _vault_front(product: Product) -> Front:
    def service(flags: Flags) -> Service:
        return _vault_service(product, flags)

    def version(flags: Flags) -> str:
        return _version_text(product, str(flags.values["output"]))

    return Front(_vault_table(product), version, service)


def _vault_table(product: Product) -> tuple[GoFlag, ...]:
    name = product.name
    return (
        GoFlag("endpoint", _S, f"/tmp/{name}.sock", "path of the socket it is served on"),  # noqa: S108
        GoFlag("health-addr", _S, ":8080", "address of /health/ready and of /metrics"),
        GoFlag("log-level", _S, "info", "trace, debug, info, warn, error or off"),
        GoFlag("debug", _B, "false", "log the details of each call, as --log-level=debug does"),
        GoFlag("cache-size", _I, "1000", "so many logins are kept; 0: every mount logs in"),
        *vault_flags(product, creates_tokens=True),
        hmac_flag(product),
        *ECONOMY_FLAGS,
        LEASE_FLAG,
        GoFlag("version", _B, "false", "print the version and exit"),
        GoFlag("output", _S, "json", "of --version: json, json-pretty or yaml"),
    )


_LEASE_IDLE_SECONDS = 600.0
"""Five polls of the driver, at its own default."""
_VERBOSITY = {"trace": 4, "debug": 2}


def _vault_service(product: Product, flags: Flags) -> Service:
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
        key_folder=socket.parent if socket else None,
    )
    return Service(
        endpoint=endpoint,
        pages=str(values["health-addr"]),
        pages_flag="--health-addr",
        health_path="/health/ready",
        settings=(
            ProviderSettings(vault=settings)
            if product is VAULT
            else ProviderSettings(openbao=settings)
        ),
        economy=economy_settings(flags),
        verbosity=verbosity,
        quiet=level == "off",
    )


def _version_text(product: Product, output: str) -> str:
    if product is OPENBAO:
        keys = {"version": f"v{__version__}", "buildDate": "", "goVersion": ""}
        return json.dumps({**keys, "minDriverVersion": _MIN_DRIVER})
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
        "minDriverVersion": _MIN_DRIVER,
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
                f"--output is {output!r}", "Write json, json-pretty or yaml.", hop=Hop.REQUEST
            )
