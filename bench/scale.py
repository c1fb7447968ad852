"""`python -m bench.scale`: 250 pods, 1,000 identities and 10,000 objects on one node.

Each pod has four volumes, each volume has an identity of its own and ten objects. Meanwhile, and
before, pods of another namespace are mounted with an identity that is used for the first time:
their latency shows what a busy node means to others.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import yaml

from bench.arena import Arena, Contender, RunningContender, running_arena, spc_manifest
from bench.load_vault import VAULT, build_load_vault
from bench.processes import process_usage, processor_wait
from tests.compat.cases import pod_manifest
from tests.compat.stacks import ALL_KEYFERRY
from tests.compat.upstream import built_upstream
from tests.compat.world import enter_own_world
from tests.e2e.cluster.programs import built_programs
from tests.e2e.node import Volume

NAMESPACE = ALL_KEYFERRY.name
OTHER_NAMESPACE = "other"
VOLUMES_OF_POD = 4
OBJECTS_OF_VOLUME = 10
ROUND_TRIP_MS = 20.0
ROTATION_SECONDS = 120
PROBE_PODS = 40
PROBE_SECONDS = 0.2
"""Time between the starts of two unrelated mounts."""
MAX_SECONDS = 600.0
SERVICE_ACCOUNT = "csi.storage.k8s.io/serviceAccount.name"

Figures = dict[str, Any]


@dataclass
class Probes:
    """Mounts of another namespace, each with an identity that was not used before.

    Attributes:
        running: the contender.
        seconds: the latency of each mount that succeeded.
        failed: the number of those that failed.
    """

    running: RunningContender
    seconds: list[float] = field(default_factory=list)
    failed: int = 0
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    @asynccontextmanager
    async def during(self) -> AsyncIterator[None]:
        """Mount and unmount one pod after the other while the block runs."""
        self.seconds, self.failed = [], 0
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                tasks.create_task(self._mount(next(self._numbers)))
                await asyncio.sleep(PROBE_SECONDS)

    async def _mount(self, number: int) -> None:
        volume = _volume(
            self.running, "single", f"probe-{number % PROBE_PODS}", f"probe-{number}", f"p{number}"
        )
        start = time.perf_counter()
        try:
            await self.running.stack.driver.publish(volume)
            self.seconds.append(time.perf_counter() - start)
            await self.running.stack.driver.unpublish(volume)
        except grpc.aio.AioRpcError:
            self.failed += 1

    def figures(self) -> Figures:
        """Return the percentiles in milliseconds."""
        ordered = sorted(self.seconds)
        if not ordered:
            return {"mounts": 0, "failed": self.failed}
        return {
            "mounts": len(ordered),
            "failed": self.failed,
            "p50_ms": round(statistics.median(ordered) * 1000, 1),
            "p99_ms": round(ordered[int(len(ordered) * 0.99)] * 1000, 1),
            "max_ms": round(ordered[-1] * 1000, 1),
        }


def _volume(
    running: RunningContender, class_name: str, pod: str, uid: str, identity: str
) -> Volume:
    is_probe = class_name == "single"
    path = (
        running.stack.folder / "pods" / uid / "volumes" / "kubernetes.io~csi" / class_name / "mount"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    return Volume(
        class_name,
        pod,
        uid,
        path,
        context={SERVICE_ACCOUNT: pod},
        secrets={"clientid": f"app-{identity}", "clientsecret": "s3cret"},
        namespace=OTHER_NAMESPACE if is_probe else NAMESPACE,
    )


@dataclass
class Node:
    """The busy node.

    Attributes:
        arena: has vault and API.
        running: the driver.
        volumes: all volumes.
        probes: unrelated mounts.
    """

    arena: Arena
    running: RunningContender
    volumes: Sequence[Volume]
    probes: Probes

    async def measure(self, name: str, work: Coroutine[Any, Any, Figures]) -> Figures:
        """Return the figures of a phase."""
        await self.arena.vault.reset_counts()
        usage, api, waited = self.running.usage(), self._api_cpu(), self._wait()
        start = time.perf_counter()
        async with self.probes.during():
            figures = await work
        after = self.running.usage()
        found = {
            "phase": name,
            "seconds": round(time.perf_counter() - start, 1),
            **figures,
            "cpu_seconds": round(after.cpu_seconds - usage.cpu_seconds, 2),
            "waited_for_processor_seconds": round(self._wait() - waited, 2),
            "api_server_cpu_seconds": round(self._api_cpu() - api, 2),
            "processes_mib": round(after.rss_mib, 1),
            "descriptors": after.descriptors,
            "threads": after.threads,
            "container": self.running.memory(),
            "requests": await self.arena.vault.counts(),
            "unrelated": self.probes.figures(),
        }
        print(json.dumps(found), file=sys.stderr)
        return found

    def _wait(self) -> float:
        return processor_wait(child.pid for child in self.running.stack.processes)

    def _api_cpu(self) -> float:
        return process_usage([self.arena.api.pid]).cpu_seconds

    async def mount_all(self) -> Figures:
        """Mount all volumes at once; retry as kubelet does."""
        done: list[float] = []
        retried = 0
        start = time.perf_counter()

        async def mount(volume: Volume) -> None:
            nonlocal retried
            pause = 0.5
            while True:
                try:
                    await self.running.stack.driver.publish(volume)
                except grpc.aio.AioRpcError as error:
                    retried += 1
                    print(error.details(), file=sys.stderr) if retried < 4 else None
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, 122)
                else:
                    done.append(time.perf_counter() - start)
                    return

        async with asyncio.timeout(MAX_SECONDS):
            await asyncio.gather(*(mount(volume) for volume in self.volumes))
        ordered = sorted(done)
        return {
            "mounted": len(done),
            "failed_publishes": retried,
            "half_mounted_seconds": round(ordered[len(ordered) // 2], 1),
            "all_mounted_seconds": round(ordered[-1], 1),
        }

    async def publish_again(self) -> Figures:
        """Call each volume once, as kubelet does every 60 to 90 seconds."""
        slots = asyncio.Semaphore(16)

        async def publish(volume: Volume) -> None:
            async with slots:
                await self.running.stack.driver.publish(volume)

        await asyncio.gather(*(publish(volume) for volume in self.volumes))
        return {}

    async def unmount_all(self) -> Figures:
        """Unmount all volumes at once."""
        await asyncio.gather(
            *(self.running.stack.driver.unpublish(volume) for volume in self.volumes)
        )
        return {}

    async def wait(self, seconds: float) -> Figures:
        """Return after some seconds."""
        await asyncio.sleep(seconds)
        return {}


async def create_objects(arena: Arena, pods: int) -> list[tuple[str, str]]:
    """Create SecretProviderClasses and pods; return name and uid of each pod."""
    classes = [f"part-{number}" for number in range(VOLUMES_OF_POD)]
    await arena.api.kubectl("create", "namespace", OTHER_NAMESPACE)
    documents = [spc_manifest(name, NAMESPACE, f"32-{name}", OBJECTS_OF_VOLUME) for name in classes]
    documents.append(spc_manifest("single", OTHER_NAMESPACE, "32-single", 1))
    for number in range(pods):
        pod = pod_manifest(f"scale-{number}", NAMESPACE, classes[0])
        (volume,) = pod["spec"]["volumes"]
        pod["spec"]["volumes"] = [
            {
                "name": name,
                "csi": {**volume["csi"], "volumeAttributes": {"secretProviderClass": name}},
            }
            for name in classes
        ]
        documents.append(pod)
    text = yaml.dump_all(documents, Dumper=yaml.CSafeDumper)
    await arena.api.kubectl("create", "--filename=-", stdin=text)
    found = await arena.api.kubectl.get("pods", f"--namespace={NAMESPACE}")
    return [
        (each["metadata"]["name"], each["metadata"]["uid"])
        for each in found["items"]
        if each["metadata"]["name"].startswith("scale-")
    ]


async def measure(arena: Arena, *, pods: int, flags: Sequence[str], program: str) -> list[Figures]:
    """Return the figures of all phases."""
    await arena.vault.tune(rtt_ms=ROUND_TRIP_MS)
    uids = await create_objects(arena, pods)
    rotation = ("--enable-secret-rotation", f"--rotation-poll-interval={ROTATION_SECONDS}s")
    contender = Contender("keyferry", ALL_KEYFERRY, program)
    # Compiles its modules, whose files on the tmpfs would count as memory of the control group.
    async with arena.contender(contender):
        pass
    async with arena.contender(contender, *rotation, *flags) as running:
        volumes = [
            _volume(running, f"part-{part}", pod, uid, f"{pod}-{part}")
            for pod, uid in uids
            for part in range(VOLUMES_OF_POD)
        ]
        node = Node(arena, running, volumes, Probes(running))
        await node.probes.running.stack.driver.answers()
        phases = [await node.measure("unrelated mounts only", node.wait(15))]
        phases.append(await node.measure("mount", node.mount_all()))
        phases.append(await node.measure("publish again", node.publish_again()))
        refresh = ROTATION_SECONDS + 10
        phases.append(await node.measure("refresh, unchanged", node.wait(refresh)))
        await arena.vault.rotate()
        phases.append(await node.measure("refresh, all changed", node.wait(refresh)))
        phases.append(await node.measure("unmount", node.unmount_all()))
    return phases


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--pods", type=int, default=250)
    parser.add_argument("--flag", action="append", default=[], help="of the driver; repeatable")
    parser.add_argument("--program", default="keyferry", help="an older Keyferry")
    parser.add_argument("--out", type=Path, default=Path("scale.json"))
    options = parser.parse_args()
    asyncio.run(built_programs())
    upstream = built_upstream()
    with TemporaryDirectory(prefix="kf-", dir="/dev/shm") as name:
        folder = Path(name)
        load_vault = build_load_vault(folder)
        enter_own_world([VAULT])

        async def run() -> list[Figures]:
            async with running_arena(folder, upstream, load_vault, {}) as arena:
                return await measure(
                    arena, pods=options.pods, flags=options.flag, program=options.program
                )

        phases = asyncio.run(run())
    options.out.write_text(json.dumps(phases, indent=1) + "\n")


if __name__ == "__main__":
    main()
