"""The kubelet of the single node."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.e2e.children import Child, Children
from tests.e2e.cluster.api_server import ADMINISTRATORS, ApiServer
from tests.e2e.cluster.programs import Programs

NODE = "node-1"
"""The name of the node."""

MAX_PODS = 120
"""A few more than the default of 110, for the pods of the driver."""

_LOG_LINKS = Path("/var/log/containers")


@dataclass(frozen=True)
class NodeSettings:
    """The node-specific settings of kubelet.

    Attributes:
        root: the root folder of kubelet instead of `/var/lib/kubelet`.
        address: of the node.
        pods: the CIDR of its pods.
        containerd: the socket of containerd.
        control_group: the parent group of all pods.
    """

    root: Path
    address: str
    pods: str
    containerd: Path
    control_group: str


class Kubelet:
    """A kubelet that can be stopped and started again while its pods keep running."""

    def __init__(
        self, programs: Programs, children: Children, server: ApiServer, node: NodeSettings
    ) -> None:
        self._programs = programs
        self._children = children
        self._child: Child | None = None
        self._kubeconfig = server.kubeconfig_of(f"system:node:{NODE}", group="system:nodes")
        self._config = node.root.parent / "kubelet.yaml"
        self._config.write_text(yaml.safe_dump(_configuration(server, node)))
        self._node = node

    @property
    def child(self) -> Child:
        """The most recently started process."""
        assert self._child is not None
        return self._child

    def start(self) -> None:
        """Start kubelet; the node becomes ready some seconds later."""
        self._child = self._children.start(
            "kubelet",
            self._programs.of_kubernetes("kubelet"),
            f"--config={self._config}",
            f"--kubeconfig={self._kubeconfig}",
            f"--root-dir={self._node.root}",
            f"--cert-dir={self._node.root.parent / 'pki'}",
            f"--hostname-override={NODE}",
            f"--node-ip={self._node.address}",
        )

    async def stop(self) -> None:
        """Kill kubelet; pods and their volumes are not affected."""
        self.child.send(signal.SIGKILL)
        await self.child.ends()


@contextmanager
def kubelet_root(folder: Path) -> Iterator[Path]:
    """Create a root folder with shared mount propagation, as the driver needs it."""
    mount, unmount = Programs.of_system("mount"), Programs.of_system("umount")
    folder.mkdir()
    subprocess.run([mount, "--bind", str(folder), str(folder)], check=True)
    try:
        subprocess.run([mount, "--make-shared", str(folder)], check=True)
        yield folder
    finally:
        subprocess.run([unmount, "--recursive", "--lazy", str(folder)], check=False)
        _remove_log_links(folder.parent)


def _remove_log_links(folder: Path) -> None:
    """Remove the links to container logs, which kubelet always creates in the same folder."""
    for link in _LOG_LINKS.glob("*.log"):
        if link.is_symlink() and link.readlink().is_relative_to(folder):
            link.unlink()


def _configuration(server: ApiServer, node: NodeSettings) -> dict[str, object]:
    certificate, key = server.authority.issue(
        "kubelet-server", user=NODE, group=ADMINISTRATORS, addresses=(NODE, node.address)
    )
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "healthzPort": 0,
        "tlsCertFile": str(certificate),
        "tlsPrivateKeyFile": str(key),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(server.authority.certificate)},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{node.containerd}",
        "podLogsDir": str(node.root.parent / "pod-logs"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": node.control_group,
        "failCgroupV1": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "podCIDR": node.pods,
        "maxPods": MAX_PODS,
        "clusterDNS": [],
        "resolvConf": "",
        # The disk of a developer may be nearly full, and kubelet must not tune the machine.
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
        },
        "imageGCHighThresholdPercent": 100,
        "makeIPTablesUtilChains": False,
        "protectKernelDefaults": False,
        # No rate limits, so that pods start and stop without delay.
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "kubeAPIQPS": 500,
        "kubeAPIBurst": 500,
        "syncFrequency": "10s",
        "shutdownGracePeriod": "0s",
        "volumePluginDir": str(node.root / "volume-plugins"),
        "nodeStatusUpdateFrequency": "5s",
    }
