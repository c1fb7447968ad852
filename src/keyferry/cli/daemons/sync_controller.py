"""`keyferry sync-controller`: Kubernetes Secrets without a pod."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keyferry import __version__
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
from keyferry.errors import SettingInvalidError
from keyferry.kubernetes.names import object_name_problem
from keyferry.kubernetes.syncs.groups import GKE_GROUP, UPSTREAM_GROUP, SyncGroup
from keyferry.net.proxies import Proxies
from keyferry.providers.registry import provider_names
from keyferry.sync_controller.settings import (
    DEFAULT_CONTROLLER_NAME,
    ControllerPod,
    Scope,
    SyncControllerSettings,
    TokenSettings,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.cli.flags.go_flags import FlagValue, ParsedFlags

_ZAP_IGNORED = "the log is configured with --log-format-json and -v"
_BOOL, _INT, _STRING, _DURATION = FlagKind.BOOL, FlagKind.INT, FlagKind.STRING, FlagKind.DURATION
_ALL_NAMESPACES = "*"
_BINDINGS = {"none": False, "node": True}

SYNC_CONTROLLER_FLAGS: tuple[GoFlag, ...] = (
    GoFlag(
        "rotation-poll-interval",
        _DURATION,
        "1h",
        "interval of refreshes; each SecretSync is refreshed once per interval; 0: never",
    ),
    GoFlag(
        "token-request-audience",
        _STRING,
        "",
        "comma-separated list of the audiences for which service-account tokens may be requested",
    ),
    GoFlag(
        "provider-volume", _STRING, "/provider", "folder with the sockets of external providers"
    ),
    GoFlag(
        "namespaces",
        _STRING,
        _ALL_NAMESPACES,
        "comma-separated list of namespaces in which Secrets are written; * for all",
    ),
    GoFlag(
        "controller-name",
        _STRING,
        DEFAULT_CONTROLLER_NAME,
        "value of spec.secretSyncControllerName that this controller handles",
    ),
    GoFlag(
        "default-controller",
        _BOOL,
        "true",
        "also handle SecretSyncs without spec.secretSyncControllerName",
    ),
    GoFlag(
        "secret-sync-groups",
        _STRING,
        f"{UPSTREAM_GROUP},{GKE_GROUP}",
        "comma-separated list of API groups of SecretSyncs; those that do not exist are skipped",
    ),
    GoFlag(
        "service-account-opt-in",
        _BOOL,
        "false",
        "use only service accounts with the label secret-sync.x-k8s.io/allowed: true",
    ),
    GoFlag(
        "token-binding",
        _STRING,
        "none",
        "what service-account tokens are bound to: none, or node (the node of this pod)",
    ),
    GoFlag("leader-elect", _BOOL, "false", "elect a leader with a Lease, so that replicas can run"),
    GoFlag(
        "leader-election-namespace",
        _STRING,
        "",
        "namespace of the Lease (default: the namespace of this pod)",
    ),
    GoFlag("pod-name", _STRING, "", "name of this pod (default: $POD_NAME)"),
    GoFlag("pod-namespace", _STRING, "", "namespace of this pod (default: $POD_NAMESPACE)"),
    GoFlag("pod-uid", _STRING, "", "uid of this pod (default: $POD_UID)"),
    GoFlag("node-name", _STRING, "", "node of this pod (default: $NODE_NAME)"),
    GoFlag(
        "legacy-conditions",
        _BOOL,
        "false",
        "also write the conditions Create and Update of upstream's version 0.0.4",
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
    KUBECONFIG_FLAG,
    GoFlag("metrics-bind-address", _STRING, ":8085", "address of /metrics"),
    GoFlag("health-probe-bind-address", _STRING, ":8081", "address of /healthz and /readyz"),
    GoFlag(
        "status-page-addr",
        _STRING,
        "",
        "loopback address of the status page, such as 127.0.0.1:8090; empty: no page",
    ),
    MOUNT_SIZE_FLAG,
    *AUDIT_FLAGS,
    HELP_URL_FLAG,
    *LOG_FLAGS,
    DEV_VAULT_FLAG,
    GoFlag("version", _BOOL, "false", "print the version and exit"),
    GoFlag("zap-devel", _BOOL, "false", "", _ZAP_IGNORED),
    GoFlag("zap-encoder", _STRING, "json", "", _ZAP_IGNORED),
    GoFlag("zap-log-level", _STRING, "info", "", _ZAP_IGNORED),
    GoFlag("zap-stacktrace-level", _STRING, "error", "", _ZAP_IGNORED),
    GoFlag("zap-time-encoding", _STRING, "epoch", "", _ZAP_IGNORED),
)


@click.command(
    "sync-controller",
    cls=FlagCommand,
    flags=lambda _: completions(SYNC_CONTROLLER_FLAGS),
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
def sync_controller(flags: tuple[str, ...]) -> None:
    """Turn SecretSyncs into Kubernetes Secrets, without a pod and a DaemonSet."""
    parsed = read_flags(
        flags, SYNC_CONTROLLER_FLAGS, command="keyferry sync-controller", usage=_HELP
    )
    if parsed.values["version"]:
        print(f"keyferry {__version__}")
        return
    begin_daemon(parsed)
    _run(settings_from(parsed))


_HELP = """\
Usage: keyferry sync-controller [flags]

Turn SecretSyncs into Kubernetes Secrets, without a pod and a DaemonSet. It accepts the flags of
the Secrets Store Sync Controller, and runs beside any CSI driver.

Examples:
  # in a cluster, as in the Helm chart
  keyferry sync-controller --leader-elect --namespaces=shop,billing \\
    --token-request-audience=api://AzureADTokenExchange
  # on a laptop, with the rights of your kubeconfig
  keyferry sync-controller --namespaces=shop
"""


def _run(settings: SyncControllerSettings) -> None:
    """Start the parser, then the controller, so that the parser has none of its memory."""
    from keyferry.isolation.spawner import Role, Spawner
    from keyferry.plugins.children import parser_program

    spawner = Spawner({Role.PARSER: parser_program()})
    from keyferry.sync_controller.daemon import run_sync_controller

    try:
        asyncio.run(run_sync_controller(settings, spawner=spawner))
    finally:
        spawner.close()


def settings_from(flags: ParsedFlags) -> SyncControllerSettings:
    """Return the settings that `flags` request.

    Raises:
        SettingInvalidError: the controller does not accept a value.
    """
    values = flags.values
    interval = float(values["rotation-poll-interval"])
    if interval < 0:
        raise SettingInvalidError(
            "--rotation-poll-interval must not be negative",
            "Set it to a duration such as 1h, or to 0.",
        )
    pod = ControllerPod(
        *(
            str(values[flag]) or os.environ.get(variable, "")
            for flag, variable in (
                ("pod-name", "POD_NAME"),
                ("pod-namespace", "POD_NAMESPACE"),
                ("pod-uid", "POD_UID"),
                ("node-name", "NODE_NAME"),
            )
        )
    )
    election_namespace = str(values["leader-election-namespace"]) or pod.namespace
    if values["leader-elect"] and not election_namespace:
        raise SettingInvalidError(
            "--leader-elect needs a namespace for the Lease",
            "Set --leader-election-namespace, or the environment variable POD_NAMESPACE.",
        )
    return SyncControllerSettings(
        scope=_scope(values),
        tokens=_tokens(values, pod),
        pod=pod,
        elects_leader=bool(values["leader-elect"]),
        election_namespace=election_namespace,
        interval=interval or None,
        help_url=help_url(flags),
        legacy_conditions=bool(values["legacy-conditions"]),
        kubeconfig=_optional_path(values["kubeconfig"] or os.environ.get("KUBECONFIG", "")),
        provider_folders=tuple(Path(each) for each in _split(values["provider-volume"])),
        built_in=_split(values["builtin-providers"]),
        provider_settings=provider_settings(
            values,
            os.environ,
            hmac_key_folder=None,
            restrictions=class_restrictions(values, os.environ),
            max_bytes=max_mount_bytes(values),
        ),
        resilience=resilience_settings(flags),
        proxies=Proxies.from_environment(os.environ),
        max_receive_bytes=max_mount_bytes(values),
        metrics_address=str(values["metrics-bind-address"]),
        health_address=str(values["health-probe-bind-address"]),
        status_page=_status_page(str(values["status-page-addr"])),
        audit=audit_settings(values),
        dev_vault=_optional_path(values["dev-vault"]),
    )


def _status_page(text: str) -> tuple[str, int] | None:
    if not text:
        return None
    from keyferry.status_page.address import parse_loopback

    return parse_loopback(text, "--status-page-addr")


def _scope(values: Mapping[str, FlagValue]) -> Scope:
    names = _split(values["namespaces"])
    if not names:
        raise SettingInvalidError(
            "--namespaces is empty", "List namespaces, or write * for all of them."
        )
    for name in names:
        if name != _ALL_NAMESPACES and (problem := object_name_problem(name)):
            raise SettingInvalidError(
                f"--namespaces: {name[:80]!r} {problem}", "List the names of namespaces."
            )
    groups = tuple(SyncGroup.parse(text) for text in _split(values["secret-sync-groups"]))
    if not groups:
        raise SettingInvalidError(
            "--secret-sync-groups is empty", f"List API groups, such as {UPSTREAM_GROUP}."
        )
    controller_name = str(values["controller-name"])
    if problem := object_name_problem(controller_name):
        raise SettingInvalidError(
            f"--controller-name: {controller_name[:80]!r} {problem}",
            "Use lower-case letters, digits, '-' and '.'.",
        )
    return Scope(
        controller_name=controller_name,
        is_default=bool(values["default-controller"]),
        namespaces=None if _ALL_NAMESPACES in names else frozenset(names),
        groups=groups,
    )


def _tokens(values: Mapping[str, FlagValue], pod: ControllerPod) -> TokenSettings:
    binding = str(values["token-binding"])
    if binding not in _BINDINGS:
        raise SettingInvalidError(f"--token-binding is {binding!r}", "Set it to none or node.")
    if _BINDINGS[binding] and not pod.node:
        raise SettingInvalidError(
            "--token-binding=node needs the name of the node",
            "Set --node-name, or the environment variable NODE_NAME.",
        )
    return TokenSettings(
        audiences=_split(values["token-request-audience"]),
        binds_to_node=_BINDINGS[binding],
        requires_opt_in=bool(values["service-account-opt-in"]),
    )


def _split(value: FlagValue) -> tuple[str, ...]:
    return tuple(part.strip() for part in str(value).split(",") if part.strip())


def _optional_path(text: object) -> Path | None:
    return Path(str(text)) if text else None
