"""One node of an emulated cluster: a driver process, and the calls that kubelet makes to it.

async with running_node(tmp_path) as node:
    node.vault.set_secret("contoso", "db-password", "s3cret")
    node.write_class("shop", {"db-password": "db"})
    driver = await node.start_driver()
    volume = node.volume("shop")
    await driver.publish(volume)
    assert {"db": (0o644, b"s3cret")} == volume.files()
    await driver.unpublish(volume)
"""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import socket
import stat
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import yaml

from keyferry.proto import csi_pb2 as csi
from keyferry_devvault.client import DevRedirect
from keyferry_devvault.request_log import RequestLog
from keyferry_devvault.storage.data import DevVaultData
from tests.e2e.children import PATIENCE_SECONDS, Child, Children, ending_children
from tests.fakes.devvault import DEFAULT_TENANT, DevVault
from tests.fakes.mounts import mounted_below, unmount_below

NAMESPACE = "shop"
_WRITE_SECONDS = 10.0  # a busy machine may write slowly
MACHINE = "11111111-0000-4000-8000-000000000001"
"""The managed identity of the node, which may read vault `contoso`."""

MACHINE_SIGNS_IN = {"useVMManagedIdentity": "true", "userAssignedIdentityID": MACHINE}

Files = dict[str, tuple[int, bytes]]
"""Mode and content by path."""


@dataclass(frozen=True)
class Volume:
    """One CSI volume of one pod.

    Attributes:
        class_name: the SecretProviderClass.
        pod: the name of the pod.
        uid: of the pod.
        path: the target path.
        context: volume context in addition to the standard keys, such as service account tokens.
        secrets: the data of the `nodePublishSecretRef`.
        namespace: of the pod.
    """

    class_name: str
    pod: str
    uid: str
    path: Path
    context: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    namespace: str = NAMESPACE

    def files(self) -> Files:
        """Return the files that a pod sees, of one version: `..data` is resolved once."""
        return files_below(self.path / (self.path / "..data").readlink())


LOCAL_VAULT_FLAGS = ("--allow-local-addresses", "--class-files-dirs=/")
"""They permit vaults on this machine, and their CAs in the folders of tests."""


class Driver:
    """A running `keyferry driver`, or a process with the same API, and kubelet's calls to it.

    Attributes:
        child: the process.
        metrics: `host:port` of its metrics page.
    """

    def __init__(self, child: Child, path: Path, metrics: str) -> None:
        self.child = child
        self.metrics = metrics
        # With the shared pool, the channel to a new driver would wait for the reconnect backoff of
        # the channel to a killed one on the same socket.
        self._path = path
        self._channel = grpc.aio.insecure_channel(
            f"unix:{path}", options=[("grpc.use_local_subchannel_pool", 1)]
        )

    async def answers(self) -> None:
        """Wait until the driver serves."""
        # gRPC itself reconnects only after a second, which would look like a slow start.
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self._listens():  # noqa: ASYNC110 - no event to wait for
                await asyncio.sleep(0.002)
        probe: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(
            "/csi.v1.Identity/Probe"
        )
        await probe(b"", wait_for_ready=True, timeout=PATIENCE_SECONDS)

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self._path)) == 0

    async def publish(self, volume: Volume) -> None:
        """Call NodePublishVolume as kubelet does for an inline volume."""
        context = {
            "secretProviderClass": volume.class_name,
            "csi.storage.k8s.io/pod.name": volume.pod,
            "csi.storage.k8s.io/pod.namespace": volume.namespace,
            "csi.storage.k8s.io/pod.uid": volume.uid,
            "csi.storage.k8s.io/serviceAccount.name": "web",
            "csi.storage.k8s.io/ephemeral": "true",
            **volume.context,
        }
        capability = csi.VolumeCapability(mount=csi.VolumeCapability.MountVolume())
        await self._call(
            "NodePublishVolume",
            csi.NodePublishVolumeRequest(
                volume_id=f"csi-{volume.uid}",
                target_path=str(volume.path),
                volume_capability=capability,
                readonly=True,
                volume_context=context,
                secrets=volume.secrets,
            ),
        )

    async def unpublish(self, volume: Volume) -> None:
        """Call NodeUnpublishVolume."""
        request = csi.NodeUnpublishVolumeRequest(
            volume_id=f"csi-{volume.uid}", target_path=str(volume.path)
        )
        await self._call("NodeUnpublishVolume", request)

    async def kill(self) -> None:
        """Send SIGKILL and wait for the exit; calls in flight fail."""
        self.child.send(signal.SIGKILL)
        await self.child.ends()

    async def stop(self) -> None:
        """Send SIGTERM and expect exit status 0."""
        await self.close()
        self.child.send(signal.SIGTERM)
        assert 0 == await self.child.ends(), self.child.text()

    async def close(self) -> None:
        """Close the connection to the socket."""
        await self._channel.close()

    async def _call(
        self,
        method: str,
        request: csi.NodePublishVolumeRequest | csi.NodeUnpublishVolumeRequest,
    ) -> None:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(
            f"/csi.v1.Node/{method}"
        )
        await call(request.SerializeToString())


class BareNode:
    """The folders and the driver of one node, without a vault.

    Attributes:
        folder: the parent folder of everything on the node.
        children: the processes.
        manifests: SecretProviderClasses, Secrets, pod statuses and events.
        socket: the socket of the driver.
        pods: the folder of the volumes.
    """

    def __init__(self, folder: Path, children: Children) -> None:
        self.folder = folder
        self.children = children
        self.manifests = folder / "manifests"
        self.socket = folder / "csi.sock"
        self.pods = folder / "pods"
        self._drivers: list[Driver] = []
        self.manifests.mkdir()

    def put_class(
        self, name: str, spec: Mapping[str, object], *, namespace: str = NAMESPACE
    ) -> Path:
        """Write a SecretProviderClass; return its file."""
        manifest = {
            "apiVersion": "secrets-store.csi.x-k8s.io/v1",
            "kind": "SecretProviderClass",
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        }
        path = self.manifests / f"{name}.yaml"
        path.write_text(yaml.safe_dump(manifest))
        return path

    def volume(
        self,
        class_name: str,
        *,
        pod: str = "web-0",
        context: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        namespace: str = NAMESPACE,
    ) -> Volume:
        """Return a volume of a new pod at kubelet's path; only its parent folder exists."""
        uid = str(uuid.uuid4())
        path = self.pods / uid / "volumes" / "kubernetes.io~csi" / "secrets" / "mount"
        path.parent.mkdir(parents=True)
        return Volume(class_name, pod, uid, path, context or {}, secrets or {}, namespace)

    async def start_driver(self, *flags: str) -> Driver:
        """Start `keyferry driver` and wait until it is ready."""
        child = self.children.start("driver", "keyferry", "driver", *self.driver_flags(), *flags)
        return await self.reach(child)

    def driver_flags(self) -> list[str]:
        """Return the flags of `keyferry driver` for this node."""
        return [
            f"--endpoint=unix://{self.socket}",
            "--nodeid=node-1",
            f"--manifests={self.manifests}",
            "--metrics-addr=127.0.0.1:0",
            f"--provider-volume={self.folder / 'providers'}",
            "--additional-provider-volume-paths=",
            *LOCAL_VAULT_FLAGS,
        ]

    async def reach(self, child: Child, *, after: int = 0) -> Driver:
        """Wait until the output of `child` after `after` reports readiness; return its driver."""
        ready = await child.says(r'"ready".*?"?metrics"?(?:=|: )"(?P<metrics>[^"]+)"', after=after)
        driver = Driver(child, self.socket, ready["metrics"])
        self._drivers.append(driver)
        return driver

    def secret(self, name: str) -> dict[str, bytes] | None:
        """Return the data of a Kubernetes Secret, or None if it does not exist."""
        path = self.manifests / "secrets" / NAMESPACE / f"{name}.yaml"
        if not path.exists():
            return None
        data: dict[str, str] = yaml.safe_load(path.read_text())["data"]
        return {key: base64.b64decode(value) for key, value in data.items()}

    def objects_in_status(self, volume: Volume) -> list[str] | None:
        """Return the object ids in the pod status of a volume, or None if it has no pod status."""
        folder = self.manifests / "secretproviderclasspodstatuses" / NAMESPACE
        path = folder / f"{volume.pod}-{NAMESPACE}-{volume.class_name}.yaml"
        if not path.exists():
            return None
        status = yaml.safe_load(path.read_text())["status"]
        assert (True, str(volume.path)) == (status["mounted"], status["targetPath"])
        return [one["id"] for one in status["objects"]]

    def left_overs(self, volume: Volume) -> list[str]:
        """Return what remains of a volume; nothing should after an unpublish."""
        remaining = [f"mount {path}" for path in mounted_below(volume.path.parent)]
        if os.path.lexists(volume.path):
            remaining.append(f"folder {volume.path}")
        if self.objects_in_status(volume) is not None:
            remaining.append("pod status")
        return remaining + [f"half-written {path}" for path in self._abandoned_files()]

    def _abandoned_files(self) -> list[Path]:
        """Return the temporary files that no process is writing.

        A driver may write the event of a deleted Secret after an unpublish.
        """
        found = list(self.manifests.rglob(".writing-*"))
        end = time.monotonic() + _WRITE_SECONDS
        while any(path.exists() for path in found) and time.monotonic() < end:
            time.sleep(0.02)
        return [path for path in found if path.exists()]

    async def close(self) -> None:
        """Close the connections to all drivers."""
        for driver in self._drivers:
            await driver.close()


class Node(BareNode):
    """A node whose vault is a development vault.

    Attributes:
        vault: runs in a separate process; its request log is empty.
    """

    def __init__(self, folder: Path, children: Children, vault: DevVault) -> None:
        super().__init__(folder, children)
        self.vault = vault

    def driver_flags(self) -> list[str]:
        """Return the flags of `keyferry driver` for this node."""
        return [*super().driver_flags(), f"--dev-vault={self.vault.data.folder}"]

    def write_class(
        self,
        name: str,
        paths: Mapping[str, str],
        *,
        secret: str = "",
        secret_type: str = "Opaque",
        fields: Mapping[str, Mapping[str, str]] | None = None,
        sign_in: Mapping[str, str] | None = None,
    ) -> None:
        """Write a SecretProviderClass for objects of vault `contoso`.

        Args:
            name: of the SecretProviderClass.
            paths: the file path of each object.
            secret: the Kubernetes Secret that all files are synced to, under their object names.
            secret_type: the type of that Secret.
            fields: additional fields by object name, such as `filePermission`.
            sign_in: the parameters of the identity mode; default: the node's managed identity.
        """
        objects = [
            {"objectName": object_name, "objectType": "secret", "objectAlias": path}
            | dict((fields or {}).get(object_name, {}))
            for object_name, path in paths.items()
        ]
        spec: dict[str, object] = {
            "provider": "azure",
            "parameters": {
                "keyvaultName": "contoso",
                "tenantID": DEFAULT_TENANT,
                "objects": yaml.safe_dump({"array": [yaml.safe_dump(one) for one in objects]}),
                **(MACHINE_SIGNS_IN if sign_in is None else sign_in),
            },
        }
        if secret:
            data = [{"objectName": path, "key": key} for key, path in paths.items()]
            spec["secretObjects"] = [{"secretName": secret, "type": secret_type, "data": data}]
        self.put_class(name, spec)


@asynccontextmanager
async def running_bare_node(folder: Path) -> AsyncIterator[BareNode]:
    """Run a node without a vault; on exit, kill its processes and unmount its volumes."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        async with ending_children(folder / "output") as children:
            node = BareNode(folder, children)
            try:
                yield node
            finally:
                await node.close()
    finally:
        unmount_below(folder)


@asynccontextmanager
async def running_node(folder: Path, *vault_flags: str) -> AsyncIterator[Node]:
    """Run a node with a development vault; on exit, kill its processes and unmount its volumes."""
    data_folder = folder / "devvault"
    try:
        async with ending_children(folder / "output") as children:
            with DevVaultData(data_folder) as data:
                child = children.start(
                    "vault", "keyferry", "devvault", "run", "--data", str(data_folder), *vault_flags
                )
                await child.says("listens")
                vault = DevVault(data, RequestLog(), DevRedirect.read(data_folder))
                vault.add_managed_identity(MACHINE)
                node = Node(folder, children, vault)
                try:
                    yield node
                finally:
                    await node.close()
    finally:
        unmount_below(folder)


def files_below(folder: Path) -> Files:
    """Return mode and content of every file below `folder`."""
    return {
        path.relative_to(folder).as_posix(): (
            stat.S_IMODE(path.stat().st_mode),
            path.read_bytes(),
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
