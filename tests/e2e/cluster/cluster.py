"""A single-node Kubernetes cluster, built by scripts/cluster/build.sh, as local processes.

async with running_cluster(tmp_path) as cluster:
    await cluster.kubectl.apply(pod)
    await cluster.kubectl("wait", "--for=condition=Ready", "pod/web")

It needs root for mounts and containers. When the block exits, also after an error, no process,
mount, control group, address or network namespace of the cluster remains.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.children import Children, ending_children
from tests.e2e.cluster.api_server import ApiAddress, ApiServer, start_api_server
from tests.e2e.cluster.cgroups import control_group
from tests.e2e.cluster.containerd import Containerd, running_containerd
from tests.e2e.cluster.kubectl import Kubectl
from tests.e2e.cluster.kubelet import NODE, Kubelet, NodeSettings, kubelet_root
from tests.e2e.cluster.network import Network, network, write_cni
from tests.e2e.cluster.programs import Programs, built_programs
from tests.e2e.cluster.waiting import eventually, must_run
from tests.fakes.mounts import mounted_below, unmount_below


@dataclass(frozen=True)
class Cluster:
    """A running cluster whose node is ready.

    Attributes:
        programs: the programs, including kubectl and helm.
        server: the API server, which can be stopped and started again.
        kubelet: can be stopped and started again.
        containerd: loads additional images.
        network: the addresses.
        kubelet_root: replaces `/var/lib/kubelet`; must be set in the values of a chart.
        control_group: the name of the one that holds all pods.
        node: the name of the node.
    """

    programs: Programs
    server: ApiServer
    kubelet: Kubelet
    containerd: Containerd
    network: Network
    kubelet_root: Path
    control_group: str
    node: str = NODE

    @property
    def kubectl(self) -> Kubectl:
        """Calls kubectl as an administrator."""
        return self.server.kubectl

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig of an administrator."""
        return self.server.kubeconfig

    @property
    def ca(self) -> Path:
        """The PEM file of the authority that signs every certificate of the cluster."""
        return self.server.authority.certificate


@asynccontextmanager
async def running_cluster(folder: Path) -> AsyncIterator[Cluster]:
    """A cluster that is ready for pods; removed after the block.

    Args:
        folder: for all files, with the logs in `logs`; must be absent or empty, and have a short
            path, because it contains sockets.
    """
    programs = await built_programs()
    folder.mkdir(parents=True, exist_ok=True)
    with _no_mounts_after(folder), network() as addresses:
        # Another test run in another network namespace uses the same numbers.
        group = f"keyferry-e2e-{os.getpid()}-{addresses.number}"
        with control_group(group) as group_path, kubelet_root(folder / "kubelet") as root:
            async with ending_children(folder / "logs") as children:
                address = ApiAddress(
                    addresses.api, 443, addresses.services, advertised=addresses.node
                )
                server = await start_api_server(programs, children, folder, address)
                _start_controllers(programs, children, server)
                cni = write_cni(folder / "cni", addresses.pods)
                async with running_containerd(children, folder / "c", cni=cni) as containerd:
                    settings = NodeSettings(
                        root, addresses.node, addresses.pods, containerd.socket, group_path
                    )
                    kubelet = Kubelet(programs, children, server, settings)
                    kubelet.start()
                    try:
                        cluster = Cluster(
                            programs, server, kubelet, containerd, addresses, root, group
                        )
                        await eventually(lambda: _ready_for_pods(cluster), "the node to be ready")
                        yield cluster
                    finally:
                        await kubelet.stop()


def _start_controllers(programs: Programs, children: Children, server: ApiServer) -> None:
    manager = server.kubeconfig_of("system:kube-controller-manager")
    scheduler = server.kubeconfig_of("system:kube-scheduler")
    children.start(
        "kube-controller-manager",
        programs.of_kubernetes("kube-controller-manager"),
        f"--kubeconfig={manager}",
        "--secure-port=0",
        "--leader-elect=false",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={server.token_key}",
        f"--root-ca-file={server.authority.certificate}",
        f"--cluster-signing-cert-file={server.authority.certificate}",
        f"--cluster-signing-key-file={server.authority.key}",
    )
    children.start(
        "kube-scheduler",
        programs.of_kubernetes("kube-scheduler"),
        f"--kubeconfig={scheduler}",
        "--secure-port=0",
        "--leader-elect=false",
    )


async def _ready_for_pods(cluster: Cluster) -> bool:
    """Return True if pods can be scheduled and the default service account exists.

    Raises:
        AssertionError: not ready; the message is the reason.
    """
    must_run(cluster.kubelet.child)
    node = await cluster.kubectl.get("node", cluster.node)
    conditions = {each["type"]: each["message"] for each in node["status"]["conditions"]}
    ready = {each["type"]: each["status"] for each in node["status"]["conditions"]}.get("Ready")
    assert "True" == ready, conditions.get("Ready")
    taints = [each["key"] for each in node["spec"].get("taints", [])]
    assert [] == taints, f"the node has the taints {taints}"
    await cluster.kubectl("get", "serviceaccount", "default")
    return True


@contextmanager
def _no_mounts_after(folder: Path) -> Iterator[None]:
    """Unmount what remains mounted after the processes were killed."""
    try:
        yield
    finally:
        if mounted_below(folder):
            unmount_below(folder)
