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
from keyferry.cli.economy_flags import ECONOMY_FLAGS, economy_settings
from keyferry.cli.goflags import FlagError, GoFlag, Kind, help_text, parse_flags, warn_ignored
from keyferry.cli.provider_flags import HMAC_FLAGS, PROVIDER_FLAGS, provider_settings
from keyferry.cli.vault_flags import LEASE_FLAG
from keyferry.driver.daemon import run_driver
from keyferry.driver.settings import DriverSettings, VolumeKind
from keyferry.errors import Hop, PlatformError
from keyferry.logs import configure_logs
from keyferry.providers import provider_names
from keyferry.proxies import Proxies
from keyferry.sockets import parse_endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.cli.goflags import Flags, Value

_KLOG = "the log goes to standard error, in one place and one format"
_B, _I, _S, _D = Kind.BOOL, Kind.INT, Kind.STRING, Kind.DURATION

FLAGS: tuple[GoFlag, ...] = (
    GoFlag(
        "endpoint",
        _S,
        "unix://tmp/csi.sock",
        "where CSI is served: unix:///path or tcp://host:port",
    ),
    GoFlag("drivername", _S, "secrets-store.csi.k8s.io", "name of the CSI driver"),
    GoFlag("nodeid", _S, "", "name of this node"),
    GoFlag(
        "provider-volume", _S, "/var/run/secrets-store-csi-providers", "folder of provider sockets"
    ),
    GoFlag(
        "additional-provider-volume-paths",
        _S,
        "/etc/kubernetes/secrets-store-csi-providers",
        "further folders of provider sockets, by comma, looked into first",
    ),
    GoFlag(
        "builtin-providers",
        _S,
        ",".join(provider_names()),
        "providers in this process, by comma; empty: none",
    ),
    *PROVIDER_FLAGS,
    *HMAC_FLAGS,
    *ECONOMY_FLAGS,
    LEASE_FLAG,
    GoFlag(
        "manifests",
        _S,
        "",
        "folder of YAML: classes are read from it, Secrets and statuses written to it",
    ),
    GoFlag(
        "kubeconfig",
        _S,
        "",
        "file that names the Kubernetes API (default: $KUBECONFIG, the pod, ~/.kube/config)",
    ),
    GoFlag("metrics-addr", _S, ":8095", "where /metrics, /healthz and /readyz are served"),
    GoFlag("health-addr", _S, "", "where /healthz and /readyz are served besides, such as :9808"),
    GoFlag(
        "registration-dir",
        _S,
        "",
        "kubelet's folder of plugin sockets; empty: a node-driver-registrar registers the driver",
    ),
    GoFlag(
        "kubelet-registration-path",
        _S,
        "",
        "path of the CSI socket on the node (default: that of --endpoint)",
    ),
    GoFlag(
        "startup-taint",
        _S,
        "",
        "key of a taint that is removed from this node once the driver is ready",
    ),
    GoFlag(
        "enable-secret-rotation",
        _B,
        "false",
        "fetch the content of mounted volumes again from time to time",
    ),
    GoFlag(
        "rotation-poll-interval",
        _D,
        "2m",
        "content is refreshed once in each interval of this length",
    ),
    GoFlag("max-call-recv-msg-size", _I, "4194304", "largest reply of a provider socket in bytes"),
    GoFlag(
        "provider-health-check",
        _B,
        "false",
        "ask provider sockets for their version from time to time",
    ),
    GoFlag("provider-health-check-interval", _D, "2m", "how often"),
    GoFlag("log-format-json", _B, "false", "log JSON instead of text"),
    GoFlag("v", _I, "0", "verbosity of the log; 2 shows the details of each call"),
    GoFlag(
        "volumes", _S, "tmpfs", "how files are kept: tmpfs, or folder for trying out without root"
    ),
    GoFlag(
        "dev-vault",
        _S,
        "",
        "DEVELOPMENT: data folder of a running `keyferry devvault` that takes all vault calls",
    ),
    GoFlag("version", _B, "false", "print the version as JSON and exit"),
    GoFlag(
        "enable-pprof", _B, "false", "", "pprof profiles Go programs; use py-spy on this process"
    ),
    GoFlag("pprof-port", _I, "6065", "", "pprof profiles Go programs; use py-spy on this process"),
    GoFlag("metrics-backend", _S, "Prometheus", "", "Prometheus is the only one"),
    GoFlag("vmodule", _S, "", "", _KLOG),
    GoFlag("logtostderr", _B, "true", "", _KLOG),
    GoFlag("alsologtostderr", _B, "false", "", _KLOG),
    GoFlag("stderrthreshold", _S, "2", "", _KLOG),
    GoFlag("log_dir", _S, "", "", _KLOG),
    GoFlag("log_file", _S, "", "", _KLOG),
    GoFlag("log_file_max_size", _I, "1800", "", _KLOG),
    GoFlag("log_backtrace_at", _S, "", "", _KLOG),
    GoFlag("add_dir_header", _B, "false", "", _KLOG),
    GoFlag("skip_headers", _B, "false", "", _KLOG),
    GoFlag("skip_log_headers", _B, "false", "", _KLOG),
    GoFlag("one_output", _B, "false", "", _KLOG),
)


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
def driver(flags: tuple[str, ...]) -> None:
    """Run the node daemon (takes the flags of the Secrets Store CSI Driver)."""
    try:
        given = parse_flags(flags, FLAGS)
    except FlagError as error:
        click.echo(f"keyferry driver: {error}\nSee: keyferry driver --help", err=True)
        sys.exit(2)
    if given.wants_help:
        click.echo(
            f"Usage: keyferry driver [flags]\n\nThe node daemon. Flags:\n\n{help_text(FLAGS)}"
        )
        return
    if given.values["version"]:
        print(json.dumps({"BuildVersion": f"v{__version__}", "GitCommit": "", "BuildDate": ""}))
        return
    configure_logs(as_json=bool(given.values["log-format-json"]), verbosity=int(given.values["v"]))
    warn_ignored(given)
    asyncio.run(run_driver(settings_from(given)))


def settings_from(flags: Flags) -> DriverSettings:
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
        manifests=_path(values["manifests"]),
        kubeconfig=_path(values["kubeconfig"] or os.environ.get("KUBECONFIG", "")),
        provider_folders=_folders(
            str(values["additional-provider-volume-paths"]), str(values["provider-volume"])
        ),
        built_in=tuple(name for name in str(values["builtin-providers"]).split(",") if name),
        providers=provider_settings(flags.values, os.environ, key_folder=_folder_of(values)),
        economy=economy_settings(flags),
        proxies=Proxies.of_environment(os.environ),
        max_receive_bytes=int(values["max-call-recv-msg-size"]),
        rotation_interval=(
            float(values["rotation-poll-interval"]) if values["enable-secret-rotation"] else None
        ),
        metrics_address=str(values["metrics-addr"]),
        health_address=str(values["health-addr"]),
        registration_folder=_path(values["registration-dir"]),
        kubelet_registration_path=str(values["kubelet-registration-path"]),
        startup_taint=str(values["startup-taint"]),
        health_interval=(
            float(values["provider-health-check-interval"])
            if values["provider-health-check"]
            else None
        ),
        volumes=_volumes(str(values["volumes"])),
        dev_vault=_path(values["dev-vault"]),
    )


def _check_values(values: Mapping[str, Value]) -> None:
    backend = str(values["metrics-backend"])
    if backend.lower() != "prometheus":
        raise PlatformError(
            f"unsupported metrics backend {backend!r}",
            "Leave --metrics-backend out.",
            hop=Hop.REQUEST,
        )
    if values["registration-dir"] and not values["nodeid"]:
        raise PlatformError(
            "--registration-dir is given but --nodeid is empty, which kubelet refuses",
            "Set --nodeid to the Kubernetes name of this node.",
            hop=Hop.REQUEST,
        )
    if values["startup-taint"] and values["manifests"]:
        raise PlatformError(
            "--startup-taint needs the Kubernetes API, and --manifests does without",
            "Leave one of the two out.",
            hop=Hop.REQUEST,
        )
    if int(values["max-call-recv-msg-size"]) <= 0:
        raise PlatformError(
            f"--max-call-recv-msg-size is {values['max-call-recv-msg-size']}",
            "Give a number of bytes above 0.",
            hop=Hop.REQUEST,
        )
    if values["provider-health-check"] and float(values["provider-health-check-interval"]) <= 0:
        raise PlatformError(
            "--provider-health-check-interval is not above 0",
            "Give a duration such as 2m, or leave --provider-health-check out.",
            hop=Hop.REQUEST,
        )


def _folder_of(values: Mapping[str, Value]) -> Path | None:
    """The folder of the socket, which outlives a driver on a node; None where there is none."""
    socket = parse_endpoint(str(values["endpoint"])).socket
    return socket.parent if socket else None


def _path(text: object) -> Path | None:
    return Path(str(text)) if text else None


def _folders(additional: str, main: str) -> tuple[Path, ...]:
    """The additional folders first and the main one last, which is upstream's order."""
    return tuple(Path(folder) for folder in (*additional.strip().split(","), main) if folder)


def _volumes(text: str) -> VolumeKind:
    try:
        return VolumeKind(text)
    except ValueError as error:
        raise PlatformError(
            f"--volumes is {text!r}", "Write tmpfs or folder.", hop=Hop.REQUEST
        ) from error
