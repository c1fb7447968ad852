"""`python -m bench.api_nodes`: what many drivers together cost the API server.

Each simulated node runs the real engine and object store of the driver, in one process, against a
real kube-apiserver and etcd. With `--upstream`, each node is a process of the upstream driver.
Requests, watch events, bytes, processor time and memory are those of the API server; a line is
fitted through the figures of several numbers of nodes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.api_meter import Meter, Phase
from bench.simulated_node import SimulatedNode, SimulatedPod
from bench.upstream_node import UpstreamNode, shared_provider
from keyferry.kubernetes.objects import PodRef
from keyferry.telemetry.logs import configure_logs
from tests.compat.cases import pod_manifest
from tests.compat.comparison import CRDS
from tests.compat.upstream import built_upstream
from tests.compat.world import enter_own_world
from tests.e2e.children import Children, ending_children
from tests.e2e.cluster.api_client import ApiClient, open_client
from tests.e2e.cluster.api_server import ApiAddress, free_ports, start_api_server
from tests.e2e.cluster.kubectl import Document
from tests.e2e.cluster.programs import built_programs
from tests.fakes.kube_objects import CUSTOM_API_VERSION
from tests.fakes.provider import ScriptedProvider

PODS_OF_NODE = 20
NAMESPACES_OF_NODE = 3
NODES_OF_NAMESPACE = 15
"""About how many nodes have pods in a namespace; each node has three namespaces."""
KUBELET_SECONDS = 90.0
"""How often kubelet publishes each volume again."""
ROTATION_SECONDS = 60.0
CLASSES = ("plain", "synced")
"""The SecretProviderClasses of each namespace; the second one makes a Secret."""
MAX_CONCURRENT_STARTS = 50
_SERVER_FLAGS = (
    "--disable-admission-plugins=ServiceAccount",
    "--max-requests-inflight=1000",
    "--max-mutating-requests-inflight=500",
)


Node = SimulatedNode | UpstreamNode
NewNode = Callable[[str, Sequence[SimulatedPod]], Node]


@dataclass
class SimulatedCluster:
    """Nodes, namespaces and pods of one size.

    Attributes:
        count: the number of nodes.
        nodes_of_namespace: about how many nodes have pods in a namespace.
        new_node: returns a node with a name and pods.
        provider: of all volumes.
    """

    count: int
    nodes_of_namespace: int
    new_node: NewNode
    provider: ScriptedProvider
    nodes: list[Node] = field(default_factory=list)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def namespaces(self) -> list[str]:
        """The namespaces of the pods."""
        number = self.count * NAMESPACES_OF_NODE // self.nodes_of_namespace
        return [f"team-{each}" for each in range(max(NAMESPACES_OF_NODE, number))]

    def manifests(self) -> Iterator[Document]:
        """Yield all objects."""
        for namespace in self.namespaces:
            yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        for namespace in self.namespaces:
            yield from (_spc(name, namespace) for name in CLASSES)
        for node in range(self.count):
            for number in range(PODS_OF_NODE):
                yield _pod(node, number, self._namespace(node, number))

    def _namespace(self, node: int, number: int) -> str:
        start = node * NAMESPACES_OF_NODE + number % NAMESPACES_OF_NODE
        return self.namespaces[start % len(self.namespaces)]

    async def create(self, client: ApiClient) -> None:
        """Create all objects, and note the uids of the pods."""
        pods: dict[str, list[SimulatedPod]] = {}
        for manifest in self.manifests():
            (created,) = await client.apply(manifest)
            if created["kind"] == "Pod":
                metadata, spec = created["metadata"], created["spec"]
                ref = PodRef(metadata["namespace"], metadata["name"], metadata["uid"])
                attributes = spec["volumes"][0]["csi"]["volumeAttributes"]
                pod = SimulatedPod(ref, attributes["secretProviderClass"])
                pods.setdefault(spec["nodeName"], []).append(pod)
        self.nodes = [self.new_node(name, each) for name, each in pods.items()]

    async def start(self) -> None:
        """Start the drivers of all nodes, and wait until they are in sync."""
        limit = asyncio.Semaphore(MAX_CONCURRENT_STARTS)

        async def start(node: Node) -> None:
            async with limit:
                await self._stack.enter_async_context(node.running())

        await asyncio.gather(*(start(node) for node in self.nodes))

    async def stop(self) -> None:
        """Stop all drivers; their volumes stay."""
        stack, self._stack = self._stack, AsyncExitStack()
        await stack.aclose()

    async def restart(self) -> None:
        """Stop and start all drivers, and wait until each volume was refreshed once."""
        await self.stop()
        await self.start()
        await asyncio.sleep(ROTATION_SECONDS + 5)
        await self.publish_all()

    async def idle(self, seconds: float) -> None:
        """Publish each volume again as often as kubelet does."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            for node in self.nodes:
                await node.publish_all()
                await asyncio.sleep(KUBELET_SECONDS / len(self.nodes))

    async def publish_all(self) -> None:
        """Publish the volumes of all pods."""
        await asyncio.gather(*(node.publish_all() for node in self.nodes))

    async def rotate(self) -> None:
        """Let the vault have a new version, and wait until each volume was refreshed."""
        self.provider.serves({"a": "2"}, version="v2")
        await asyncio.sleep(ROTATION_SECONDS + 5)
        await self.publish_all()

    async def edit_classes(self, client: ApiClient) -> None:
        """Edit one SecretProviderClass of each namespace, without a change of its content."""
        for namespace in self.namespaces:
            await client.annotate("SecretProviderClass", namespace, CLASSES[0], {"edited": "yes"})


def _spc(name: str, namespace: str) -> Document:
    spec: Document = {"provider": "scripted", "parameters": {"x": "y"}}
    if name == "synced":
        data = [{"objectName": "a", "key": "value"}]
        spec["secretObjects"] = [{"secretName": name, "type": "Opaque", "data": data}]
    return {
        "apiVersion": CUSTOM_API_VERSION,
        "kind": "SecretProviderClass",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def _pod(node: int, number: int, namespace: str) -> Document:
    pod = pod_manifest(f"web-{node}-{number}", namespace, CLASSES[number % len(CLASSES)])
    pod["spec"] |= {"nodeName": f"node-{node}"}
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": f"rs-{namespace}"}
    return {**pod, "metadata": {**pod["metadata"], "ownerReferences": [owner]}}


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        idle: seconds of the phase in which no pod starts or ends.
        nodes_of_namespace: about how many nodes have pods in a namespace.
        upstream: the upstream driver; "" for Keyferry.
    """

    idle: float
    nodes_of_namespace: int = NODES_OF_NAMESPACE
    upstream: str = ""


@asynccontextmanager
async def measured_cluster(
    folder: Path, count: int, options: Options
) -> AsyncIterator[tuple[SimulatedCluster, ApiClient, Meter]]:
    """Run an API server with the objects of `count` nodes while the block runs."""
    programs = await built_programs()
    provider = ScriptedProvider()
    async with (
        ending_children(folder / "logs") as children,
        ending_children(folder / "drivers") as drivers,
        shared_provider(folder / "sockets", provider),
    ):
        (port,) = free_ports(1)
        address = ApiAddress("127.0.0.1", port)
        server = await start_api_server(programs, children, folder, address, _SERVER_FLAGS)
        await server.kubectl("apply", f"--filename={CRDS}")
        established = ("--for=condition=Established", "--timeout=60s", f"--filename={CRDS}")
        await server.kubectl("wait", *established)
        new_node = _new_node(server.kubeconfig, folder, provider, drivers, options.upstream)
        cluster = SimulatedCluster(count, options.nodes_of_namespace, new_node, provider)
        async with open_client(server) as client:
            await cluster.create(client)
            yield cluster, client, Meter(server, children)


def _new_node(
    kubeconfig: Path, folder: Path, provider: ScriptedProvider, drivers: Children, upstream: str
) -> NewNode:
    def new_node(name: str, pods: Sequence[SimulatedPod]) -> Node:
        home = folder / name
        if not upstream:
            return SimulatedNode(name, kubeconfig, home, pods, provider, ROTATION_SECONDS)
        sockets = folder / "sockets"
        return UpstreamNode(
            name, kubeconfig, home, pods, upstream, sockets, drivers, ROTATION_SECONDS
        )

    return new_node


async def measure(folder: Path, count: int, options: Options) -> list[Phase]:
    """Return the phases with `count` nodes."""
    phases: list[Phase] = []
    async with measured_cluster(folder, count, options) as (cluster, client, meter):

        async def phase(name: str, work: Coroutine[Any, Any, object]) -> None:
            phases.append(await meter.measure(name, work))
            print(json.dumps({"nodes": count, **phases[-1].as_json()}), file=sys.stderr)

        await asyncio.sleep(20)
        await phase("no driver", asyncio.sleep(60))
        await phase("all nodes start", cluster.start())
        await phase("pods start", cluster.publish_all())
        await phase("idle", cluster.idle(options.idle))
        await phase("rotation", cluster.rotate())
        await phase("edit of a SecretProviderClass", cluster.edit_classes(client))
        await phase("all nodes restart", cluster.restart())
        await cluster.stop()
        for node in cluster.nodes:
            node.remove_volumes()
    return phases


def fitted(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return slope and intercept of the least-squares line through `points`."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
    return slope, mean_y - slope * mean_x


def per_node(results: Mapping[int, Sequence[Phase]]) -> dict[str, dict[str, float]]:
    """Return what each phase costs per node: the slopes of the lines through all sizes.

    Processor time of "no driver" is subtracted, for the duration of the phase.
    """
    table: dict[str, dict[str, float]] = {}
    names = [phase.name for phase in next(iter(results.values()))]
    for index, name in enumerate(names):
        points: dict[str, list[tuple[float, float]]] = {}
        for count, phases in results.items():
            base, phase = phases[0], phases[index]
            for process, seconds in phase.cpu.items():
                own = seconds - base.cpu[process] / base.seconds * phase.seconds
                points.setdefault(f"cpu {process}", []).append((count, own))
            points.setdefault("memory_mib", []).append((count, phase.memory_mib))
            points.setdefault("watches", []).append((count, sum(phase.watches.values())))
            points.setdefault("events", []).append((count, sum(phase.events.values())))
            points.setdefault("bytes", []).append((count, sum(phase.bytes.values())))
            points.setdefault("seconds", []).append((count, phase.seconds))
            for verb in ("list", "watch", "get", "post", "patch"):
                total = sum(
                    value for key, value in phase.requests.items() if key.startswith(f"{verb} ")
                )
                points.setdefault(verb, []).append((count, total))
        table[name] = {key: fitted(each)[0] for key, each in points.items()}
    return table


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.api_nodes", description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[25, 50, 100])
    parser.add_argument("--idle", type=float, default=600, help="seconds; as a watch lasts")
    parser.add_argument("--nodes-of-namespace", type=int, default=NODES_OF_NAMESPACE)
    parser.add_argument("--upstream", action="store_true", help="measure upstream, with few nodes")
    parser.add_argument("--out", type=Path, default=Path("api-nodes.json"))
    arguments = parser.parse_args()
    configure_logs(as_json=False, verbosity=0, stream=StringIO())
    upstream = built_upstream().driver if arguments.upstream else ""
    options = Options(arguments.idle, arguments.nodes_of_namespace, upstream)
    asyncio.run(built_programs())
    enter_own_world([])
    results: dict[int, list[Phase]] = {}
    document: dict[str, Any] = {}
    for count in arguments.nodes:
        with TemporaryDirectory(prefix="kf-", dir="/dev/shm") as name:
            results[count] = asyncio.run(measure(Path(name), count, options))
        document = {
            "per_node": per_node(results),
            "phases": {count: [each.as_json() for each in of] for count, of in results.items()},
        }
        arguments.out.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document["per_node"], indent=1))


if __name__ == "__main__":
    main()
