"""`make soak`: a node under load and failures for a long time; nothing may grow.

Pods are created and deleted, all content is rotated and refreshed every ten seconds, the vault is
slow, throttles, closes connections and revokes tokens, the Kubernetes API is stopped, and child
processes of the driver are killed. Isolation is on, as by default, so figures are those of all
processes of the container. The second and the last quarter of the run are compared: memory,
descriptors, threads, processes and mounts must not grow.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import grpc
import yaml

from bench.arena import KEYFERRY, spc_manifest
from bench.machine import LoadWatch, keyferry_version, machine
from bench.memory_group import MemoryGroup, memory_group
from bench.processes import become_subreaper, leaves, process_usage
from tests.compat.cases import pod_manifest
from tests.compat.cloud import running_cloud
from tests.compat.comparison import CRDS
from tests.compat.stacks import ALL_KEYFERRY, Ground, Stack, start_stack
from tests.compat.upstream import UpstreamPrograms
from tests.compat.vault_contents import APP, APP_SECRET, TENANT, VAULT
from tests.compat.world import enter_own_world
from tests.e2e.children import ending_children
from tests.e2e.cluster.api_server import ApiServer, running_api_server
from tests.e2e.cluster.programs import built_programs
from tests.e2e.node import Volume
from tests.fakes.devvault import CloseMidResponse, DevVault, RespondStatus
from tests.fakes.mounts import mounted_below, unmount_below

PODS = 40
OBJECTS = 5
ROTATION_SECONDS = 10.0
SAMPLE_SECONDS = 5.0
LIFETIME_SECONDS = (5.0, 60.0)
CALL_SECONDS = 30
ALLOWED_GROWTH = {
    "memory": 4.0,
    "kernel_and_volumes": 4.0,
    "descriptors": 2.0,
    "threads": 1.0,
    "processes": 0.0,
}
"""How much the median of the last quarter may be above that of the second: MiB, and numbers. The
first quarter is left out, because pools and caches fill then."""
LABELS = {
    "memory": "memory of all processes, MiB",
    "kernel_and_volumes": "kernel memory and files of volumes, MiB",
    "descriptors": "open files and sockets",
    "threads": "threads",
    "processes": "processes",
}
_VARIABLE_PARTS = re.compile(
    r"/\S*/pods/\S+|\b[0-9a-f]{8}-[0-9a-f-]{27}\b|\b(web|32-soak)-\d+\b|\d[\d:.]*"
)
"""What differs between two failures of one kind: paths, ids, names, numbers, times."""
_MAX_REASON_LENGTH = 240


@dataclass(frozen=True)
class Failure:
    """A publish that failed; equal ones are counted.

    Attributes:
        disturbance: what was the matter then, or lately.
        publish_kind: "first" of a pod that waits to start, or "again" of one that runs.
        reason: error message for kubelet, without the parts that differ between pods.
    """

    disturbance: str
    publish_kind: str
    reason: str


@dataclass
class Soak:
    """What goes on.

    Attributes:
        api: the Kubernetes API.
        vault: the development vault.
        stack: the driver.
        uids: of the pods.
        deadline: when it is over, by the monotonic clock.
        group: accounts for memory of the kernel and of volumes.
        samples: what the kernel reported of all processes, by the names of `ALLOWED_GROWTH`.
        counts: how often something happened.
        disturbance: what is the matter now, or was a moment ago.
        failures: the publishes that failed, each kind with its number.
    """

    api: ApiServer
    vault: DevVault
    stack: Stack
    uids: Sequence[str]
    deadline: float
    group: MemoryGroup
    samples: list[dict[str, float]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    disturbance: str = "none"
    failures: Counter[Failure] = field(default_factory=Counter)
    _random: random.Random = field(default_factory=lambda: random.Random(1))

    async def run(self) -> None:
        """Do everything at once until the time is over."""
        async with asyncio.TaskGroup() as group:
            for number in range(PODS):
                group.create_task(self._run_pod(number))
            group.create_task(self._rotate())
            group.create_task(self._disturb())
            group.create_task(self._sample())

    def count(self, event: str) -> None:
        self.counts[event] = self.counts.get(event, 0) + 1

    def _time_left(self) -> bool:
        return time.monotonic() < self.deadline

    async def _run_pod(self, number: int) -> None:
        """Publishes, republishes and unpublishes one pod after the other at one path."""
        rng = random.Random(number)
        while self._time_left():
            volume = self._volume(number)
            end = min(time.monotonic() + rng.uniform(*LIFETIME_SECONDS), self.deadline)
            publish = "first"
            while time.monotonic() < end:
                try:
                    async with asyncio.timeout(CALL_SECONDS):
                        await self.stack.driver.publish(volume)
                except grpc.aio.AioRpcError as error:
                    self._record_failure(publish, f"{error.code().name}: {error.details()}")
                except TimeoutError:
                    self._record_failure(publish, f"no answer within {CALL_SECONDS} s")
                else:
                    self.count(f"publishes that succeeded ({publish})")
                    publish = "again"
                await asyncio.sleep(rng.uniform(0.5, 4))
            await self._unpublish(volume)

    def _record_failure(self, publish_kind: str, reason: str) -> None:
        self.count(f"publishes that failed ({publish_kind})")
        same = _VARIABLE_PARTS.sub("_", reason)[:_MAX_REASON_LENGTH]
        self.failures[Failure(self.disturbance, publish_kind, same)] += 1

    def _volume(self, number: int) -> Volume:
        volume = self.stack.folder / "pods" / self.uids[number] / "volumes"
        path = volume / "kubernetes.io~csi" / "secrets" / "mount"
        path.parent.mkdir(parents=True, exist_ok=True)
        secrets = {"clientid": APP, "clientsecret": APP_SECRET}
        name = f"web-{number}"
        return Volume(
            *("soak", name, self.uids[number], path), secrets=secrets, namespace=ALL_KEYFERRY.name
        )

    async def _unpublish(self, volume: Volume) -> None:
        while True:
            try:
                await self.stack.driver.unpublish(volume)
            except grpc.aio.AioRpcError:
                self.count("unpublishes that failed")
                await asyncio.sleep(0.5)
            else:
                self.count("pods that came and went")
                return

    async def _rotate(self) -> None:
        while self._time_left():
            await asyncio.sleep(min(ROTATION_SECONDS, max(0.1, self.deadline - time.monotonic())))
            rotate(self.vault, f"at {time.monotonic()}")
            self.count("rotations")

    async def _disturb(self) -> None:
        """One trouble after the other, with quiet between them."""
        while self._time_left():
            for name, trouble in self._disturbances().items():
                self.disturbance = name
                trouble()
                self.count("troubles of the vault")
                await self._sleep(8)
                self.disturbance = f"after: {name}"
                self.vault.clear_faults()
                self.vault.tune()
                await self._sleep(5)
            self.disturbance = "the API is unavailable"
            await self.api.stop()
            await self._sleep(5)
            await self.api.start()
            self.disturbance = "after: the API is unavailable"
            self.count("absences of the API")

    def _disturbances(self) -> Mapping[str, Callable[[], None]]:
        vault, host = self.vault, f"{VAULT}.vault.azure.net"
        entra = "login.microsoftonline.com"
        return {
            "20 answers 503": lambda: vault.add_fault(host, RespondStatus(503), times=20),
            "20 answers 429": lambda: vault.add_fault(
                host, RespondStatus(429, retry_after=2), times=20
            ),
            "20 answers cut off": lambda: vault.add_fault(host, CloseMidResponse(), times=20),
            "one answer 500 of Entra": lambda: vault.add_fault(entra, RespondStatus(500)),
            "slow, and tokens of 15 s": lambda: vault.tune(
                latency_seconds=0.2, token_lifetime_seconds=15
            ),
            "5 calls a second": lambda: vault.tune(throttle_per_second=5),
            "a child process killed": self._kill_child,
        }

    def _kill_child(self) -> None:
        """Kill one of the processes that run providers and parsers."""
        (driver,) = self.stack.processes
        if children := leaves(driver.pid):
            os.kill(self._random.choice(children), signal.SIGKILL)
            self.count("child processes killed")

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0, min(seconds, self.deadline - time.monotonic())))

    async def _sample(self) -> None:
        start = time.monotonic()
        while self._time_left():
            now = process_usage(child.pid for child in self.stack.processes)
            charges = self.group.charges()
            self.samples.append(
                {
                    "minutes": (time.monotonic() - start) / 60,
                    "memory": now.rss_mib,
                    "kernel_and_volumes": charges.kernel + charges.shared,
                    "kernel": charges.kernel,
                    "volumes": charges.shared,
                    "descriptors": now.descriptors,
                    "threads": now.threads,
                    "processes": now.processes,
                }
            )
            await self._sleep(SAMPLE_SECONDS)


def rotate(vault: DevVault, value: str) -> None:
    """Give each object a new version; there are no more of it than of one."""
    for number in range(OBJECTS):
        vault.set_secret(VAULT, f"32-soak-{number}", value)


def growth(samples: Sequence[dict[str, float]]) -> dict[str, tuple[float, float]]:
    """Of each figure the medians of the second and of the last quarter."""
    quarter = len(samples) // 4
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    return {
        name: (median(one[name] for one in early), median(one[name] for one in late))
        for name in ALLOWED_GROWTH
    }


def failure_table(failures: Mapping[Failure, int]) -> str:
    """The publishes that failed by their reasons, the most frequent first."""
    rows = sorted(failures.items(), key=lambda found: -found[1])
    lines = (
        f"| {count} | {one.disturbance} | {one.publish_kind} | {one.reason.replace('|', '/')} |"
        for one, count in rows
    )
    head = "\n| failed | trouble | publish | error for kubelet |\n|---:|---|---|---|"
    return "\n".join((head, *lines))


@asynccontextmanager
async def _running_soak(folder: Path, seconds: float, flags: Sequence[str]) -> AsyncIterator[Soak]:
    with memory_group() as group, TemporaryDirectory() as disk:
        async with _started_soak(folder, seconds, flags, group, Path(disk)) as running:
            yield running


@asynccontextmanager
async def _started_soak(
    folder: Path, seconds: float, flags: Sequence[str], group: MemoryGroup, disk: Path
) -> AsyncIterator[Soak]:
    # Logs and compiled modules are not in tmpfs, where they would be charged to the group.
    async with (
        running_api_server(folder / "api") as api,
        ending_children(disk / "output") as children,
        running_cloud(folder / "cloud", children) as vault,
    ):
        vault.add_app(APP, tenant=TENANT, secret=APP_SECRET)
        rotate(vault, "at first")
        vault.grant(VAULT, APP, "get", "list")
        await api.kubectl("apply", f"--filename={CRDS}")
        established = ("--for=condition=Established", "--timeout=60s", f"--filename={CRDS}")
        await api.kubectl("wait", *established)
        await api.kubectl("create", "namespace", ALL_KEYFERRY.name)
        await api.kubectl("create", "serviceaccount", "web", f"--namespace={ALL_KEYFERRY.name}")
        pods = [pod_manifest(f"web-{number}", ALL_KEYFERRY.name, "soak") for number in range(PODS)]
        of_class = spc_manifest(
            "soak", ALL_KEYFERRY.name, "32-soak", OBJECTS, vault=VAULT, tenant=TENANT
        )
        data = [{"key": "a", "objectName": "32-soak-0"}]
        wanted = {"secretName": "soak", "type": "Opaque", "data": data}
        of_class["spec"]["secretObjects"] = [wanted]
        text = yaml.safe_dump_all([of_class, *pods])
        await api.kubectl("create", "--filename=-", stdin=text)
        listed = await api.kubectl.get("pods", f"--namespace={ALL_KEYFERRY.name}")
        uids = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in listed["items"]}
        ground = Ground(
            children,
            folder,
            kubeconfig=api.kubeconfig,
            ca=folder / "cloud" / "ca.pem",
            upstream=UpstreamPrograms("", ""),
            driver_flags=("--enable-secret-rotation", "--rotation-poll-interval=10s", *flags),
            keyferry=KEYFERRY.keyferry,
            prefix=group.prefix,
            variables={
                "PYTHONDONTWRITEBYTECODE": "",
                "PYTHONPYCACHEPREFIX": str(disk / "compiled"),
            },
        )
        stack = await start_stack(ALL_KEYFERRY, ground)
        try:
            ordered = [uids[f"web-{number}"] for number in range(PODS)]
            yield Soak(api, vault, stack, ordered, time.monotonic() + seconds, group)
        finally:
            await stack.driver.close()


async def soak(
    folder: Path, seconds: float, flags: Sequence[str] = (), samples_file: Path | None = None
) -> bool:
    """Run it and print the result; True if nothing grew.

    Args:
        folder: for everything.
        seconds: duration.
        flags: of the driver.
        samples_file: takes all samples as JSON; None for nowhere.
    """
    try:
        async with _running_soak(folder, seconds, flags) as running:
            await running.run()
            pods = running.stack.folder / "pods"
            left = mounted_below(pods)
            found = growth(running.samples)
    finally:
        unmount_below(folder)
    if samples_file:
        samples_file.parent.mkdir(parents=True, exist_ok=True)
        samples_file.write_text(json.dumps(running.samples, indent=1) + "\n")
    for what, count in sorted(running.counts.items()):
        print(f"{count:8} {what}")
    print(failure_table(running.failures))
    print("\n| figure | second quarter | last quarter | highest | permitted growth |")
    print("|---|---:|---:|---:|---:|")
    grown = []
    for name, (early, late) in found.items():
        highest = max(one[name] for one in running.samples)
        values = f"{early:.1f} | {late:.1f} | {highest:.1f} | {ALLOWED_GROWTH[name]:g}"
        print(f"| {LABELS[name]} | {values} |")
        if late - early > ALLOWED_GROWTH[name]:
            grown.append(name)
    print(f"| mounts at the end | | {len(left)} | | 0 |")
    if grown or left:
        print(f"\nGrew: {', '.join([*grown, *left])}")
    return not grown and not left


def main() -> None:
    """Soak for the given time."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--isolation", choices=("process", "none"), default="process")
    parser.add_argument("--out", type=Path, default=Path(".bench-output"), help="folder of samples")
    options = parser.parse_args()
    samples = options.out.absolute() / "soak.json"
    asyncio.run(built_programs())
    become_subreaper()
    watch = LoadWatch()
    facts = machine({"Keyferry": keyferry_version(KEYFERRY.keyferry)})
    enter_own_world([VAULT])
    with TemporaryDirectory(prefix="kf-", dir="/dev/shm") as folder:
        flags = [f"--isolation={options.isolation}"]
        good = asyncio.run(soak(Path(folder), options.minutes * 60, flags, samples))
    load = watch.report()
    print(f"\n--isolation={options.isolation}, {options.minutes:g} minutes")
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    print(
        f"load average {load.load_average_before:.2f} before, {load.load_average_after:.2f} after"
    )
    for warning in load.warnings:
        print(f"Warning: {warning}.")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
