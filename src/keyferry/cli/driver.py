"""`keyferry driver`: the node daemon."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keyferry import __version__
from keyferry.cli.flags.go_flags import (
    FlagError,
    FlagKind,
    GoFlag,
    help_text,
    parse_flags,
    warn_ignored,
)
from keyferry.cli.flags.providers import HMAC_FLAGS, PROVIDER_FLAGS, provider_settings
from keyferry.cli.flags.resilience import RESILIENCE_FLAGS, resilience_settings
from keyferry.cli.flags.vault import LEASE_DIR_FLAG
from keyferry.driver.daemon import run_driver
from keyferry.driver.settings import DriverSettings, VolumeKind
from keyferry.errors import PlatformError, Stage
from keyferry.net.proxies import Proxies
from keyferry.net.sockets import parse_endpoint
from keyferry.providers.registry import provider_names
from keyferry.telemetry.logs import configure_logs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.cli.flags.go_flags import FlagValue, ParsedFlags

_KLOG_IGNORED = "the log goes to standard error, in one place and one format"
_BOOL, _INT, _STRING, _DURATION = FlagKind.BOOL, FlagKind.INT, FlagKind.STRING, FlagKind.DURATION

DRIVER_FLAGS: tuple[GoFlag, ...] = (
    GoFlag(
        "endpoint",
        _STRING,
        "unix://tmp/csi.sock",
        "where CSI is served: unix:///path or tcp://host:port",
    ),
    GoFlag("drivername", _STRING, "secrets-store.csi.k8s.io", "name of the CSI driver"),
    GoFlag("nodeid", _STRING, "", "name of this node"),
    GoFlag(
        "provider-volume",
        _STRING,
        "/var/run/secrets-store-csi-providers",
        "folder of provider sockets",
    ),
    GoFlag(
        "additional-provider-volume-paths",
        _STRING,
        "/etc/kubernetes/secrets-store-csi-providers",
        "further folders of provider sockets, by comma, looked into first",
    ),
    GoFlag(
        "builtin-providers",
        _STRING,
        ",".join(provider_names()),
        "providers in this process, by comma; empty: none",
    ),
    *PROVIDER_FLAGS,
    *HMAC_FLAGS,
    *RESILIENCE_FLAGS,
    LEASE_DIR_FLAG,
    GoFlag(
        "manifests",
        _STRING,
        "",
        "folder of YAML: classes are read from it, Secrets and statuses written to it",
    ),
    GoFlag(
        "kubeconfig",
        _STRING,
        "",
        "file that names the Kubernetes API (default: $KUBECONFIG, the pod, ~/.kube/config)",
    ),
    GoFlag("metrics-addr", _STRING, ":8095", "where /metrics, /healthz and /readyz are served"),
    GoFlag(
        "health-addr", _STRING, "", "where /healthz and /readyz are served besides, such as :9808"
    ),
    GoFlag(
        "registration-dir",
        _STRING,
        "",
        "kubelet's folder of plugin sockets; empty: a node-driver-registrar registers the driver",
    ),
    GoFlag(
        "kubelet-registration-path",
        _STRING,
        "",
        "path of the CSI socket on the node (default: that of --endpoint)",
    ),
    GoFlag(
        "startup-taint",
        _STRING,
        "",
        "key of a taint that is removed from this node once the driver is ready",
    ),
    GoFlag(
        "enable-secret-rotation",
        _BOOL,
        "false",
        "fetch the content of mounted volumes again from time to time",
    ),
    GoFlag(
        "rotation-poll-interval",
        _DURATION,
        "2m",
        "content is refreshed once in each interval of this length",
    ),
    GoFlag(
        "max-call-recv-msg-size", _INT, "4194304", "largest reply of a provider socket in bytes"
    ),
    GoFlag(
        "provider-health-check",
        _BOOL,
        "false",
        "ask provider sockets for their version from time to time",
    ),
    GoFlag("provider-health-check-interval", _DURATION, "2m", "how often"),
    GoFlag("log-format-json", _BOOL, "false", "log JSON instead of text"),
    GoFlag("v", _INT, "0", "verbosity of the log; 2 shows the details of each call"),
    GoFlag(
        "volumes",
        _STRING,
        "tmpfs",
        "how files are kept: tmpfs, or folder for trying out without root",
    ),
    GoFlag(
        "dev-vault",
        _STRING,
        "",
        "DEVELOPMENT: data folder of a running `keyferry devvault` that takes all vault calls",
    ),
    GoFlag("version", _BOOL, "false", "print the version as JSON and exit"),
    GoFlag(
        "enable-pprof", _BOOL, "false", "", "pprof profiles Go programs; use py-spy on this process"
    ),
    GoFlag(
        "pprof-port", _INT, "6065", "", "pprof profiles Go programs; use py-spy on this process"
    ),
    GoFlag("metrics-backend", _STRING, "Prometheus", "", "Prometheus is the only one"),
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
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
def driver(flags: tuple[str, ...]) -> None:
    """Run the node daemon (takes the flags of the Secrets Store CSI Driver)."""
    try:
        given = parse_flags(flags, DRIVER_FLAGS)
    except FlagError as error:
        click.echo(f"keyferry driver: {error}\nSee: keyferry driver --help", err=True)
        sys.exit(2)
    if given.wants_help:
        click.echo(
            "Usage: keyferry driver [flags]\n\nThe node daemon. "
            f"Flags:\n\n{help_text(DRIVER_FLAGS)}"
        )
        return
    if given.values["version"]:
        print(json.dumps({"BuildVersion": f"v{__version__}", "GitCommit": "", "BuildDate": ""}))
        return
    configure_logs(as_json=bool(given.values["log-format-json"]), verbosity=int(given.values["v"]))
    warn_ignored(given)
    asyncio.run(run_driver(settings_from(given)))


def settings_from(flags: ParsedFlags) -> DriverSettings:
    """The settings that `flags` ask for.

    Raises:
        PlatformError: a value that the type of its flag allows but the driver does not.
    """
    values = flags.values
    _check_values(values)
    return DriverSettings(
        endpoint=str(values["endpoint"]),
        driver_name=str(values["drivername"]),
        node_id=str(values["nodeid"]),
        manifests=_optional_path(values["manifests"]),
        kubeconfig=_optional_path(values["kubeconfig"] or os.environ.get("KUBECONFIG", "")),
        provider_folders=_provider_folders(
            str(values["additional-provider-volume-paths"]), str(values["provider-volume"])
        ),
        built_in=tuple(name for name in str(values["builtin-providers"]).split(",") if name),
        provider_settings=provider_settings(
            flags.values, os.environ, hmac_key_folder=_socket_folder(values)
        ),
        resilience=resilience_settings(flags),
        proxies=Proxies.from_environment(os.environ),
        max_receive_bytes=int(values["max-call-recv-msg-size"]),
        rotation_interval=(
            float(values["rotation-poll-interval"]) if values["enable-secret-rotation"] else None
        ),
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
        volume_kind=_volume_kind(str(values["volumes"])),
        dev_vault=_optional_path(values["dev-vault"]),
    )


def _check_values(values: Mapping[str, FlagValue]) -> None:
    backend = str(values["metrics-backend"])
    if backend.lower() != "prometheus":
        raise PlatformError(
            f"unsupported metrics backend {backend!r}",
            "Leave --metrics-backend out.",
            stage=Stage.REQUEST,
        )
    if values["registration-dir"] and not values["nodeid"]:
        raise PlatformError(
            "--registration-dir is given but --nodeid is empty, which kubelet refuses",
            "Set --nodeid to the Kubernetes name of this node.",
            stage=Stage.REQUEST,
        )
    if values["startup-taint"] and values["manifests"]:
        raise PlatformError(
            "--startup-taint needs the Kubernetes API, and --manifests does without",
            "Leave one of the two out.",
            stage=Stage.REQUEST,
        )
    if int(values["max-call-recv-msg-size"]) <= 0:
        raise PlatformError(
            f"--max-call-recv-msg-size is {values['max-call-recv-msg-size']}",
            "Give a number of bytes above 0.",
            stage=Stage.REQUEST,
        )
    if values["provider-health-check"] and float(values["provider-health-check-interval"]) <= 0:
        raise PlatformError(
            "--provider-health-check-interval is not above 0",
            "Give a duration such as 2m, or leave --provider-health-check out.",
            stage=Stage.REQUEST,
        )


def _socket_folder(values: Mapping[str, FlagValue]) -> Path | None:
    """The folder of the socket, which outlives a driver on a node; None where there is none."""
    socket = parse_endpoint(str(values["endpoint"])).socket
    return socket.parent if socket else None


def _optional_path(text: object) -> Path | None:
    return Path(str(text)) if text else None


def _provider_folders(additional: str, main: str) -> tuple[Path, ...]:
    """The additional folders first and the main one last, which is upstream's order."""
    return tuple(Path(folder) for folder in (*additional.strip().split(","), main) if folder)


def _volume_kind(text: str) -> VolumeKind:
    try:
        return VolumeKind(text)
    except ValueError as error:
        raise PlatformError(
            f"--volumes is {text!r}", "Write tmpfs or folder.", stage=Stage.REQUEST
        ) from error
