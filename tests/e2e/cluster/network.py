"""The network of the clusters: a separate network namespace, and the addresses in it.

The test process and all its children move into a network namespace without a route to the outside.
So no address, route or interface of the machine changes, no cluster can reach the outside, and the
namespace is removed with the last process.

Several clusters can run in it at the same time, because each takes the first number whose addresses
are free. Pods reach the API server and the servers of a test by addresses of the loopback interface
that are not 127.x, which would be the pod itself.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.cluster.programs import Programs

PLUGINS = "/usr/lib/cni"
"""The folder of the network plugins on Debian."""

_KEPT = Path("/var/lib/cni/results")
"""The folder where the CNI library stores its state, for every caller."""

_CLONE_NEWNET = 0x40000000
_NAMESPACE = Path("/proc/thread-self/ns/net")
_AT_START = _NAMESPACE.readlink()


@dataclass(frozen=True)
class Network:
    """The addresses of the cluster with this number.

    Attributes:
        number: from 0 to 255.
    """

    number: int

    @property
    def services(self) -> str:
        """The CIDR of services; only the first address is ever served."""
        return f"10.96.{self.number}.0/24"

    @property
    def api(self) -> str:
        """The address of the API server, which is the service `kubernetes` for pods."""
        return f"10.96.{self.number}.1"

    @property
    def node(self) -> str:
        """The address of the node; servers of a test that pods must reach may also listen here."""
        return f"10.97.{self.number}.1"

    @property
    def pods(self) -> str:
        """The CIDR of pods without the host network."""
        return f"10.98.{self.number}.0/24"


def enter_own_network() -> None:
    """Move permanently into a new network namespace; downloads are no longer possible.

    Threads and processes that start afterwards are in it. Call this before any thread starts,
    because running threads stay in the old namespace.

    Raises:
        OSError: the user has no permission.
    """
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        error = ctypes.get_errno()
        raise OSError(error, f"no network namespace: {os.strerror(error)}")
    subprocess.run([Programs.of_system("ip"), "link", "set", "lo", "up"], check=True)


@contextmanager
def network() -> Iterator[Network]:
    """Add the addresses of a cluster to the loopback interface while the block runs."""
    own = _NAMESPACE.readlink() != _AT_START
    assert own, (
        "a cluster must not change the network of the machine: call enter_own_network() first"
    )
    ip = Programs.of_system("ip")
    taken = _addresses(ip)
    chosen = next(each for each in map(Network, range(256)) if not {each.api, each.node} & taken)
    addresses = [f"{address}/32" for address in (chosen.api, chosen.node)]
    try:
        for address in addresses:
            subprocess.run([ip, "address", "add", address, "dev", "lo"], check=True)
        yield chosen
    finally:
        for address in addresses:
            subprocess.run(
                [ip, "address", "delete", address, "dev", "lo"], check=False, capture_output=True
            )


def write_cni(folder: Path, pods: str) -> Path:
    """Write the folder of CNI configurations: each pod gets only a point-to-point link to the host.

    There is no address translation and no forwarding, so neither iptables nor a setting of the
    host changes: a pod can reach the host only.

    Args:
        folder: is created; also for the leases of the addresses.
        pods: the CIDR of the pods.
    """
    configurations = folder / "net.d"
    configurations.mkdir(parents=True)
    wire = {
        "type": "ptp",
        "ipMasq": False,
        "ipam": {
            "type": "host-local",
            "dataDir": str(folder / "leases"),
            "ranges": [[{"subnet": pods}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    document = {"cniVersion": "0.4.0", "name": "keyferry", "plugins": [wire]}
    (configurations / "10-keyferry.conflist").write_text(json.dumps(document))
    return configurations


def kept_networks(folder: Path) -> list[Path]:
    """Return the state files of the CNI library for pods with a network in `folder`.

    Other processes may create and remove the files of their clusters meanwhile.
    """
    found: list[Path] = []
    for path in _KEPT.glob("*"):
        with suppress(FileNotFoundError, ValueError):
            kept = json.loads(path.read_text())
            if f"{folder}/" in base64.b64decode(kept["config"]).decode():
                found.extend(_KEPT.glob(f"*-{kept['containerId']}-*"))
    return found


def _addresses(ip: str) -> set[str]:
    run = subprocess.run([ip, "--json", "address"], capture_output=True, text=True, check=True)
    return {info["local"] for link in json.loads(run.stdout) for info in link.get("addr_info", [])}
