"""The driver in the process of the test, called over a real CSI socket as kubelet calls it.

async with running_driver(mount_home, built_in={"scripted": provider}) as driver:
    driver.write_class("web", provider="scripted")
    target = await driver.publish("web")
    assert {"a": b"1"} == read_through_links(target)
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

import grpc
import yaml
from google.protobuf.message import Message

from keyferry.aio.clock import SystemClock
from keyferry.driver.csi import CsiServices
from keyferry.driver.engine import Engine, EngineDependencies, running_engine
from keyferry.driver.providers import Providers
from keyferry.driver.status.expiry_monitor import ExpiryMonitor
from keyferry.driver.volumes.mounter import DirectoryMounter, Mounter, TmpfsMounter, can_mount
from keyferry.kubernetes import ObjectStore
from keyferry.kubernetes.files.store import ManifestsStore
from keyferry.net.grpc_server import serving_grpc
from keyferry.net.sockets import parse_endpoint
from keyferry.proto import csi_pb2 as csi
from keyferry.providers.api import Provider
from keyferry.providers.registry import PROVIDERS
from keyferry.resilience.fetcher import Fetcher
from keyferry.telemetry.logs import configure_logs
from keyferry.telemetry.metrics import Metrics
from tests.fakes.clock import ManualClock

NODE = "node-1"
NAMESPACE = "shop"
CALL_SECONDS = 30.0
CHANNEL_OPTIONS = [("grpc.default_authority", "localhost")]

Response = TypeVar("Response", bound=Message)


@dataclass
class Driver:
    """A running driver and everything that a test may want to look at.

    Attributes:
        home: of its sockets, manifests and volumes.
        channel: to its CSI socket.
        metrics: what it counts.
        log: what it logged.
        clock: by which content ages.
        engine: its parts.
    """

    home: Path
    channel: grpc.aio.Channel
    metrics: Metrics
    log: StringIO
    clock: ManualClock
    engine: Engine

    @property
    def manifests(self) -> Path:
        """The folder of the object store."""
        return self.home / "manifests"

    # --- what an author does ---------------------------------------------------------------------

    def write_class(
        self,
        name: str,
        *,
        provider: str = "scripted",
        parameters: Mapping[str, str] | None = None,
        secret_objects: Sequence[Mapping[str, object]] = (),
        namespace: str = NAMESPACE,
    ) -> None:
        """Apply a SecretProviderClass."""
        spec: dict[str, object] = {
            "provider": provider,
            "parameters": {"x": "y"} if parameters is None else dict(parameters),
        }
        if secret_objects:
            spec["secretObjects"] = [dict(entry) for entry in secret_objects]
        manifest = {
            "apiVersion": "secrets-store.csi.x-k8s.io/v1",
            "kind": "SecretProviderClass",
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        }
        (self.manifests / f"{name}.yaml").write_text(json.dumps(manifest))

    def remove_class(self, name: str) -> None:
        """Delete a SecretProviderClass."""
        (self.manifests / f"{name}.yaml").unlink()

    # --- what kubelet does -----------------------------------------------------------------------

    def target(self, pod: str = "web-0") -> Path:
        """Where the volume of `pod` goes."""
        volumes = self.home / "pods" / f"uid-of-{pod}" / "volumes"
        return volumes / "kubernetes.io~csi" / "secrets" / "mount"

    def publish_request(self, class_name: str, pod: str = "web-0") -> csi.NodePublishVolumeRequest:
        """The call that kubelet makes for a volume of `pod`."""
        return csi.NodePublishVolumeRequest(
            volume_id=f"csi-{pod}",
            target_path=str(self.target(pod)),
            volume_capability=csi.VolumeCapability(
                mount=csi.VolumeCapability.MountVolume(),
                access_mode=csi.VolumeCapability.AccessMode(
                    mode=csi.VolumeCapability.AccessMode.SINGLE_NODE_READER_ONLY
                ),
            ),
            readonly=True,
            volume_context={
                "secretProviderClass": class_name,
                "csi.storage.k8s.io/pod.name": pod,
                "csi.storage.k8s.io/pod.namespace": NAMESPACE,
                "csi.storage.k8s.io/pod.uid": f"uid-of-{pod}",
                "csi.storage.k8s.io/serviceAccount.name": "web",
                "csi.storage.k8s.io/ephemeral": "true",
            },
        )

    async def publish(self, class_name: str, pod: str = "web-0") -> Path:
        """Have the volume of `pod` published; returns where it is."""
        await self.send_publish(self.publish_request(class_name, pod))
        return self.target(pod)

    async def send_publish(self, message: csi.NodePublishVolumeRequest) -> None:
        """Send this publish call."""
        await self.call("Node/NodePublishVolume", message, csi.NodePublishVolumeResponse)

    async def unpublish(self, pod: str = "web-0") -> None:
        """Have the volume of `pod` unpublished."""
        message = csi.NodeUnpublishVolumeRequest(
            volume_id=f"csi-{pod}", target_path=str(self.target(pod))
        )
        await self.call("Node/NodeUnpublishVolume", message, csi.NodeUnpublishVolumeResponse)

    async def call(self, method: str, message: Message, response_type: type[Response]) -> Response:
        """Call a CSI method, `Node/NodeGetInfo` for example."""
        return response_type.FromString(await self.call_raw(method, message.SerializeToString()))

    async def call_raw(self, method: str, message: bytes = b"") -> bytes:
        """The same, with the bytes of the messages."""
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(
            f"/csi.v1.{method}"
        )
        return await call(message, timeout=CALL_SECONDS)

    # --- what is there afterwards ----------------------------------------------------------------

    def secret(self, name: str) -> dict[str, Any] | None:
        """The manifest of a Secret in the namespace of the pods."""
        path = self.manifests / "secrets" / NAMESPACE / f"{name}.yaml"
        return yaml.safe_load(path.read_text()) if path.exists() else None

    async def objects_in_status(self, class_name: str, pod: str = "web-0") -> dict[str, str] | None:
        """Versions by object, as the pod status says once it is written; None without one."""
        while len(self.engine.status_writer):  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
        folder = self.manifests / "secretproviderclasspodstatuses" / NAMESPACE
        path = folder / f"{pod}-{NAMESPACE}-{class_name}.yaml"
        if not path.exists():
            return None
        status = yaml.safe_load(path.read_text())["status"]
        return {entry["id"]: entry["version"] for entry in status["objects"]}

    def events(self) -> list[tuple[str, str, str]]:
        """Type, reason and message of every event."""
        folder = self.manifests / "events" / NAMESPACE
        manifests = [yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yaml"))]
        return [(event["type"], event["reason"], event["message"]) for event in manifests]

    def leftovers(self, pod: str = "web-0") -> list[str]:
        """What is there of a volume that should not be: folder, pod status, Secrets."""
        found = [str(self.target(pod))] if self.target(pod).exists() else []
        for kind in ("secretproviderclasspodstatuses", "secrets"):
            found += [str(path) for path in (self.manifests / kind).glob("*/*.yaml")]
        return found

    def metric_values(self, name: str) -> dict[str, float]:
        """The values of one metric by its labels, as `a=1 b=2`; os_type is left out."""
        found = {}
        for metric in self.metrics.registry.collect():
            for sample in metric.samples:
                if sample.name == name:
                    labels = {k: v for k, v in sample.labels.items() if k != "os_type"}
                    found[" ".join(f"{k}={labels[k]}" for k in sorted(labels))] = sample.value
        return found


def csi_services(engine: Engine) -> CsiServices:
    """What kubelet calls."""
    return CsiServices(
        engine.publisher,
        driver_name="secrets-store.csi.k8s.io",
        version="9.8.7",
        node_id=NODE,
    )


class _ExpiryClock(SystemClock):
    """Shows real dates, as emulated objects have them, and the monotonic time of the test."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock

    def monotonic(self) -> float:
        return self._clock.monotonic()


@asynccontextmanager
async def running_driver(
    home: Path,
    *,
    built_in: Mapping[str, Provider] | None = None,
    socket_folders: Sequence[Path] = (),
    rotation_interval: float | None = None,
    mounter: Mounter | None = None,
    max_receive_bytes: int = 4194304,
    store: ObjectStore | None = None,
    node: str = NODE,
    clock: ManualClock | None = None,
    fetcher: Fetcher | None = None,
) -> AsyncIterator[Driver]:
    """A driver on `home / "csi.sock"`; `fetcher` is that of its providers, by the same `clock`.

    It has a tmpfs for each volume where this process may mount, and else private folders. Its log
    is kept to be looked at; the log of the process is silent again afterwards.
    """
    log = StringIO()
    configure_logs(as_json=False, verbosity=2, stream=log)
    metrics, clock = Metrics(), clock or ManualClock()
    manifests = home / "manifests"
    store = store or ManifestsStore(manifests, manifests, clock=SystemClock())
    plugins = Providers(
        built_in=built_in or {},
        rows=PROVIDERS,
        socket_folders=socket_folders,
        max_receive_bytes=max_receive_bytes,
        connect_seconds=1.0,
        fetcher=fetcher,
    )
    endpoint = parse_endpoint(f"unix://{home}/csi.sock")
    (home / "manifests").mkdir(exist_ok=True)
    try:
        async with (
            running_engine(
                EngineDependencies(
                    store=store,
                    mounter=mounter or (TmpfsMounter() if can_mount() else DirectoryMounter()),
                    providers=plugins,
                    metrics=metrics,
                    expiry_monitor=ExpiryMonitor(store, metrics, clock=_ExpiryClock(clock)),
                    node=node,
                    backoff=lambda _: 1.0,
                    rotation_interval=rotation_interval,
                    clock=clock,
                )
            ) as engine,
            serving_grpc(endpoint, csi_services(engine).add_to),
            grpc.aio.insecure_channel(endpoint.address, options=CHANNEL_OPTIONS) as channel,
        ):
            yield Driver(home, channel, metrics, log, clock, engine)
    finally:
        await plugins.close()
        configure_logs(as_json=False, verbosity=0, stream=StringIO())
