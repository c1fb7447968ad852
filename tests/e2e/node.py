"""One node of a simulated cluster: a driver process, and the calls of kubelet.

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
        path: where kubelet wants it.
        context: what kubelet says beyond the usual, such as service-account tokens.
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
        """What a pod sees. `..data` is resolved once, so that the files are of one moment."""
        return files_below(self.path / (self.path / "..data").readlink())


class Driver:
    """A running `keyferry driver`, or a process that serves the same, and kubelet's calls to it.

    Attributes:
        child: the process.
        metrics: `host:port` of its metrics page.
    """

    def __init__(self, child: Child, path: Path, metrics: str) -> None:
        self.child = child
        self.metrics = metrics
        # The shared pool would make a new driver wait until a killed one at the same place is
        # tried again.
        self._path = path
        self._channel = grpc.aio.insecure_channel(
            f"unix:{path}", options=[("grpc.use_local_subchannel_pool", 1)]
        )

    async def answers(self) -> None:
        """Wait until it serves."""
        # gRPC by itself looks again after a whole second, which would pass for a slow start.
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self._listens():  # noqa: ASYNC110 - a starting process sends no notification
                await asyncio.sleep(0.002)
        probe: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(
            "/csi.v1.Identity/Probe"
        )
        await probe(b"", wait_for_ready=True, timeout=PATIENCE_SECONDS)

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as knock:
            return knock.connect_ex(str(self._path)) == 0

    async def publish(self, volume: Volume) -> None:
        """NodePublishVolume, as kubelet asks for an inline volume."""
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
        """NodeUnpublishVolume."""
        request = csi.NodeUnpublishVolumeRequest(
            volume_id=f"csi-{volume.uid}", target_path=str(volume.path)
        )
        await self._call("NodeUnpublishVolume", request)

    async def kill(self) -> None:
        """`kill -9`; calls in flight fail then."""
        self.child.send(signal.SIGKILL)
        await self.child.ends()

    async def stop(self) -> None:
        """SIGTERM, and the orderly end that follows."""
        await self.close()
        self.child.send(signal.SIGTERM)
        assert 0 == await self.child.ends(), self.child.text()

    async def close(self) -> None:
        """Close the connection."""
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
    """The folders and the driver of one node; its vault is somebody else's.

    Attributes:
        folder: everything is below it.
        children: the processes.
        manifests: classes, Secrets, pod statuses and events.
        socket: where the driver serves.
    """

    def __init__(self, folder: Path, children: Children) -> None:
        self.folder = folder
        self.children = children
        self.manifests = folder / "manifests"
        self.socket = folder / "csi.sock"
        self.pods = folder / "pods"
        self._drivers: list[Driver] = []
        self.manifests.mkdir()

    def put_class(self, name: str, spec: Mapping[str, object]) -> Path:
        """Have a class; returns its file."""
        manifest = {
            "apiVersion": "secrets-store.csi.x-k8s.io/v1",
            "kind": "SecretProviderClass",
            "metadata": {"name": name, "namespace": NAMESPACE},
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
    ) -> Volume:
        """A volume of a new pod, where kubelet would put it; all but the last folder is there."""
        uid = str(uuid.uuid4())
        path = self.pods / uid / "volumes" / "kubernetes.io~csi" / "secrets" / "mount"
        path.parent.mkdir(parents=True)
        return Volume(class_name, pod, uid, path, context or {}, secrets or {})

    async def start_driver(self, *flags: str) -> Driver:
        """Start `keyferry driver` and wait until it is ready."""
        child = self.children.start("driver", "keyferry", "driver", *self.driver_flags(), *flags)
        return await self.reach(child)

    def driver_flags(self) -> list[str]:
        """The flags that fit this node."""
        return [
            f"--endpoint=unix://{self.socket}",
            "--nodeid=node-1",
            f"--manifests={self.manifests}",
            "--metrics-addr=127.0.0.1:0",
            f"--provider-volume={self.folder / 'providers'}",
            "--additional-provider-volume-paths=",
        ]

    async def reach(self, child: Child, *, after: int = 0) -> Driver:
        """The driver that `child` serves, once its output beyond `after` says that it is ready."""
        ready = await child.says(r'"ready".*?"?metrics"?(?:=|: )"(?P<metrics>[^"]+)"', after=after)
        driver = Driver(child, self.socket, ready["metrics"])
        self._drivers.append(driver)
        return driver

    def secret(self, name: str) -> dict[str, bytes] | None:
        """The data of a Kubernetes Secret, or None."""
        path = self.manifests / "secrets" / NAMESPACE / f"{name}.yaml"
        if not path.exists():
            return None
        data: dict[str, str] = yaml.safe_load(path.read_text())["data"]
        return {key: base64.b64decode(value) for key, value in data.items()}

    def objects_in_status(self, volume: Volume) -> list[str] | None:
        """The object ids in the pod status of a volume; None when it has none."""
        folder = self.manifests / "secretproviderclasspodstatuses" / NAMESPACE
        path = folder / f"{volume.pod}-{NAMESPACE}-{volume.class_name}.yaml"
        if not path.exists():
            return None
        status = yaml.safe_load(path.read_text())["status"]
        assert (True, str(volume.path)) == (status["mounted"], status["targetPath"])
        return [one["id"] for one in status["objects"]]

    def left_overs(self, volume: Volume) -> list[str]:
        """Whatever is still there of a volume; nothing should be after an unpublish."""
        found = [f"mount {path}" for path in mounted_below(volume.path.parent)]
        if os.path.lexists(volume.path):
            found.append(f"folder {volume.path}")
        if self.objects_in_status(volume) is not None:
            found.append("pod status")
        found += [f"half-written {path}" for path in self.manifests.rglob(".writing-*")]
        return found

    async def close(self) -> None:
        """Close all connections."""
        for driver in self._drivers:
            await driver.close()


class Node(BareNode):
    """A node whose vault is a development vault.

    Attributes:
        vault: a process too; its journal stays empty.
    """

    def __init__(self, folder: Path, children: Children, vault: DevVault) -> None:
        super().__init__(folder, children)
        self.vault = vault

    def driver_flags(self) -> list[str]:
        """The flags that fit this node."""
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
        """Have a class that delivers objects of vault `contoso`.

        Args:
            name: of the class.
            paths: the file path of each object.
            secret: the Kubernetes Secret that mirrors all files, each under its object's name.
            secret_type: the type of that Secret.
            fields: further fields of some objects, such as `filePermission`.
            sign_in: the parameters of the identity mode, of the machine's identity if left out.
        """
        objects = [
            {"objectName": of, "objectType": "secret", "objectAlias": path}
            | dict((fields or {}).get(of, {}))
            for of, path in paths.items()
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
            data = [{"objectName": path, "key": of} for of, path in paths.items()]
            spec["secretObjects"] = [{"secretName": secret, "type": secret_type, "data": data}]
        self.put_class(name, spec)


@asynccontextmanager
async def running_bare_node(folder: Path) -> AsyncIterator[BareNode]:
    """A node without a vault; every process and mount below `folder` ends with it."""
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
    """A node with a development vault; every process and mount below `folder` ends with it."""
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
    """Every file below `folder`."""
    return {
        path.relative_to(folder).as_posix(): (
            stat.S_IMODE(path.stat().st_mode),
            path.read_bytes(),
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
