"""Keyferry as a user installs it: by Helm, from its image, with a development vault to read from.

async with running_installation(folder) as installed:
    installed.vault.set_secret("contoso", "db-password", "s3cret")
    await installed.kubectl.apply(azure_class("shop", "web", {"db-password": "db"}))
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from keyferry.devvault.model import EXCHANGE_AUDIENCE
from tests.e2e.cluster.cluster import Cluster, running_cluster
from tests.e2e.cluster.images import BUSYBOX
from tests.e2e.cluster.keyferry_image import write_keyferry_archive
from tests.e2e.cluster.kubectl import Document, Kubectl
from tests.fakes.devvault import DEFAULT_TENANT, DevVault, running_devvault

NAMESPACE = "kube-system"
"""Where the driver runs."""

MACHINE = "11111111-0000-4000-8000-000000000001"
"""The managed identity of the node, which may read the vault `contoso`."""

VAULT = "contoso"
DRIVER = "app=secrets-store-csi-driver"
ROTATION_SECONDS = 5

_CHART = Path(__file__).parents[3] / "charts" / "keyferry"
_HELM_SECONDS = 120


@dataclass
class Installation:
    """A cluster on which Keyferry is installed.

    Attributes:
        cluster: it.
        vault: the driver reads from it.
        values: of the chart.
    """

    cluster: Cluster
    vault: DevVault
    values: dict[str, object] = field(default_factory=dict)

    @property
    def kubectl(self) -> Kubectl:
        """Calls kubectl as an administrator."""
        return self.cluster.kubectl

    async def helm(self, *arguments: str) -> str:
        """Run helm in the namespace of the driver.

        Raises:
            AssertionError: it failed; the message is what it said.
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
        """Install the chart, or upgrade what is installed, and wait until the driver is ready."""
        path = self.cluster.kubelet_root.parent / "values.yaml"
        path.write_text(yaml.safe_dump(self.values | changes))
        await self.helm("upgrade", "--install", "keyferry", str(_CHART), f"--values={path}")
        await self.driver_is_ready()

    async def driver_is_ready(self) -> None:
        """Wait until the driver that is wanted now runs, and kubelet knows it."""
        await self.kubectl(
            "rollout", "status", "daemonset/keyferry", "--timeout=55s", f"--namespace={NAMESPACE}"
        )

    async def driver_pod(self) -> Document:
        """The pod of the driver."""
        pods = await self.kubectl.get("pods", f"--namespace={NAMESPACE}", f"--selector={DRIVER}")
        running = [pod for pod in pods["items"] if "deletionTimestamp" not in pod["metadata"]]
        assert 1 == len(running), f"{len(running)} drivers"
        return dict(running[0])

    async def driver_log(self) -> str:
        """What the driver that runs now has said."""
        return await self.kubectl("logs", "daemonset/keyferry", f"--namespace={NAMESPACE}")

    async def make_namespace(self, name: str) -> None:
        """Make a namespace, and wait until pods can be made in it."""
        await self.kubectl("create", "namespace", name)
        await self.kubectl(
            "wait", "--for=create", "serviceaccount/default", f"--namespace={name}", "--timeout=50s"
        )

    async def ready(self, name: str, *, namespace: str, seconds: int = 50) -> None:
        """Wait until a pod is ready."""
        await self.kubectl(
            "wait",
            "--for=condition=Ready",
            f"pod/{name}",
            f"--namespace={namespace}",
            f"--timeout={seconds}s",
        )

    async def run_in(self, pod: str, *command: str, namespace: str) -> str:
        """What a command in a pod prints."""
        return await self.kubectl("exec", pod, f"--namespace={namespace}", "--", *command)


def azure_class(
    namespace: str,
    name: str,
    objects: Mapping[str, str],
    *,
    secret_objects: list[Document] | None = None,
    **parameters: str,
) -> Document:
    """A class of secrets of the vault, read as the managed identity of the node.

    Args:
        namespace: of the class.
        name: of the class.
        objects: alias by name of the secret; the alias "" is none.
        secret_objects: the entries of `secretObjects`.
        parameters: take the place of those of the managed identity.
    """
    entries = [
        yaml.safe_dump({"objectName": secret, "objectType": "secret", "objectAlias": alias})
        for secret, alias in objects.items()
    ]
    who = parameters or {"useVMManagedIdentity": "true", "userAssignedIdentityID": MACHINE}
    spec: Document = {
        "provider": "azure",
        "parameters": {
            "keyvaultName": VAULT,
            "tenantID": DEFAULT_TENANT,
            "objects": yaml.safe_dump({"array": entries}),
            **who,
        },
    }
    if secret_objects:
        spec["secretObjects"] = secret_objects
    return {
        "apiVersion": "secrets-store.csi.x-k8s.io/v1",
        "kind": "SecretProviderClass",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def pod_spec(*classes: str, command: str = "sleep 3600", **spec: object) -> Document:
    """The spec of a pod with a volume of each class at `/mnt/CLASS`."""
    return {
        "terminationGracePeriodSeconds": 0,
        "containers": [
            {
                "name": "main",
                "image": BUSYBOX,
                "imagePullPolicy": "Never",
                "command": ["sh", "-c", command],
                "volumeMounts": [
                    {"name": name, "mountPath": f"/mnt/{name}", "readOnly": True}
                    for name in classes
                ],
            }
        ],
        "volumes": [
            {
                "name": name,
                "csi": {
                    "driver": "secrets-store.csi.k8s.io",
                    "readOnly": True,
                    "volumeAttributes": {"secretProviderClass": name},
                },
            }
            for name in classes
        ],
        **spec,
    }


def pod(namespace: str, name: str, *classes: str, **spec: object) -> Document:
    """A pod with a volume of each class; see `pod_spec`."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": pod_spec(*classes, **spec),  # type: ignore[arg-type]
    }


@asynccontextmanager
async def running_installation(folder: Path) -> AsyncIterator[Installation]:
    """A cluster with Keyferry installed in it, all gone when the block ends.

    The driver is on the network of the node, because the development vault listens there on
    loopback only.

    Args:
        folder: takes everything; a short path.
    """
    async with running_cluster(folder) as cluster, running_devvault(folder) as vault:
        vault.add_managed_identity(MACHINE)
        vault.set_secret(VAULT, "db-password", "s3cret")
        vault.grant(VAULT, MACHINE, "get", "list")
        archive = write_keyferry_archive(
            folder / "keyferry.tar", cluster.programs.kubernetes.parent
        )
        await cluster.containerd.load(archive)
        archive.unlink()
        installed = Installation(cluster, vault, _values(cluster, folder / "devvault"))
        await installed.install()
        yield installed


def _values(cluster: Cluster, vault: Path) -> dict[str, object]:
    return {
        "linux": {
            "image": {"repository": "keyferry.test/keyferry", "tag": "1", "pullPolicy": "Never"},
            "kubeletRootDir": str(cluster.kubelet_root),
            "providersDir": str(cluster.kubelet_root.parent / "providers"),
            "additionalProvidersDirs": [],
            "hostNetwork": True,
            "metricsAddr": "127.0.0.1:8095",
            "extraArgs": ["--dev-vault=/devvault"],
            "volumes": [{"name": "devvault", "hostPath": {"path": str(vault)}}],
            "volumeMounts": [{"name": "devvault", "mountPath": "/devvault", "readOnly": True}],
        },
        "syncSecret": {"enabled": True, "clusterWide": True},
        "enableSecretRotation": True,
        "rotationPollInterval": f"{ROTATION_SECONDS}s",
        "tokenRequests": [{"audience": EXCHANGE_AUDIENCE}],
    }
