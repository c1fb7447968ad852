"""Keyferry installed as a user does: with Helm, from its image, with a development vault.

async with running_installation(folder) as installed:
    installed.vault.set_secret("contoso", "db-password", "s3cret")
    await installed.kubectl.apply(azure_class("web", {"db-password": "db"}), namespace="shop")
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from keyferry_devvault.model import EXCHANGE_AUDIENCE
from tests.e2e.cluster.cgroups import processes_of
from tests.e2e.cluster.cluster import Cluster, running_cluster
from tests.e2e.cluster.external_provider import E2eProvider, running_e2e_provider
from tests.e2e.cluster.keyferry_image import write_keyferry_archive
from tests.e2e.cluster.kubectl import Document, Kubectl
from tests.e2e.cluster.manifests import MACHINE, VAULT
from tests.fakes.devvault import DevVault, running_devvault

NAMESPACE = "kube-system"
"""The namespace of the driver."""

DRIVER = "app=secrets-store-csi-driver"
ROTATION_SECONDS = 5
REUSE_SECONDS = 15
"""Maximum age of cached content for a new pod (docs/concepts/caching-and-rate-limiting.md)."""
AUDIENCES = (EXCHANGE_AUDIENCE, "aud1", "aud2")
"""The audiences of the tokens that kubelet sends with each call."""

_CHART = Path(__file__).parents[3] / "charts" / "keyferry"
_HELM_SECONDS = 120


@dataclass
class Installation:
    """A cluster on which Keyferry is installed.

    Attributes:
        cluster: the cluster.
        vault: the development vault that the driver reads from.
        provider: an external provider behind a socket.
        values: the values of the chart.
        phases: the seconds of each installation step, by name.
    """

    cluster: Cluster
    vault: DevVault
    provider: E2eProvider
    values: dict[str, object] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)

    @property
    def kubectl(self) -> Kubectl:
        """Calls kubectl as an administrator."""
        return self.cluster.kubectl

    async def helm(self, *arguments: str) -> str:
        """Run helm in the namespace of the driver.

        Raises:
            AssertionError: the call failed; the message contains its standard error.
        """
        command = [
            str(self.cluster.programs.helm),
            f"--kubeconfig={self.cluster.kubeconfig}",
            f"--namespace={NAMESPACE}",
            *arguments,
        ]
        run = await asyncio.to_thread(
            subprocess.run,
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=_HELM_SECONDS,
        )
        assert 0 == run.returncode, f"helm {' '.join(arguments)}: {run.stderr}"
        return run.stdout

    async def install(self, **changes: object) -> None:
        """Install or upgrade the chart, and wait until the driver is ready."""
        path = self.cluster.kubelet_root.parent / "values.yaml"
        path.write_text(yaml.safe_dump(self.values | changes))
        await self.helm("upgrade", "--install", "keyferry", str(_CHART), f"--values={path}")
        await self.driver_is_ready()

    async def driver_is_ready(self) -> None:
        """Wait until the current version of the driver runs and kubelet has registered it."""
        await self.kubectl(
            "rollout", "status", "daemonset/keyferry", "--timeout=120s", f"--namespace={NAMESPACE}"
        )

    async def restart_driver(self) -> None:
        """Replace the driver pod, and wait until the new one is ready."""
        await self.kubectl("rollout", "restart", "daemonset/keyferry", f"--namespace={NAMESPACE}")
        await self.driver_is_ready()

    async def driver_pod(self) -> Document:
        """Return the pod of the driver."""
        pods = await self.kubectl.get("pods", f"--namespace={NAMESPACE}", f"--selector={DRIVER}")
        running = [pod for pod in pods["items"] if "deletionTimestamp" not in pod["metadata"]]
        assert 1 == len(running), f"{len(running)} drivers"
        return dict(running[0])

    def driver_process(self) -> int:
        """Return the process id of the driver on the host, which has child processes."""
        found = [pid for pid in processes_of(self.cluster.control_group) if _is_driver(pid)]
        processes = [pid for pid in found if _parent_of(pid) not in found]
        assert 1 == len(processes), f"{len(processes)} processes of the driver"
        return processes[0]

    def driver_memory(self) -> float:
        """Return the resident memory of the driver in MiB."""
        status = Path("/proc", str(self.driver_process()), "status").read_text()
        (kib,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(kib) / 1024

    async def driver_log(self) -> str:
        """Return the log of the running driver."""
        return await self.kubectl("logs", "daemonset/keyferry", f"--namespace={NAMESPACE}")

    async def make_namespace(self, name: str) -> None:
        """Create a namespace, and wait until pods can be created in it."""
        await self.kubectl("create", "namespace", name)
        await self.kubectl(
            "wait",
            "--for=create",
            "serviceaccount/default",
            f"--namespace={name}",
            "--timeout=120s",
        )


@asynccontextmanager
async def running_installation(folder: Path) -> AsyncIterator[Installation]:
    """A cluster with Keyferry installed in it, removed after the block.

    The driver uses the host network, because the development vault listens on loopback only.

    Args:
        folder: for all files; a short path.
    """
    phases: dict[str, float] = {}
    start = time.monotonic()
    async with running_cluster(folder) as cluster, running_devvault(folder) as vault:
        phases["cluster"] = time.monotonic() - start
        vault.add_managed_identity(MACHINE)
        vault.set_secret(VAULT, "db-password", "s3cret")
        vault.grant(VAULT, MACHINE, "get", "list")
        with _timed(phases, "image"):
            archive = write_keyferry_archive(folder / "keyferry.tar")
            await cluster.containerd.load(archive)
            archive.unlink()
        values = _values(cluster, folder / "devvault")
        providers = folder / "providers"
        providers.mkdir()
        async with running_e2e_provider(providers, *AUDIENCES) as provider:
            installed = Installation(cluster, vault, provider, values, phases)
            with _timed(phases, "install"):
                await installed.install()
            yield installed


@contextmanager
def _timed(phases: dict[str, float], name: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    phases[name] = time.monotonic() - start


def _is_driver(pid: int) -> bool:
    with suppress(OSError):
        return b"\0keyferry\0driver\0" in Path("/proc", str(pid), "cmdline").read_bytes()
    return False


def _parent_of(pid: int) -> int:
    with suppress(OSError):
        return int(Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _values(cluster: Cluster, vault: Path) -> dict[str, object]:
    return {
        "linux": {
            "image": {"repository": "keyferry.test/keyferry", "tag": "1", "pullPolicy": "Never"},
            "kubeletRootDir": str(cluster.kubelet_root),
            "providersDir": str(cluster.kubelet_root.parent / "providers"),
            "additionalProvidersDirs": [],
            "hostNetwork": True,
            "metricsAddr": f"{cluster.network.node}:8095",
            "extraArgs": ["--dev-vault=/devvault"],
            "volumes": [{"name": "devvault", "hostPath": {"path": str(vault)}}],
            "volumeMounts": [{"name": "devvault", "mountPath": "/devvault", "readOnly": True}],
        },
        "syncSecret": {"enabled": True, "clusterWide": True},
        "enableSecretRotation": True,
        "rotationPollInterval": f"{ROTATION_SECONDS}s",
        "tokenRequests": [{"audience": audience} for audience in AUDIENCES],
    }
