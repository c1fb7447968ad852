"""Nodes with one emulated Kubernetes API; each driver is called over a CSI socket.

async with running_api(home) as api, running_node(home, api, "node-1", provider) as node:
    node.api.put("secretproviderclasses", class_of("web", entry("db", "a")))
    node.schedule("web-0", "web")
    await node.publish("web", "web-0")
    assert {"value": "1"} == node.secret_values("db")
"""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyferry.aio.clock import SystemClock
from keyferry.driver.volumes.mounter import DirectoryMounter, Mounter
from keyferry.kubernetes.api.store import KubeStore, open_kube_store
from keyferry.proto import csi_pb2 as csi
from tests.fakes.clock import ManualClock
from tests.fakes.driver import NAMESPACE, Driver, running_driver
from tests.fakes.kube_api import KubeApiServer, class_manifest
from tests.fakes.provider import ScriptedProvider

WAIT_SECONDS = 20.0
DRIVER_NAME = "secrets-store.csi.k8s.io"


def secret_object(
    name: str, object_name: str, kind: str = "Opaque", **more: object
) -> dict[str, Any]:
    """Return an entry of `secretObjects` with one key, `value`."""
    data = [{"objectName": object_name, "key": "value"}]
    return {"secretName": name, "type": kind, "data": data, **more}


def scripted_class(
    name: str, *entries: Mapping[str, Any], parameters: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return a SecretProviderClass of the scripted provider."""
    manifest = class_manifest(name, provider="scripted")
    manifest["spec"]["secretObjects"] = list(entries)
    if parameters:
        manifest["spec"]["parameters"] = dict(parameters)
    return manifest


@dataclass
class Node:
    """A driver on a node.

    Attributes:
        driver: the driver.
        api: the API of the cluster.
        store: the object store of the driver.
        provider: its provider.
        name: the name of the node.
    """

    driver: Driver
    api: KubeApiServer
    store: KubeStore
    provider: ScriptedProvider
    name: str

    def schedule(
        self,
        pod: str,
        class_name: str,
        *,
        owner: str = "",
        phase: str = "Pending",
        terminating: bool = False,
        secret_ref: str = "",
    ) -> None:
        """Create a pod on this node; `owner` names its ReplicaSet."""
        volume: dict[str, Any] = {
            "driver": DRIVER_NAME,
            "volumeAttributes": {"secretProviderClass": class_name},
        }
        if secret_ref:
            volume["nodePublishSecretRef"] = {"name": secret_ref}
        metadata: dict[str, Any] = {"name": pod, "namespace": NAMESPACE, "uid": f"uid-of-{pod}"}
        if owner:
            reference = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner}
            metadata["ownerReferences"] = [{**reference, "uid": f"uid-of-{owner}"}]
        if terminating:
            metadata["deletionTimestamp"] = "2030-01-01T12:00:00Z"
        self.api.put(
            "pods",
            {
                "metadata": metadata,
                "spec": {
                    "nodeName": self.name,
                    "serviceAccountName": "web",
                    "volumes": [{"name": "secrets", "csi": volume}],
                },
                "status": {"phase": phase},
            },
        )

    async def publish(self, class_name: str, pod: str = "web-0") -> Path:
        """Publish the volume of a pod, as kubelet does."""
        message = self.driver.publish_request(class_name, pod)
        message.target_path = str(self.target(pod))
        manifest = self.api.get("pods", NAMESPACE, pod)
        for volume in manifest["spec"]["volumes"] if manifest else ():
            message.volume_context.update(volume["csi"]["volumeAttributes"])
        await self.driver.send_publish(message)
        return self.target(pod)

    def target(self, pod: str) -> Path:
        """Return the target path of the volume of a pod."""
        volumes = self.driver.home / "pods" / f"uid-of-{pod}" / "volumes"
        return volumes / "kubernetes.io~csi" / "secrets" / "mount"

    async def unpublish(self, pod: str = "web-0") -> None:
        """Unpublish the volume of a pod, as kubelet does."""
        message = csi.NodeUnpublishVolumeRequest(
            volume_id=f"csi-{pod}", target_path=str(self.target(pod))
        )
        await self.driver.call("Node/NodeUnpublishVolume", message, csi.NodeUnpublishVolumeResponse)

    async def settle(self) -> None:
        """Wait until the Secret controller is idle."""
        queue = self.driver.engine.secret_controller
        await wait_until(lambda: not len(queue), "the Secret controller")

    async def delete_pod(self, pod: str, class_name: str) -> None:
        """Delete a pod and its pod status, as kubelet and the garbage collector do."""
        await self.unpublish(pod)
        self.api.remove("pods", NAMESPACE, pod)
        self.collect_status(pod, class_name)

    def collect_status(self, pod: str, class_name: str) -> None:
        """Delete the pod status, as the garbage collector does."""
        name = f"{pod}-{NAMESPACE}-{class_name}"
        self.api.remove("secretproviderclasspodstatuses", NAMESPACE, name)

    # --- results ---------------------------------------------------------------------------------

    def secret(self, name: str) -> dict[str, Any] | None:
        """Return the manifest of a Secret, or None."""
        return self.api.get("secrets", NAMESPACE, name)

    def secret_values(self, name: str) -> dict[str, str] | None:
        """Return the decoded data of a Secret, or None."""
        manifest = self.secret(name)
        if manifest is None:
            return None
        return {key: b64decode(text).decode() for key, text in manifest["data"].items()}

    def owners(self, name: str) -> list[str]:
        """Return the kinds and names of the owners of a Secret."""
        manifest = self.secret(name) or {"metadata": {}}
        owners = manifest["metadata"].get("ownerReferences", [])
        return sorted(f"{owner['kind']} {owner['name']}" for owner in owners)

    async def events(self, reason: str) -> list[str]:
        """Return the messages and objects of all events with this reason."""
        await self.store.drain()
        return sorted(
            f"{event['involvedObject']['kind']} {event['involvedObject']['name']}: "
            f"{event['message']}"
            for event in self.api.all_of("events")
            if event["reason"] == reason
        )


async def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait until the condition is true."""
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition():  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"waited in vain for {what}") from None


@asynccontextmanager
async def running_node(
    home: Path,
    api: KubeApiServer,
    name: str = "node-1",
    *,
    provider: ScriptedProvider | None = None,
    provider_name: str = "scripted",
    rotation_interval: float | None = None,
    mounter: Mounter | None = None,
    secret_grace_period: float = 0.0,
    clock: ManualClock | None = None,
    driver_backoff: Callable[[int], float] = lambda _: 1.0,
) -> AsyncIterator[Node]:
    """Run a driver below `home` that is in sync with the API; by default it mounts no tmpfs.

    A provider with the name of a real one has the same names for its files.
    """
    provider = provider or ScriptedProvider()
    async with open_kube_store(
        api.kubeconfig, node=name, clock=SystemClock(), backoff=lambda _: 0.05
    ) as store:
        await store.wait_synced()
        async with running_driver(
            home,
            built_in={provider_name: provider},
            rotation_interval=rotation_interval,
            mounter=mounter or DirectoryMounter(),
            store=store,
            node=name,
            secret_grace_period=secret_grace_period,
            clock=clock,
            backoff=driver_backoff,
        ) as driver:
            yield Node(driver, api, store, provider, name)
