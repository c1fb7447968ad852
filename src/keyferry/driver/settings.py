"""The settings of `keyferry driver`. [pure]

Source: docs/reference/upstream-driver.md#flags
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from msgspec import Struct, field

from keyferry.content import DEFAULT_MAX_BYTES
from keyferry.kubernetes.names import DRIVER_NAME
from keyferry.net.proxies import Proxies
from keyferry.providers.settings import ProviderSettings
from keyferry.resilience.settings import ResilienceSettings
from keyferry.telemetry.audit_settings import AuditSettings

if TYPE_CHECKING:
    from pathlib import Path

"""The driver name of upstream, which pods refer to."""
DEFAULT_SECRET_GRACE_SECONDS = 600.0
DEFAULT_MAX_RECEIVE_BYTES = DEFAULT_MAX_BYTES


class VolumeKind(Enum):
    """Where volumes store their files."""

    TMPFS = "tmpfs"
    FOLDER = "folder"


class Isolation(Enum):
    """Where built-in providers and parse jobs run."""

    PROCESS = "process"
    """In unprivileged child processes."""
    NONE = "none"
    """In the driver."""


class DriverSettings(Struct, frozen=True):
    """The settings of one driver process. Durations in seconds."""

    endpoint: str = "unix://tmp/csi.sock"
    """The address of the CSI socket."""
    driver_name: str = DRIVER_NAME
    """The name of the CSI driver."""
    node_id: str = ""
    """The Kubernetes name of this node."""
    help_url: str = ""
    """The page that events of problems link to; "" for no links."""
    manifests: Path | None = None
    """The folder of the manifests store; None for the Kubernetes API.

    SecretProviderClasses are read from its files, everything else is written below it.
    """
    kubeconfig: Path | None = None
    """The kubeconfig for the Kubernetes API; None for the service account of the pod."""
    provider_folders: tuple[Path, ...] = ()
    """The folders with sockets of external providers, in order."""
    built_in: tuple[str, ...] = ()
    """The names of the providers that run in this process."""
    provider_settings: ProviderSettings = field(default_factory=ProviderSettings)
    """The settings of the built-in providers."""
    resilience: ResilienceSettings = field(default_factory=ResilienceSettings)
    """Caching and rate limits of the built-in providers, except the rotation interval."""
    proxies: Proxies = field(default_factory=Proxies)
    """The HTTP proxies of requests to vaults."""
    max_receive_bytes: int = DEFAULT_MAX_RECEIVE_BYTES
    """The maximum size of a response of an external provider, and of a volume."""
    allow_attribute_overrides: bool = True
    """Whether `volumeAttributes` of a pod may override parameters of its SecretProviderClass."""
    rotation_interval: float | None = None
    """Seconds between two refreshes of a volume; None when rotation is off."""
    secret_grace_period: float = DEFAULT_SECRET_GRACE_SECONDS
    """Seconds between the last use of a Secret and its deletion; 0 deletes it at once."""
    unused_secrets_file: Path | None = None
    """Keeps the names of unused Secrets across restarts; None to keep them in memory."""
    metrics_address: str = ":8095"
    """The address of /metrics, /healthz and /readyz."""
    health_address: str = ""
    """An additional address of /healthz and /readyz; "" for none."""
    registration_folder: Path | None = None
    """Kubelet's folder of plugin sockets; None when a sidecar registers the driver."""
    kubelet_registration_path: str = ""
    """The path of the CSI socket as kubelet sees it; "" for the path in `endpoint`."""
    startup_taint: str = ""
    """The key of the taint to remove from this node when the driver is ready; "" for none."""
    health_interval: float | None = None
    """Seconds between two health checks of external providers; None for no checks."""
    audit: AuditSettings = field(default_factory=AuditSettings)
    """Where the accesses to vaults are recorded."""
    volume_kind: VolumeKind = VolumeKind.TMPFS
    """Where volumes store their files."""
    isolation: Isolation = Isolation.NONE
    """Where built-in providers and parse jobs run."""
    kubelet_folder: str = "/var/lib/kubelet"
    """The folder of kubelet, which child processes and SecretProviderClasses cannot see."""
    dev_vault: Path | None = None
    """The data folder of the development vault that receives all vault requests, or None."""
