"""What `keyferry driver` can be told. [pure]

Source: docs/reference/upstream-driver.md#flags
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from keyferry.net.proxies import Proxies
from keyferry.providers.settings import ProviderSettings
from keyferry.resilience.settings import ResilienceSettings

if TYPE_CHECKING:
    from pathlib import Path

DRIVER_NAME = "secrets-store.csi.k8s.io"
"""That of upstream, by which pods name it."""
DEFAULT_MAX_RECEIVE_BYTES = 4194304
"""gRPC's own limit for a message."""


class VolumeKind(Enum):
    """How the files of volumes are kept."""

    TMPFS = "tmpfs"
    FOLDER = "folder"


@dataclass(frozen=True, slots=True)
class DriverSettings:
    """One running driver. Durations in seconds."""

    endpoint: str = "unix://tmp/csi.sock"
    """Where CSI is served."""
    driver_name: str = DRIVER_NAME
    """The name of the CSI driver."""
    node_id: str = ""
    """The Kubernetes name of this node."""
    manifests: Path | None = None
    """The folder of the manifests store; None for the Kubernetes API.

    Classes are read from its files, everything else is written below it.
    """
    kubeconfig: Path | None = None
    """Where and as whom the Kubernetes API is called; None for the service account of the pod."""
    provider_folders: tuple[Path, ...] = ()
    """Where provider sockets are looked for, in order."""
    built_in: tuple[str, ...] = ()
    """The providers that run in this process."""
    provider_settings: ProviderSettings = field(default_factory=ProviderSettings)
    """What they can be told."""
    resilience: ResilienceSettings = field(default_factory=ResilienceSettings)
    """How they spare the vaults; the interval of refreshes is that below."""
    proxies: Proxies = field(default_factory=Proxies)
    """What lies on the way to the vaults."""
    max_receive_bytes: int = DEFAULT_MAX_RECEIVE_BYTES
    """The largest reply of an external provider."""
    rotation_interval: float | None = None
    """None when rotation is off."""
    metrics_address: str = ":8095"
    """Where /metrics, /healthz and /readyz are served."""
    health_address: str = ""
    """Where /healthz and /readyz are served besides; "" for nowhere."""
    registration_folder: Path | None = None
    """Kubelet's folder of plugin sockets; None when a sidecar registers the driver."""
    kubelet_registration_path: str = ""
    """The path of the CSI socket as kubelet sees it; "" for that of the endpoint."""
    startup_taint: str = ""
    """The key of the taint that is taken from this node once the driver is ready; "" for none."""
    health_interval: float | None = None
    """How often external providers are asked for their version; None: never."""
    volume_kind: VolumeKind = VolumeKind.TMPFS
    """How the files of volumes are kept."""
    dev_vault: Path | None = None
    """The data folder of a development vault that all vault connections are redirected to."""
