"""The SecretSync controller, installed with Helm on a real cluster, without the driver.

async with running_sync_installation(folder) as installed:
    await installed.kubectl.apply(secret_sync("web"), namespace="shop")
    await installed.ready("web")
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from tests.e2e.cluster.cluster import Cluster, running_cluster
from tests.e2e.cluster.cluster_auth import enable_cluster_auth, kubernetes_role
from tests.e2e.cluster.keyferry_image import write_keyferry_archive
from tests.e2e.cluster.kubectl import Document, Kubectl
from tests.e2e.cluster.manifests import secret_provider_class
from tests.e2e.cluster.waiting import eventually
from tests.e2e.vault.classes import entry
from tests.e2e.vault.engines import enable_kv, put_kv
from tests.e2e.vault.server import VaultServer, running_server

NAMESPACE = "keyferry"
SHOP = "shop"
_CHART = Path(__file__).parents[3] / "charts" / "keyferry"
_HELM_SECONDS = 120


@dataclass
class Installed:
    """A cluster on which only the controller is installed, and an OpenBao server."""

    cluster: Cluster
    openbao: VaultServer

    @property
    def kubectl(self) -> Kubectl:
        return self.cluster.kubectl

    async def helm(self, *arguments: str) -> None:
        command = [
            str(self.cluster.programs.helm),
            f"--kubeconfig={self.cluster.kubeconfig}",
            f"--namespace={NAMESPACE}",
            *arguments,
        ]
        run = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=_HELM_SECONDS
        )
        assert 0 == run.returncode, f"helm {' '.join(arguments)}: {run.stderr}"

    async def install(self, folder: Path, **sync: object) -> None:
        """Install or upgrade the chart, and wait for both replicas."""
        path = folder / "values.yaml"
        path.write_text(yaml.safe_dump(_values(self.openbao, sync)))
        await self.helm(
            "upgrade",
            "--install",
            "keyferry",
            str(_CHART),
            f"--values={path}",
            "--create-namespace",
        )
        await self.kubectl(
            *("rollout", "status", "deployment/keyferry-sync", f"--namespace={NAMESPACE}"),
            "--timeout=180s",
        )

    async def ready(self, name: str, namespace: str = SHOP) -> None:
        await self.kubectl(
            *("wait", "--for=condition=Ready", f"secretsync/{name}", f"--namespace={namespace}"),
            "--timeout=60s",
        )

    async def condition(self, name: str, namespace: str, said: str) -> None:
        """Wait until the message of Ready contains a text."""

        async def found() -> bool | None:
            sync = await self.kubectl.get("secretsync", name, f"--namespace={namespace}")
            messages = [each["message"] for each in sync["status"]["conditions"]]
            return any(said in message for message in messages) or None

        await eventually(found, f"SecretSync {name} to say {said!r}")

    async def secret(self, name: str) -> Document:
        return await self.kubectl.get("secret", name, f"--namespace={SHOP}")


def _values(openbao: VaultServer, sync: dict[str, object]) -> dict[str, object]:
    image = {"repository": "keyferry.test/keyferry", "tag": "1", "pullPolicy": "Never"}
    ca = {"name": "VAULT_CACERT_BYTES", "value": openbao.ca.read_text()}
    return {
        "driver": {"enabled": False},
        "linux": {"image": image},
        "builtinProviders": ["vault"],
        "vault": {"allowedAddresses": [urlsplit(openbao.address).hostname]},
        "secretSync": {
            "enabled": True,
            "namespaces": [SHOP],
            "tokenRequests": [{"audience": "vault"}],
            "extraEnv": [ca],
            **sync,
        },
    }


@asynccontextmanager
async def running_sync_installation(folder: Path) -> AsyncIterator[Installed]:
    """A cluster with the controller and an OpenBao server, removed after the block.

    The namespaces `shop`, which the controller may use, and `other` have the service account and
    the SecretProviderClass `web`.

    Args:
        folder: for all files; a short path.
    """
    async with (
        running_cluster(folder) as cluster,
        running_server(folder / "bao", host=cluster.network.node) as openbao,
    ):
        archive = write_keyferry_archive(folder / "keyferry.tar")
        await cluster.containerd.load(archive)
        archive.unlink()
        found = Installed(cluster, openbao)
        await enable_cluster_auth(openbao, cluster.server)
        await enable_kv(openbao, "secret", version=2)
        await put_kv(openbao, "secret/data/db", password="s3cret")
        for namespace in (SHOP, "other"):
            await found.kubectl("create", "namespace", namespace)
            await found.kubectl("create", "serviceaccount", "web", f"--namespace={namespace}")
        await kubernetes_role(openbao, "web", "secret/data/db", namespace=SHOP, account="web")
        parameters = {
            "vaultAddress": openbao.address,
            "roleName": "web",
            "audience": "vault",
            "objects": yaml.safe_dump([entry("db", "secret/data/db", "password")]),
        }
        await found.install(folder)
        spc = secret_provider_class("web", "vault", parameters)
        await found.kubectl.apply(spc, namespace=SHOP)
        await found.kubectl.apply(spc, namespace="other")
        yield found


def secret_sync(name: str, **changes: object) -> Document:
    return {
        "apiVersion": "secret-sync.x-k8s.io/v1alpha1",
        "kind": "SecretSync",
        "metadata": {"name": name},
        "spec": {
            "secretProviderClassName": "web",
            "serviceAccountName": "web",
            "secretObject": {
                "type": "Opaque",
                "data": [{"sourcePath": "db", "targetKey": "password"}],
            },
            **changes,
        },
    }
