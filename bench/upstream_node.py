"""A node with the upstream driver: a process, real mounts, a provider that all nodes share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.simulated_node import SimulatedPod
from keyferry.net.grpc_server import Context
from keyferry.proto import provider_v1alpha1_pb2 as wire
from keyferry.providers.api import decode_call, encode_result
from tests.e2e.children import Children
from tests.e2e.cluster.api_server import free_ports
from tests.e2e.node import Driver, Volume
from tests.fakes.mounts import unmount_below
from tests.fakes.provider import ScriptedProvider, external_provider

PROVIDER = "scripted"
MAX_CONCURRENT_PUBLISHES = 10


@asynccontextmanager
async def shared_provider(folder: Path, provider: ScriptedProvider) -> AsyncIterator[None]:
    """Serve `provider` over the protocol of upstream's providers, at a socket in `folder`."""

    async def mount(message: wire.MountRequest, context: Context) -> wire.MountResponse:
        del context
        return encode_result(await provider.mount(decode_call(message)))

    folder.mkdir(parents=True, exist_ok=True)
    async with external_provider(folder / f"{PROVIDER}.sock", mount):
        yield


@dataclass
class UpstreamNode:
    """A node. `running` starts its driver; it can be started again, with the same volumes.

    Attributes:
        name: of the node.
        kubeconfig: of the API.
        home: folder of its volumes; a short path, because it has the socket.
        pods: its pods.
        program: the driver.
        sockets: folder of the socket of the provider.
        children: take the process.
        rotation_interval: in seconds.
    """

    name: str
    kubeconfig: Path
    home: Path
    pods: Sequence[SimulatedPod]
    program: str
    sockets: Path
    children: Children
    rotation_interval: float
    _driver: Driver | None = field(default=None, init=False)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the driver while the block runs."""
        self.home.mkdir(parents=True, exist_ok=True)
        socket, (port,) = self.home / "csi.sock", free_ports(1)
        child = self.children.start(
            self.name,
            self.program,
            f"--endpoint=unix://{socket}",
            f"--nodeid={self.name}",
            f"--provider-volume={self.sockets}",
            "--additional-provider-volume-paths=",
            f"--metrics-addr=127.0.0.1:{port}",
            f"--kubeconfig={self.kubeconfig}",
            "--enable-secret-rotation",
            f"--rotation-poll-interval={self.rotation_interval:.0f}s",
        )
        self._driver = Driver(child, socket, f"127.0.0.1:{port}")
        try:
            await self._driver.answers()
            yield
        finally:
            await self._driver.close()
            child.end()

    def remove_volumes(self) -> None:
        """Unmount everything."""
        unmount_below(self.home)

    async def publish_all(self) -> None:
        """Publish the volume of each pod."""
        assert self._driver is not None
        driver, slots = self._driver, asyncio.Semaphore(MAX_CONCURRENT_PUBLISHES)

        async def publish(pod: SimulatedPod) -> None:
            async with slots:
                await driver.publish(self._volume(pod))

        await asyncio.gather(*(publish(pod) for pod in self.pods))

    def _volume(self, pod: SimulatedPod) -> Volume:
        path = self.home / "pods" / pod.ref.uid / "volumes" / "kubernetes.io~csi" / "secrets"
        path.mkdir(parents=True, exist_ok=True)
        return Volume(
            pod.class_name, pod.ref.name, pod.ref.uid, path / "mount", namespace=pod.ref.namespace
        )
