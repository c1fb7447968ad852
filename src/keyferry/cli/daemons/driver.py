"""`keyferry driver`: the node daemon."""

from __future__ import annotations

import asyncio
import json
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keyferry import __version__
from keyferry.cli.build import commit
from keyferry.cli.commands import FlagCommand
from keyferry.cli.flags.audit import AUDIT_FLAGS, audit_settings
from keyferry.cli.flags.daemons import (
    DEV_VAULT_FLAG,
    HELP_URL_FLAG,
    KUBECONFIG_FLAG,
    LOG_FLAGS,
    begin_daemon,
    help_url,
    read_flags,
)
from keyferry.cli.flags.go_flags import (
    FlagKind,
    GoFlag,
    completions,
)
from keyferry.cli.flags.paths import check_data_folder
from keyferry.cli.flags.providers import (
    HMAC_FLAGS,
    MOUNT_SIZE_FLAG,
    PROVIDER_FLAGS,
    max_mount_bytes,
    provider_settings,
)
from keyferry.cli.flags.resilience import RESILIENCE_FLAGS, resilience_settings
from keyferry.cli.flags.restrictions import (
    AZURE_TENANTS_FLAG,
    RESTRICTION_FLAGS,
    class_restrictions,
)
from keyferry.cli.flags.vault import LEASE_DIR_FLAG
from keyferry.driver.settings import DriverSettings, Isolation, VolumeKind
from keyferry.errors import PlatformError, SettingInvalidError
from keyferry.net.proxies import Proxies
from keyferry.net.sockets import parse_endpoint
from keyferry.process import can_mount, pausing_gc
from keyferry.providers.registry import provider_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.cli.flags.go_flags import FlagValue, ParsedFlags

_KLOG_IGNORED = "the log is always written to standard error"
_BOOL, _INT, _STRING, _DURATION = FlagKind.BOOL, FlagKind.INT, FlagKind.STRING, FlagKind.DURATION

DRIVER_FLAGS: tuple[GoFlag, ...] = (
    GoFlag(
        "endpoint",
        _STRING,
        "unix://tmp/csi.sock",
        "address of the CSI services: unix:///path or tcp://host:port",
    ),
    GoFlag("drivername", _STRING, "secrets-store.csi.k8s.io", "name of the CSI driver"),
    GoFlag("nodeid", _STRING, "", "name of this node"),
    GoFlag(
        "provider-volume",
        _STRING,
        "/var/run/secrets-store-csi-providers",
        "folder that contains the sockets of external providers",
    ),
    GoFlag(
        "additional-provider-volume-paths",
        _STRING,
        "/etc/kubernetes/secrets-store-csi-providers",
        "comma-separated list of more folders with provider sockets; they are searched first",
    ),
    GoFlag(
        "builtin-providers",
        _STRING,
        ",".join(provider_names()),
        "comma-separated list of providers to run in this process; empty disables all",
    ),
    *PROVIDER_FLAGS,
    *HMAC_FLAGS,
    *RESTRICTION_FLAGS,
    AZURE_TENANTS_FLAG,
    *RESILIENCE_FLAGS,
    LEASE_DIR_FLAG,
    GoFlag(
        "manifests",
        _STRING,
        "",
        "folder of YAML files to use instead of the Kubernetes API",
    ),
    KUBECONFIG_FLAG,
    GoFlag("metrics-addr", _STRING, ":8095", "address of /metrics, /healthz and /readyz"),
    GoFlag("health-addr", _STRING, "", "additional address of /healthz and /readyz, such as :9808"),
    GoFlag(
        "registration-dir",
        _STRING,
        "",
        "registration folder of kubelet; empty if node-driver-registrar registers the driver",
    ),
    GoFlag(
        "kubelet-registration-path",
        _STRING,
        "",
        "path of the CSI socket on the node (default: the path of --endpoint)",
    ),
    GoFlag(
        "startup-taint",
        _STRING,
        "",
        "key of the node taint to remove once the driver is ready",
    ),
    GoFlag(
        "enable-secret-rotation",
        _BOOL,
        "false",
        "refresh mounted volumes periodically",
    ),
    GoFlag(
        "rotation-poll-interval",
        _DURATION,
        "2m",
        "interval of refreshes; each volume is refreshed once per interval",
    ),
    GoFlag(
        "secret-grace-period",
        _DURATION,
        "10m",
        "how long a synced Secret without an owner is kept after its last pod; 0: delete every "
        "synced Secret with its last pod",
    ),
    MOUNT_SIZE_FLAG,
    GoFlag(
        "allow-attribute-overrides",
        _BOOL,
        "true",
        "let volumeAttributes of a pod override parameters of its SecretProviderClass",
    ),
    GoFlag(
        "provider-health-check",
        _BOOL,
        "false",
        "check external providers periodically by requesting their version",
    ),
    GoFlag(
        "provider-health-check-interval",
        _DURATION,
        "2m",
        "interval of the checks of --provider-health-check",
    ),
    *AUDIT_FLAGS,
    HELP_URL_FLAG,
    *LOG_FLAGS,
    GoFlag(
        "volumes",
        _STRING,
        "tmpfs",
        "storage of volumes: tmpfs, or folder to try the driver without root",
    ),
    GoFlag(
        "isolation",
        _STRING,
        "process",
        "where built-in providers and parsers run: process (unprivileged child processes) or none",
    ),
    GoFlag(
        "kubelet-dir",
        _STRING,
        "/var/lib/kubelet",
        "folder of kubelet, hidden from child processes and SecretProviderClasses",
    ),
    DEV_VAULT_FLAG,
    GoFlag("version", _BOOL, "false", "print the version as JSON and exit"),
    GoFlag(
        "enable-pprof",
        _BOOL,
        "false",
        "",
        "pprof is specific to Go; profile this process with py-spy",
    ),
    GoFlag(
        "pprof-port", _INT, "6065", "", "pprof is specific to Go; profile this process with py-spy"
    ),
    GoFlag("metrics-backend", _STRING, "Prometheus", "", "only Prometheus is supported"),
    GoFlag("vmodule", _STRING, "", "", _KLOG_IGNORED),
    GoFlag("logtostderr", _BOOL, "true", "", _KLOG_IGNORED),
    GoFlag("alsologtostderr", _BOOL, "false", "", _KLOG_IGNORED),
    GoFlag("stderrthreshold", _STRING, "2", "", _KLOG_IGNORED),
    GoFlag("log_dir", _STRING, "", "", _KLOG_IGNORED),
    GoFlag("log_file", _STRING, "", "", _KLOG_IGNORED),
    GoFlag("log_file_max_size", _INT, "1800", "", _KLOG_IGNORED),
    GoFlag("log_backtrace_at", _STRING, "", "", _KLOG_IGNORED),
    GoFlag("add_dir_header", _BOOL, "false", "", _KLOG_IGNORED),
    GoFlag("skip_headers", _BOOL, "false", "", _KLOG_IGNORED),
    GoFlag("skip_log_headers", _BOOL, "false", "", _KLOG_IGNORED),
    GoFlag("one_output", _BOOL, "false", "", _KLOG_IGNORED),
)


@click.command(
    cls=FlagCommand,
    flags=lambda _: completions(DRIVER_FLAGS),
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
def driver(flags: tuple[str, ...]) -> None:
    """Run the node daemon. Accepts the flags of the Secrets Store CSI Driver."""
    parsed = read_flags(flags, DRIVER_FLAGS, command="keyferry driver", usage=_HELP)
    if parsed.values["version"]:
        details = {"BuildVersion": f"v{__version__}", "GitCommit": commit(), "BuildDate": ""}
        print(json.dumps(details))
        return
    begin_daemon(parsed)
    settings = settings_from(parsed)
    _check_start(settings)
    _run(settings)


_HELP = """\
Usage: keyferry driver [flags]

Run the node daemon (CSI driver). It accepts the flags of the Secrets Store CSI Driver.

Examples:
  # on a node, as in the Helm chart
  keyferry driver --endpoint=unix:///csi/csi.sock --nodeid=node-1 --enable-secret-rotation
  # on a laptop, without root and Kubernetes
  keyferry driver --endpoint=unix:///tmp/csi.sock --manifests=. --volumes=folder --isolation=none
"""


def _check_start(settings: DriverSettings) -> None:
    """Check what the driver would otherwise miss only when it publishes a volume.

    Raises:
        SettingInvalidError: a setting does not fit this machine.
    """
    if settings.manifests is not None:
        check_data_folder(settings.manifests, flag="--manifests")
    elif not settings.node_id:
        raise SettingInvalidError(
            "--nodeid is empty, and the driver uses the Kubernetes API",
            "Set --nodeid to the Kubernetes name of this node (spec.nodeName of the driver's Pod).",
        )


def _run(settings: DriverSettings) -> None:
    """Start the spawner, then the driver.

    The daemon is imported afterwards, so that gRPC takes no memory in the child processes.
    """
    worker = spawner = None
    with pausing_gc():
        if settings.isolation is Isolation.PROCESS:
            from keyferry.driver.children import child_programs, preload_children, worker_settings
            from keyferry.isolation.spawner import Spawner
            from keyferry.net.connector import preload_system_tls

            worker = worker_settings(settings)
            programs = child_programs(settings, worker)
            if worker.emulator is None:
                preload_system_tls(os.environ)
            spawner = Spawner(programs, partial(preload_children, settings.built_in))
        from keyferry.driver.daemon import run_driver

    try:
        asyncio.run(run_driver(settings, worker=worker, spawner=spawner))
    finally:
        if spawner is not None:
            spawner.close()


def settings_from(flags: ParsedFlags) -> DriverSettings:
    """Return the settings that `flags` request.

    Raises:
        SettingInvalidError: the driver does not accept a value.
    """
    values = flags.values
    _check_values(values)
    return DriverSettings(
        endpoint=str(values["endpoint"]),
        driver_name=str(values["drivername"]),
        node_id=str(values["nodeid"]),
        help_url=help_url(flags),
        manifests=_optional_path(values["manifests"]),
        kubeconfig=_optional_path(values["kubeconfig"] or os.environ.get("KUBECONFIG", "")),
        provider_folders=_provider_folders(
            str(values["additional-provider-volume-paths"]), str(values["provider-volume"])
        ),
        built_in=tuple(name for name in str(values["builtin-providers"]).split(",") if name),
        provider_settings=provider_settings(
            flags.values,
            os.environ,
            hmac_key_folder=_socket_folder(values),
            restrictions=class_restrictions(values, os.environ),
            max_bytes=max_mount_bytes(values),
        ),
        resilience=resilience_settings(flags),
        proxies=Proxies.from_environment(os.environ),
        max_receive_bytes=max_mount_bytes(values),
        allow_attribute_overrides=bool(values["allow-attribute-overrides"]),
        rotation_interval=(
            float(values["rotation-poll-interval"]) if values["enable-secret-rotation"] else None
        ),
        secret_grace_period=float(values["secret-grace-period"]),
        unused_secrets_file=_unused_secrets_file(values),
        metrics_address=str(values["metrics-addr"]),
        health_address=str(values["health-addr"]),
        registration_folder=_optional_path(values["registration-dir"]),
        kubelet_registration_path=str(values["kubelet-registration-path"]),
        startup_taint=str(values["startup-taint"]),
        health_interval=(
            float(values["provider-health-check-interval"])
            if values["provider-health-check"]
            else None
        ),
        audit=audit_settings(values),
        volume_kind=_volume_kind(str(values["volumes"])),
        isolation=_isolation(str(values["isolation"])),
        kubelet_folder=str(values["kubelet-dir"]),
        dev_vault=_optional_path(values["dev-vault"]),
    )


def _check_values(values: Mapping[str, FlagValue]) -> None:
    backend = str(values["metrics-backend"])
    if backend.lower() != "prometheus":
        raise SettingInvalidError(
            f"unsupported metrics backend {backend!r}",
            "Remove --metrics-backend.",
        )
    if values["registration-dir"] and not values["nodeid"]:
        raise SettingInvalidError(
            "--registration-dir requires --nodeid",
            "Set --nodeid to the Kubernetes name of this node.",
        )
    if float(values["secret-grace-period"]) < 0:
        raise SettingInvalidError(
            "--secret-grace-period must not be negative",
            "Set it to a duration such as 10m, or to 0.",
        )
    if values["startup-taint"] and values["manifests"]:
        raise SettingInvalidError(
            "--startup-taint requires the Kubernetes API, and --manifests disables it",
            "Remove one of the two flags.",
        )
    if values["provider-health-check"] and float(values["provider-health-check-interval"]) <= 0:
        raise SettingInvalidError(
            "--provider-health-check-interval must be greater than 0",
            "Set it to a duration such as 2m, or remove --provider-health-check.",
        )


def _socket_folder(values: Mapping[str, FlagValue]) -> Path | None:
    """Return the folder of the CSI socket, which persists across restarts; None for TCP."""
    socket = parse_endpoint(str(values["endpoint"])).socket
    return socket.parent if socket else None


def _unused_secrets_file(values: Mapping[str, FlagValue]) -> Path | None:
    folder = _socket_folder(values)
    return folder / "unused-secrets.json" if folder else None


def _optional_path(text: object) -> Path | None:
    return Path(str(text)) if text else None


def _provider_folders(additional: str, main: str) -> tuple[Path, ...]:
    """Return the additional folders, then the main one, in the order of upstream."""
    return tuple(Path(folder) for folder in (*additional.strip().split(","), main) if folder)


def _volume_kind(text: str) -> VolumeKind:
    try:
        return VolumeKind(text)
    except ValueError as error:
        raise SettingInvalidError(f"--volumes is {text!r}", "Set it to tmpfs or folder.") from error


def _isolation(text: str) -> Isolation:
    try:
        isolation = Isolation(text)
    except ValueError as error:
        raise SettingInvalidError(
            f"--isolation is {text!r}", "Set it to process or none."
        ) from error
    if isolation is Isolation.PROCESS and not can_mount():
        raise PlatformError(
            "--isolation=process needs CAP_SYS_ADMIN, to start child processes that see less",
            "Run the driver as root, on a node in a privileged container; without root, for"
            " development only, use --isolation=none.",
        )
    return isolation
