"""Command lines of `keyferry provider NAME`: upstream flags, and Keyferry extensions."""

from __future__ import annotations

import json
import os
import platform
from typing import TYPE_CHECKING

from msgspec import Struct, field

from keyferry import __version__
from keyferry.cli.build import commit
from keyferry.cli.flags.audit import AUDIT_FLAGS, audit_settings
from keyferry.cli.flags.go_flags import FlagKind, GoFlag
from keyferry.cli.flags.providers import (
    AZURE_FLAGS,
    MOUNT_SIZE_FLAG,
    azure_settings,
    max_mount_bytes,
)
from keyferry.cli.flags.resilience import RESILIENCE_FLAGS, resilience_settings
from keyferry.cli.flags.restrictions import (
    AZURE_TENANTS_FLAG,
    RESTRICTION_FLAGS,
    class_restrictions,
)
from keyferry.cli.flags.vault import (
    LEASE_DIR_FLAG,
    hmac_flag,
    vault_flags,
    vault_settings,
    warn_ignored_variables,
)
from keyferry.errors import SettingInvalidError
from keyferry.net.sockets import parse_endpoint
from keyferry.providers.settings import ProviderSettings
from keyferry.providers.vault.product import OPENBAO, VAULT
from keyferry.records import replace
from keyferry.telemetry.audit_settings import AuditSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry.cli.flags.go_flags import ParsedFlags
    from keyferry.providers.vault.product import Product
    from keyferry.resilience.settings import ResilienceSettings

_KLOG_IGNORED = "the log is always written to standard error"
_BOOL, _INT, _STRING, _DURATION = FlagKind.BOOL, FlagKind.INT, FlagKind.STRING, FlagKind.DURATION
_MIN_DRIVER_VERSION = "v0.0.21"


class ServeOptions(Struct, frozen=True):
    """How to serve one provider.

    Attributes:
        endpoint: address of the gRPC socket, such as unix:///path.
        status_address: address of the health page and the metrics, such as :8080.
        status_address_flag: the flag that sets it, for error messages.
        health_path: path of the health page.
        health_timeout: timeout of a health check, in seconds.
        settings: settings of the provider.
        resilience: cache and limits of vault requests.
        log_as_json: whether to log JSON.
        verbosity: log verbosity.
        log_off: whether to log nothing.
        dev_vault: data folder of an emulator; "" for none.
        audit: where the accesses to vaults are recorded.
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
    audit: AuditSettings = field(default_factory=AuditSettings)


class ProviderCommand(Struct, frozen=True):
    """The command line of one provider.

    Attributes:
        flags: the accepted flags.
        version: returns what `--version` prints.
        serve_options: returns what the flags request; raises SettingInvalidError.
    """

    flags: tuple[GoFlag, ...]
    version: Callable[[ParsedFlags], str]
    serve_options: Callable[[ParsedFlags], ServeOptions]


def provider_command(name: str) -> ProviderCommand:
    """Return the command line of a built-in provider.

    Raises:
        KeyError: there is no such provider.
    """
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
        GoFlag("endpoint", _STRING, "unix:///tmp/azure.sock", "address of the provider socket"),
        GoFlag(
            "healthz-port",
            _INT,
            "8989",
            "port of the health page and the metrics, on all interfaces",
        ),
        GoFlag("healthz-path", _STRING, "/healthz", "path of the health page"),
        GoFlag("healthz-timeout", _DURATION, "5s", "timeout of a health check"),
        *AUDIT_FLAGS,
        GoFlag("log-format-json", _BOOL, "false", "log JSON instead of text"),
        GoFlag("v", _INT, "0", "log verbosity; 2 logs the details of each call"),
        GoFlag(
            "dev-vault",
            _STRING,
            "",
            "DEVELOPMENT ONLY: data folder of a running `keyferry devvault`",
        ),
        GoFlag("version", _BOOL, "false", "print the version as JSON and exit"),
        GoFlag("prometheus-port", _INT, "8898", "", "the health page serves the metrics"),
        GoFlag("metrics-backend", _STRING, "Prometheus", "", "only Prometheus is supported"),
        *AZURE_FLAGS,
        MOUNT_SIZE_FLAG,
        *RESTRICTION_FLAGS,
        AZURE_TENANTS_FLAG,
        *RESILIENCE_FLAGS,
        GoFlag("custom-user-agent", _STRING, "", "", "upstream does not send it either"),
        GoFlag("enable-pprof", _BOOL, "false", "", "pprof is specific to Go; use py-spy"),
        GoFlag("pprof-port", _INT, "6060", "", "pprof is specific to Go; use py-spy"),
        GoFlag("logtostderr", _BOOL, "true", "", _KLOG_IGNORED),
    )


def _azure_version(_: ParsedFlags) -> str:
    return json.dumps({"version": f"v{__version__}", "buildDate": ""})


def _azure_serve_options(flags: ParsedFlags) -> ServeOptions:
    values = flags.values
    if str(values["metrics-backend"]).lower() != "prometheus":
        raise SettingInvalidError(
            f"unsupported metrics backend {values['metrics-backend']!r}",
            "Remove --metrics-backend.",
        )
    return ServeOptions(
        endpoint=str(values["endpoint"]),
        status_address=f":{values['healthz-port']}",
        status_address_flag="--healthz-port",
        health_path=str(values["healthz-path"]),
        settings=replace(
            azure_settings(values),
            restrictions=class_restrictions(values, os.environ),
            max_mount_bytes=max_mount_bytes(values),
        ),
        resilience=resilience_settings(flags),
        health_timeout=float(values["healthz-timeout"]),
        log_as_json=bool(values["log-format-json"]),
        verbosity=int(values["v"]),
        dev_vault=str(values["dev-vault"]),
        audit=audit_settings(values),
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
        GoFlag("endpoint", _STRING, f"/tmp/{name}.sock", "path of the provider socket"),  # noqa: S108
        GoFlag("health-addr", _STRING, ":8080", "address of /health/ready and of /metrics"),
        GoFlag("log-level", _STRING, "info", "log level: trace, debug, info, warn, error or off"),
        GoFlag("debug", _BOOL, "false", "log the details of each call, like --log-level=debug"),
        *AUDIT_FLAGS,
        GoFlag("cache-size", _INT, "1000", "number of cached logins; 0 logs in for each mount"),
        *vault_flags(product, creates_tokens=True),
        hmac_flag(product),
        MOUNT_SIZE_FLAG,
        *RESTRICTION_FLAGS,
        *RESILIENCE_FLAGS,
        LEASE_DIR_FLAG,
        GoFlag("version", _BOOL, "false", "print the version and exit"),
        GoFlag("output", _STRING, "json", "output format of --version: json, json-pretty or yaml"),
    )


_LEASE_IDLE_SECONDS = 600.0
"""Five rotation intervals of the upstream driver."""
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
    common = ProviderSettings(
        restrictions=class_restrictions(values, os.environ),
        max_mount_bytes=max_mount_bytes(values),
    )
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
            replace(common, vault=settings)
            if product is VAULT
            else replace(common, openbao=settings)
        ),
        resilience=resilience_settings(flags),
        verbosity=verbosity,
        log_off=level == "off",
        audit=audit_settings(values),
    )


def _version_text(product: Product, output: str) -> str:
    if product is OPENBAO:
        keys = {"version": f"v{__version__}", "buildDate": "", "goVersion": ""}
        return json.dumps({**keys, "minDriverVersion": _MIN_DRIVER_VERSION})
    major, minor, patch = __version__.split(".")[:3]
    details = {
        "major": major,
        "minor": minor,
        "patch": patch,
        "gitVersion": f"v{__version__}",
        "gitCommit": commit(),
        "gitTreeState": "",
        "buildDate": "",
        "goVersion": "",
        "compiler": platform.python_implementation(),
        "platform": f"linux/{platform.machine()}",
        "minDriverVersion": _MIN_DRIVER_VERSION,
    }
    match output:
        case "json":
            return json.dumps(details, separators=(",", ":"))
        case "json-pretty":
            return json.dumps(details, indent=2)
        case "yaml":
            return "\n".join(f"{key}: {json.dumps(value)}" for key, value in details.items())
        case _:
            raise SettingInvalidError(
                f"--output is {output!r}",
                "Set it to json, json-pretty or yaml.",
            )
