"""Driver and provider, each of upstream or Keyferry, as processes.

stack = await start_stack(ALL_KEYFERRY, ground)
await stack.driver.publish(volume)
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from pathlib import Path

import grpc

from tests.compat.upstream import UpstreamPrograms
from tests.e2e.children import Child, Children
from tests.e2e.cluster.api_server import free_ports
from tests.e2e.node import LOCAL_VAULT_FLAGS, Driver, Volume


class Side(Enum):
    """Whose program it is."""

    UPSTREAM = "upstream"
    KEYFERRY = "keyferry"


@dataclass(frozen=True)
class Pairing:
    """Which driver works with which provider.

    Attributes:
        name: of the pairing, of its node, and of the namespace of its pods.
        driver: whose driver.
        provider: whose provider.
        built_in: whether the provider is in the process of the driver.
    """

    name: str
    driver: Side
    provider: Side
    built_in: bool = False


ALL_UPSTREAM = Pairing("all-upstream", Side.UPSTREAM, Side.UPSTREAM)
ALL_KEYFERRY = Pairing("all-keyferry", Side.KEYFERRY, Side.KEYFERRY, built_in=True)
KEYFERRY_DRIVER = Pairing("keyferry-driver", Side.KEYFERRY, Side.UPSTREAM)
KEYFERRY_PROVIDER = Pairing("keyferry-provider", Side.UPSTREAM, Side.KEYFERRY)
PAIRINGS = (ALL_UPSTREAM, ALL_KEYFERRY, KEYFERRY_DRIVER, KEYFERRY_PROVIDER)
KEYFERRY_PARTS = Pairing("keyferry-parts", Side.KEYFERRY, Side.KEYFERRY)


_BUSY_RETRIES = 20
_BUSY_PAUSE_SECONDS = 0.5


@dataclass(frozen=True)
class Ground:
    """What all stacks of a test share.

    Attributes:
        children: their processes.
        folder: has a subfolder for each stack; a short path, because it contains sockets.
        kubeconfig: of their Kubernetes API.
        ca: the PEM file of the CA of the cloud.
        upstream: the programs of upstream.
        providers: the names of those that run where they are not built in.
        driver_flags: of every driver.
        provider_flags: of every provider.
        keyferry_provider_flags: of Keyferry's provider in its own process.
        keyferry: path of the keyferry program.
        variables: of the environment of every process, beside the usual few.
        prefix: the beginning of every command line, such as `sh -c`; the programs of the command
            lines then need absolute paths.
    """

    children: Children
    folder: Path
    kubeconfig: Path
    ca: Path
    upstream: UpstreamPrograms
    providers: tuple[str, ...] = ("azure",)
    driver_flags: tuple[str, ...] = ()
    provider_flags: tuple[str, ...] = ()
    keyferry_provider_flags: tuple[str, ...] = ()
    keyferry: str = "keyferry"
    variables: Mapping[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()

    @property
    def environment(self) -> Mapping[str, str]:
        """Of every process: both Go and OpenSSL trust this file instead of the machine's."""
        return {"SSL_CERT_FILE": str(self.ca), **self.variables}


@dataclass(frozen=True)
class Stack:
    """A running driver with its provider.

    Attributes:
        pairing: which.
        driver: kubelet's calls go there.
        processes: of driver and provider.
        folder: everything of it.
    """

    pairing: Pairing
    driver: Driver
    processes: tuple[Child, ...]
    folder: Path

    def volume(
        self,
        class_name: str,
        *,
        pod: str,
        uid: str,
        context: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> Volume:
        """The volume of a pod, where kubelet would put it; all but the last folder is made."""
        path = self.folder / "pods" / uid / "volumes" / "kubernetes.io~csi" / "secrets" / "mount"
        path.parent.mkdir(parents=True)
        return Volume(class_name, pod, uid, path, context or {}, secrets or {}, self.pairing.name)

    async def unpublish(self, volume: Volume) -> None:
        """Unpublish a volume. Retries upstream's driver while a volume is busy, as kubelet does.

        Upstream reads the files of its volumes in the background, and its unmount fails meanwhile.
        Keyferry must succeed in its first call.
        """
        for _ in range(_BUSY_RETRIES if self.pairing.driver is Side.UPSTREAM else 0):
            try:
                await self.driver.unpublish(volume)
            except grpc.aio.AioRpcError as error:
                if "target is busy" not in (error.details() or ""):
                    raise
            else:
                return
            await asyncio.sleep(_BUSY_PAUSE_SECONDS)
        await self.driver.unpublish(volume)


async def start_stack(pairing: Pairing, ground: Ground) -> Stack:
    """Start the processes of one stack, and wait until the driver answers."""
    folder = ground.folder / pairing.name
    sockets = folder / "providers"
    sockets.mkdir(parents=True, exist_ok=True)
    names = () if pairing.built_in else ground.providers
    processes = [await _start_provider(pairing, ground, name, sockets) for name in names]
    child, driver = _start_driver(pairing, ground, folder / "csi.sock", sockets)
    await driver.answers()
    return Stack(pairing, driver, (child, *processes), folder)


async def _start_provider(pairing: Pairing, ground: Ground, name: str, sockets: Path) -> Child:
    command = {
        Side.UPSTREAM: (ground.upstream.azure,),
        Side.KEYFERRY: (
            *(ground.keyferry, "provider", name, *ground.keyferry_provider_flags),
            *_local_vault_flags(ground.keyferry),
        ),
    }[pairing.provider]
    child = ground.children.start(
        f"{pairing.name}-{name}",
        *ground.prefix,
        *command,
        f"--endpoint=unix://{sockets / name}.sock",
        *_page_flags(name),
        *ground.provider_flags,
        environment=ground.environment,
    )
    await child.says("istening|ready")
    return child


@cache
def _local_vault_flags(keyferry: str) -> tuple[str, ...]:
    """Flags that permit vaults on this machine; none for a version that permits them anyway."""
    installed = Path(sys.executable).parent / keyferry  # keyferry may be an absolute path
    text = subprocess.run([installed, "driver", "--help"], check=True, capture_output=True).stdout
    return LOCAL_VAULT_FLAGS if b"allow-local-addresses" in text else ()


def _page_flags(name: str) -> tuple[str, ...]:
    """Ports for the health page and the metrics of a provider."""
    health, metrics = free_ports(2)
    if name == "azure":
        return (f"--healthz-port={health}", f"--prometheus-port={metrics}")
    return (f"--health-addr=127.0.0.1:{health}",)


def _start_driver(
    pairing: Pairing, ground: Ground, socket: Path, sockets: Path
) -> tuple[Child, Driver]:
    metrics = f"127.0.0.1:{free_ports(1)[0]}"
    flags = (
        f"--endpoint=unix://{socket}",
        f"--nodeid={pairing.name}",
        f"--provider-volume={sockets}",
        "--additional-provider-volume-paths=",
        f"--metrics-addr={metrics}",
        f"--kubeconfig={ground.kubeconfig}",
        *ground.driver_flags,
    )
    command: tuple[str, ...] = (ground.upstream.driver,)
    if pairing.driver is Side.KEYFERRY:
        command = (ground.keyferry, "driver", *_local_vault_flags(ground.keyferry))
        flags += ground.provider_flags if pairing.built_in else ("--builtin-providers=",)
    child = ground.children.start(
        f"{pairing.name}-driver", *ground.prefix, *command, *flags, environment=ground.environment
    )
    return child, Driver(child, socket, metrics)
