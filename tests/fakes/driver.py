"""Runs the driver inside the test process; it is called over a CSI socket as kubelet calls it.

async with running_driver(mount_home, built_in={"scripted": provider}) as driver:
    driver.write_class("web", provider="scripted")
    target = await driver.publish("web")
    assert {"a": b"1"} == read_through_links(target)
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

import grpc
import yaml
from google.protobuf.message import Message

from keyferry.aio.clock import SystemClock
from keyferry.aio.jobs import ThreadJobRunner
from keyferry.driver.csi import CsiServices
from keyferry.driver.engine import Engine, EngineDependencies, running_engine
from keyferry.driver.status.expiry_monitor import ExpiryMonitor
from keyferry.driver.volumes.mounter import DirectoryMounter, Mounter, TmpfsMounter
from keyferry.kubernetes import ObjectStore
from keyferry.kubernetes.files.store import ManifestsStore
from keyferry.net.grpc_server import serving_grpc
from keyferry.net.sockets import parse_endpoint
from keyferry.plugins.providers import Providers
from keyferry.process import can_mount
from keyferry.proto import csi_pb2 as csi
from keyferry.providers.api import Provider
from keyferry.providers.host import ProviderHost
from keyferry.resilience.fetcher import Fetcher
from keyferry.telemetry.audit import AuditLog, NullAuditLog
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
    """A running driver, with what kubelet and users do, and its visible results.

    Attributes:
        home: folder of its sockets, manifests and volumes.
        channel: to its CSI socket.
        metrics: its metrics.
        log: its log so far.
        clock: its clock.
        engine: its engine.
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

    # --- users -----------------------------------------------------------------------------------

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

    # --- kubelet ---------------------------------------------------------------------------------

    def target(self, pod: str = "web-0") -> Path:
        """Return the target path of the volume of `pod`."""
        volumes = self.home / "pods" / f"uid-of-{pod}" / "volumes"
        return volumes / "kubernetes.io~csi" / "secrets" / "mount"

    def publish_request(self, class_name: str, pod: str = "web-0") -> csi.NodePublishVolumeRequest:
        """Return the request that kubelet sends for the volume of `pod`."""
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
        """Publish the volume of `pod` and return its target path."""
        await self.send_publish(self.publish_request(class_name, pod))
        return self.target(pod)

    async def send_publish(self, message: csi.NodePublishVolumeRequest) -> None:
        """Send a publish request."""
        await self.call("Node/NodePublishVolume", message, csi.NodePublishVolumeResponse)

    async def unpublish(self, pod: str = "web-0") -> None:
        """Unpublish the volume of `pod`."""
        message = csi.NodeUnpublishVolumeRequest(
            volume_id=f"csi-{pod}", target_path=str(self.target(pod))
        )
        await self.call("Node/NodeUnpublishVolume", message, csi.NodeUnpublishVolumeResponse)

    async def call(self, method: str, message: Message, response_type: type[Response]) -> Response:
        """Call a CSI method, such as `Node/NodeGetInfo`."""
        return response_type.FromString(await self.call_raw(method, message.SerializeToString()))

    async def call_raw(self, method: str, message: bytes = b"") -> bytes:
        """Call a CSI method with a serialized request and return the serialized response."""
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(
            f"/csi.v1.{method}"
        )
        return await call(message, timeout=CALL_SECONDS)

    # --- results ---------------------------------------------------------------------------------

    def secret(self, name: str) -> dict[str, Any] | None:
        """Return the manifest of a Secret in the namespace of the pods, or None."""
        path = self.manifests / "secrets" / NAMESPACE / f"{name}.yaml"
        return yaml.safe_load(path.read_text()) if path.exists() else None

    async def pod_statuses_written(self) -> None:
        """Wait until no pod status is pending."""
        while len(self.engine.status_writer):  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)

    async def objects_in_status(self, class_name: str, pod: str = "web-0") -> dict[str, str] | None:
        """Wait for pending writes and return the versions in the pod status by object, or None."""
        await self.pod_statuses_written()
        folder = self.manifests / "secretproviderclasspodstatuses" / NAMESPACE
        path = folder / f"{pod}-{NAMESPACE}-{class_name}.yaml"
        if not path.exists():
            return None
        status = yaml.safe_load(path.read_text())["status"]
        return {entry["id"]: entry["version"] for entry in status["objects"]}

    def events(self) -> list[tuple[str, str, str]]:
        """Return the type, reason and message of every event."""
        folder = self.manifests / "events" / NAMESPACE
        manifests = [yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yaml"))]
        return [(event["type"], event["reason"], event["message"]) for event in manifests]

    def leftovers(self, pod: str = "web-0") -> list[str]:
        """Return what an unpublished volume left: its folder, pod statuses and Secrets."""
        found = [str(self.target(pod))] if self.target(pod).exists() else []
        for kind in ("secretproviderclasspodstatuses", "secrets"):
            found += [str(path) for path in (self.manifests / kind).glob("*/*.yaml")]
        return found

    def metric_values(self, name: str) -> dict[str, float]:
        """Return the values of a metric by its labels, as `a=1 b=2`, without os_type."""
        found = {}
        for metric in self.metrics.registry.collect():
            for sample in metric.samples:
                if sample.name == name:
                    labels = {k: v for k, v in sample.labels.items() if k != "os_type"}
                    found[" ".join(f"{k}={labels[k]}" for k in sorted(labels))] = sample.value
        return found


def csi_services(engine: Engine) -> CsiServices:
    """Return the CSI services of the engine."""
    return CsiServices(
        engine.publisher,
        driver_name="secrets-store.csi.k8s.io",
        version="9.8.7",
        node_id=NODE,
    )


class _ExpiryClock(SystemClock):
    """Has the real wall time, which emulated objects use, and the monotonic time of the test."""

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
    allow_attribute_overrides: bool = True,
    audit_log: AuditLog | None = None,
    secret_grace_period: float = 0.0,
    backoff: Callable[[int], float] = lambda _: 1.0,
) -> AsyncIterator[Driver]:
    """Run a driver on `home / "csi.sock"`; `fetcher` is that of its providers, with the same clock.

    It has a tmpfs for each volume where this process may mount, and else private folders. Its log
    is kept to be looked at; the log of the process is silent again afterwards.
    """
    log = StringIO()
    configure_logs(as_json=False, verbosity=2, stream=log)
    metrics, clock = Metrics(), clock or ManualClock()
    manifests = home / "manifests"
    store = store or ManifestsStore(manifests, manifests, clock=SystemClock())
    plugins = Providers(
        built_in=ProviderHost(built_in or {}, fetcher=fetcher),
        socket_folders=socket_folders,
        max_receive_bytes=max_receive_bytes,
        connect_seconds=1.0,
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
                    jobs=ThreadJobRunner(),
                    metrics=metrics,
                    expiry_monitor=ExpiryMonitor(store, metrics, clock=_ExpiryClock(clock)),
                    node=node,
                    backoff=backoff,
                    rotation_interval=rotation_interval,
                    clock=clock,
                    allow_attribute_overrides=allow_attribute_overrides,
                    audit_log=audit_log or NullAuditLog(),
                    secret_grace_period=secret_grace_period,
                    unused_secrets_file=home / "unused-secrets.json",
                )
            ) as engine,
            serving_grpc(endpoint, csi_services(engine).add_to),
            grpc.aio.insecure_channel(endpoint.address, options=CHANNEL_OPTIONS) as channel,
        ):
            yield Driver(home, channel, metrics, log, clock, engine)
    finally:
        await plugins.close()
        configure_logs(as_json=False, verbosity=0, stream=StringIO())
