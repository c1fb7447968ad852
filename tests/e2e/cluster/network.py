"""The network of the clusters: a namespace of its own, and the addresses in it.

The process of the tests moves into a network namespace that nothing leads out of, and takes along
whatever it starts. So no address, route or wire of the machine changes, nothing in a cluster can
reach beyond it, and all of it is removed with the last process.

Several clusters can run in it at once, because each takes the first number whose addresses are
free. Pods reach the API server and servers of a test by addresses of the loopback interface that
are not 127.x: those would lead into the pod itself.
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
"""Where Debian keeps the network plugins."""

_KEPT = Path("/var/lib/cni/results")
"""Where the library of network plugins keeps its state, for every caller."""

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
        """The range of the addresses of services; nothing but the first one is ever served."""
        return f"10.96.{self.number}.0/24"

    @property
    def api(self) -> str:
        """The API server listens here, and pods know it as the service `kubernetes`."""
        return f"10.96.{self.number}.1"

    @property
    def node(self) -> str:
        """The node; servers of a test that pods are to reach may listen here, too."""
        return f"10.97.{self.number}.1"

    @property
    def pods(self) -> str:
        """The range of the addresses of pods that have a network of their own."""
        return f"10.98.{self.number}.0/24"


def enter_own_network() -> None:
    """Move into a network namespace of our own, for good; downloads end here.

    The threads and processes that are started from now on are in it. Called before any thread is
    started, because those that run stay where they are.

    Raises:
        OSError: this user may not.
    """
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        error = ctypes.get_errno()
        raise OSError(error, f"no network namespace: {os.strerror(error)}")
    subprocess.run([Programs.of_system("ip"), "link", "set", "lo", "up"], check=True)


@contextmanager
def network() -> Iterator[Network]:
    """A network with addresses on the loopback interface until the block ends."""
    own = _NAMESPACE.readlink() != _AT_START
    assert own, "a cluster changes no network of the machine: call enter_own_network() first"
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
    """Write the folder of network configurations: each pod gets one wire to the host, no more.

    No address translation and no forwarding, so that neither iptables nor a setting of the host
    changes: a pod reaches the host, and nothing beyond.

    Args:
        folder: is made; takes the leases of the addresses as well.
        pods: the range of the addresses of the pods.
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
    """The files that the library of network plugins keeps of pods with a network in `folder`.

    Those of clusters of other processes come and go meanwhile.
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
