"""The settings of `keyferry sync-controller`. [pure]

Source: https://github.com/kubernetes-sigs/secrets-store-sync-controller
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct, field

from keyferry.content import DEFAULT_MAX_BYTES
from keyferry.kubernetes.syncs.groups import GKE_GROUP, UPSTREAM_GROUP
from keyferry.net.proxies import Proxies
from keyferry.providers.settings import ProviderSettings
from keyferry.resilience.settings import ResilienceSettings
from keyferry.telemetry.audit_settings import AuditSettings

if TYPE_CHECKING:
    from pathlib import Path

    from keyferry.kubernetes.syncs.groups import SyncGroup

DEFAULT_CONTROLLER_NAME = "keyferry"
LEASE_NAME = "keyferry-sync"
DEFAULT_INTERVAL = 3600.0


class ControllerPod(Struct, frozen=True):
    """The pod of this process, from the downward API; texts are "" if they are unknown."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    node: str = ""


class Scope(Struct, frozen=True):
    """Which SecretSyncs this controller handles.

    Attributes:
        controller_name: the value of `spec.secretSyncControllerName` that it handles.
        is_default: whether it handles SecretSyncs without that field, too.
        namespaces: where it may write Secrets and request tokens; None for all.
        groups: the API groups of the SecretSyncs.
    """

    controller_name: str = DEFAULT_CONTROLLER_NAME
    is_default: bool = True
    namespaces: frozenset[str] | None = None
    groups: tuple[SyncGroup, ...] = (UPSTREAM_GROUP, GKE_GROUP)

    def handles(self, controller_name: str) -> bool:
        """Return whether it handles SecretSyncs with this `secretSyncControllerName`."""
        return controller_name == self.controller_name or (self.is_default and not controller_name)

    def lists(self, namespace: str) -> bool:
        """Return whether it may work in a namespace."""
        return self.namespaces is None or namespace in self.namespaces


class TokenSettings(Struct, frozen=True):
    """How tokens of service accounts are requested.

    Attributes:
        audiences: the permitted audiences.
        binds_to_node: whether tokens are bound to the node of this pod.
        requires_opt_in: whether only service accounts that opted in are used.
    """

    audiences: tuple[str, ...] = ()
    binds_to_node: bool = False
    requires_opt_in: bool = False


class SyncControllerSettings(Struct, frozen=True):
    """The settings of one controller process. Durations in seconds."""

    scope: Scope = field(default_factory=Scope)
    tokens: TokenSettings = field(default_factory=TokenSettings)
    pod: ControllerPod = field(default_factory=ControllerPod)
    elects_leader: bool = False
    """Whether replicas elect a leader with a Lease."""
    election_namespace: str = ""
    """The namespace of the Lease; "" for that of the pod."""
    interval: float | None = DEFAULT_INTERVAL
    """Seconds between two refreshes of a SecretSync; None for no refreshes."""
    help_url: str = ""
    """The page that events of problems link to; "" for no links."""
    legacy_conditions: bool = False
    """Whether the conditions of upstream's v0.0.4 are written, too."""
    kubeconfig: Path | None = None
    """The kubeconfig for the Kubernetes API; None for the service account of the pod."""
    provider_folders: tuple[Path, ...] = ()
    """The folders with sockets of external providers, in order."""
    built_in: tuple[str, ...] = ()
    """The names of the providers that run in this process."""
    provider_settings: ProviderSettings = field(default_factory=ProviderSettings)
    """The settings of the built-in providers."""
    resilience: ResilienceSettings = field(default_factory=ResilienceSettings)
    """Caching and rate limits of the built-in providers, except the refresh interval."""
    proxies: Proxies = field(default_factory=Proxies)
    """The HTTP proxies of requests to vaults."""
    max_receive_bytes: int = DEFAULT_MAX_BYTES
    """The maximum size of a response of an external provider."""
    metrics_address: str = ":8085"
    """The address of /metrics."""
    health_address: str = ":8081"
    """The address of /healthz and /readyz."""
    status_page: tuple[str, int] | None = None
    """Host and port of the status page, a loopback address; None for no page."""
    audit: AuditSettings = field(default_factory=AuditSettings)
    """Where the accesses to vaults are recorded."""
    dev_vault: Path | None = None
    """The data folder of the development vault that receives all vault requests, or None."""

    @property
    def lease_name(self) -> str:
        """The name of the Lease: controllers with different names elect leaders of their own."""
        name = self.scope.controller_name
        return LEASE_NAME if name == DEFAULT_CONTROLLER_NAME else f"{LEASE_NAME}-{name}"
