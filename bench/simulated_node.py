"""A node with the real engine and object store of the driver, without kubelet, gRPC and mounts.

Its volumes are private folders, and its provider returns the same object for every volume.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from keyferry.aio.clock import SystemClock
from keyferry.aio.jobs import ThreadJobRunner
from keyferry.driver.engine import Engine, EngineDependencies, running_engine
from keyferry.driver.request import PublishRequest
from keyferry.driver.status.expiry_monitor import ExpiryMonitor
from keyferry.driver.volumes.mounter import DirectoryMounter
from keyferry.kubernetes.api.store import KubeStore, open_kube_store
from keyferry.kubernetes.objects import PodRef
from keyferry.plugins.providers import Providers
from keyferry.providers.host import ProviderHost
from keyferry.telemetry.metrics import Metrics
from tests.fakes.provider import ScriptedProvider

SECRET_GRACE_SECONDS = 600.0


@dataclass(frozen=True)
class SimulatedPod:
    """A pod of a node.

    Attributes:
        ref: the pod.
        class_name: the SecretProviderClass of its volume.
    """

    ref: PodRef
    class_name: str


@dataclass
class SimulatedNode:
    """A node. `running` starts its driver; it can be started again.

    Attributes:
        name: of the node.
        kubeconfig: of the API.
        home: folder of its volumes.
        pods: its pods.
        provider: of all volumes.
        rotation_interval: in seconds.
    """

    name: str
    kubeconfig: Path
    home: Path
    pods: Sequence[SimulatedPod]
    provider: ScriptedProvider
    rotation_interval: float
    _engine: Engine | None = field(default=None, init=False)
    _store: KubeStore | None = field(default=None, init=False)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the driver while the block runs; it starts when its watches are in sync."""
        clock, metrics = SystemClock(), Metrics()
        providers = Providers(
            built_in=ProviderHost({"scripted": self.provider}),
            socket_folders=(),
            max_receive_bytes=2**22,
        )
        async with open_kube_store(self.kubeconfig, node=self.name, clock=clock) as store:
            dependencies = EngineDependencies(
                store=store,
                mounter=DirectoryMounter(),
                providers=providers,
                jobs=ThreadJobRunner(),
                metrics=metrics,
                expiry_monitor=ExpiryMonitor(store, metrics, clock=clock),
                clock=clock,
                node=self.name,
                rotation_interval=self.rotation_interval,
                secret_grace_period=SECRET_GRACE_SECONDS,
            )
            async with running_engine(dependencies) as engine:
                self._store, self._engine = store, engine
                await store.wait_synced()
                yield
        await providers.close()

    async def publish_all(self) -> None:
        """Publish the volume of each pod, and wait until its status is written."""
        assert self._engine is not None
        publisher, writer = self._engine.publisher, self._engine.status_writer
        await asyncio.gather(*(publisher.publish(self._request(pod)) for pod in self.pods))
        while len(writer):  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.05)

    def remove_volumes(self) -> None:
        """Do nothing: its volumes are folders, which end with the folder of the node."""

    def _request(self, pod: SimulatedPod) -> PublishRequest:
        target = self.home / "pods" / pod.ref.uid / "volumes" / "kubernetes.io~csi" / "secrets"
        return PublishRequest(
            str(target / "mount"),
            readonly=True,
            pod=pod.ref,
            class_name=pod.class_name,
            context={"csi.storage.k8s.io/serviceAccount.name": "web"},
        )
