"""`python -m bench.api_load`: what one node costs the API server, in a busy cluster.

Objects that the node does not need change all the time: pods and pod statuses of other nodes,
SecretProviderClasses and Secrets of other namespaces. Requests are counted in the audit log of a
real API server, watch events and bytes in its metrics.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.arena import (
    PODS,
    UPSTREAM,
    Arena,
    Contender,
    RunningContender,
    running_arena,
    spc_manifest,
)
from bench.load_vault import VAULT, build_load_vault
from tests.compat.cases import pod_manifest
from tests.compat.stacks import ALL_KEYFERRY
from tests.compat.upstream import built_upstream
from tests.compat.world import enter_own_world
from tests.e2e.cluster.api_client import ApiClient, open_client
from tests.e2e.cluster.programs import built_programs
from tests.fakes.kube_objects import CUSTOM_API_VERSION

RESOURCES = ("pods", "secretproviderclasses", "secretproviderclasspodstatuses", "secrets")
SPC = "synced"
ROTATION_SECONDS = 30
FOREIGN_NAMESPACE = "other"
FOREIGN_OBJECTS = 20
SETTLE_SECONDS = 8.0
POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}
_OTHERS = ("kubectl", "kube-apiserver", "Python/")
"""How the User-Agent of other clients begins."""

Counts = Counter[str]


@dataclass(frozen=True)
class Phase:
    """What the node did to the API server in a phase.

    Attributes:
        name: of the phase.
        seconds: duration.
        requests: by verb and resource, of the audit log.
        not_found: of these, those that were answered with 404.
        events: watch events by resource, of the metrics.
        bytes: of these, and of the responses to lists and reads.
        foreign_writes: changes of objects that the node does not need.
    """

    name: str
    seconds: float
    requests: Counts
    not_found: int
    events: Counts
    bytes: Counts
    foreign_writes: int

    def as_json(self) -> dict[str, Any]:
        """Return the figures."""
        return {**vars_of(self)}


def vars_of(phase: Phase) -> dict[str, Any]:
    """Return the fields of a phase."""
    return {name: getattr(phase, name) for name in Phase.__dataclass_fields__}


class Meter:
    """Measures phases.

    Args:
        arena: has the API server.
        audit_log: of the API server.
        foreign: counts the changes of objects that the node does not need.
    """

    def __init__(self, arena: Arena, audit_log: Path, foreign: Foreign) -> None:
        self._arena = arena
        self._audit_log = audit_log
        self._foreign = foreign

    async def measure(self, name: str, work: Coroutine[Any, Any, None]) -> Phase:
        """Return what the API server did while `work` ran, and a few seconds after that."""
        loop = asyncio.get_running_loop()
        offset, before = self._audit_log.stat().st_size, await self._metrics()
        start, writes = loop.time(), self._foreign.writes
        await work
        await asyncio.sleep(SETTLE_SECONDS)
        after = await self._metrics()
        found = list(self._audited(offset))
        phase = Phase(
            name,
            loop.time() - start,
            Counter(action for action, _ in found),
            sum(1 for _, code in found if code == 404),
            after["events"] - before["events"],
            after["bytes"] - before["bytes"],
            self._foreign.writes - writes,
        )
        print(json.dumps(phase.as_json()), file=sys.stderr)
        return phase

    def _audited(self, offset: int) -> Iterator[tuple[str, int]]:
        with self._audit_log.open("rb") as log:
            log.seek(offset)
            for line in log:
                event = json.loads(line)
                agent = event.get("userAgent", "")
                about = event.get("objectRef", {})
                verb, is_start = event["verb"], event["stage"] == "ResponseStarted"
                if agent.startswith(_OTHERS) or is_start is not (verb == "watch"):
                    continue
                query = event["requestURI"].partition("?")[2]
                verb = "watch-list" if "sendInitialEvents=true" in query else verb
                scope = "" if "namespace" in about else " (cluster)"
                what = f"{verb} {about.get('resource', event['requestURI'])}{scope}"
                yield what, event["responseStatus"]["code"]

    async def _metrics(self) -> dict[str, Counts]:
        text = await self._arena.api.kubectl("get", "--raw", "/metrics")
        events, size = Counter[str](), Counter[str]()
        for line in text.splitlines():
            match = re.match(r"(apiserver_\w+){(.*)} (\S+)$", line)
            if match is None:
                continue
            labels = dict(re.findall(r'(\w+)="([^"]*)"', match[2]))
            resource = labels.get("resource", "")
            if resource not in RESOURCES:
                continue
            if match[1] == "apiserver_watch_events_total":
                events[resource] += int(float(match[3]))
            elif match[1] == "apiserver_watch_events_sizes_sum" or (
                match[1] == "apiserver_response_sizes_sum" and labels["verb"] in {"GET", "LIST"}
            ):
                size[resource] += int(float(match[3]))
        return {"events": events, "bytes": size}


class Foreign:
    """Changes objects that the node does not need.

    Args:
        client: calls the API.
        rate: changes per second of each of the four kinds.
    """

    def __init__(self, client: ApiClient, rate: float) -> None:
        self._client = client
        self._rate = rate
        self.writes = 0

    async def create(self) -> None:
        """Create the objects."""
        for number in range(FOREIGN_OBJECTS):
            name = f"other-{number}"
            pod = pod_manifest(name, FOREIGN_NAMESPACE, SPC)
            del pod["spec"]["serviceAccountName"]
            await self._client.apply(
                spc_manifest(name, FOREIGN_NAMESPACE, "32-other", 1),
                {**pod, "spec": {**pod["spec"], "serviceAccountName": "web"}},
                {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {
                        "name": name,
                        "namespace": FOREIGN_NAMESPACE,
                        "labels": {"secrets-store.csi.k8s.io/managed": "true"},
                    },
                },
                namespace=FOREIGN_NAMESPACE,
            )
            await self._write_status(name, "0")

    async def run(self) -> None:
        """Change them until cancelled."""
        for number in itertools.count():
            name, value = f"other-{number % FOREIGN_OBJECTS}", str(number)
            kinds = ("SecretProviderClass", "Pod", "Secret")
            await asyncio.gather(
                *(
                    self._client.annotate(kind, FOREIGN_NAMESPACE, name, {"bench": value})
                    for kind in kinds
                ),
                self._write_status(name, value),
            )
            self.writes += len(kinds) + 1
            await asyncio.sleep(1 / self._rate)

    async def _write_status(self, name: str, value: str) -> None:
        url = self._client.url("SecretProviderClass", FOREIGN_NAMESPACE, name).replace(
            "/secretproviderclasses/", "/secretproviderclasspodstatuses/"
        )
        status = {
            "apiVersion": CUSTOM_API_VERSION,
            "kind": "SecretProviderClassPodStatus",
            "metadata": {
                "name": name,
                "namespace": FOREIGN_NAMESPACE,
                "labels": {"internal.secrets-store.csi.k8s.io/node-name": "other-node"},
            },
            "status": {"podName": name, "objects": [{"id": "secret/a", "version": value}]},
        }
        await self._client.call(
            "PATCH",
            f"{url}?fieldManager=author&force=true",
            status,
            content="application/apply-patch+yaml",
        )


@asynccontextmanager
async def busy_cluster(arena: Arena, rate: float) -> AsyncIterator[tuple[ApiClient, Foreign]]:
    """Change foreign objects while the block runs."""
    async with open_client(arena.api) as client:
        for namespace in (FOREIGN_NAMESPACE,):
            await arena.api.kubectl("create", "namespace", namespace)
            await arena.api.kubectl("create", "serviceaccount", "web", f"--namespace={namespace}")
        foreign = Foreign(client, rate)
        await foreign.create()
        task = asyncio.create_task(foreign.run())
        try:
            yield client, foreign
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def measure(
    arena: Arena, contender: Contender, audit_log: Path, *, idle: float, rate: float
) -> list[Phase]:
    """Return the phases of one contender."""
    namespace = contender.pairing.name
    async with busy_cluster(arena, rate) as (client, foreign):
        meter = Meter(arena, audit_log, foreign)
        spc = spc_manifest(SPC, namespace, "32-synced", 1)
        data = [{"objectName": "32-synced-0", "key": "value"}]
        spc["spec"]["secretObjects"] = [{"secretName": SPC, "type": "Opaque", "data": data}]
        await client.apply(spc)
        flags = ("--enable-secret-rotation", f"--rotation-poll-interval={ROTATION_SECONDS}s")
        phases = [await meter.measure("no driver", asyncio.sleep(20))]
        async with arena.contender(contender, *flags) as running:
            phases.append(await meter.measure("start (from ready)", asyncio.sleep(10)))
            phases.append(await meter.measure("110 pods start", _publish_all(running)))
            phases.append(await meter.measure("republish, nothing due", _publish_all(running)))
            phases.append(await meter.measure("idle", _idle(running, idle)))
            await arena.vault.rotate()
            phases.append(await meter.measure("rotation", _rotation(running)))
            edit = client.annotate("SecretProviderClass", namespace, SPC, {"edited": "yes"})
            phases.append(await meter.measure("class edit", _ignore(edit)))
            phases.append(await meter.measure("110 pods end", _end_all(running, client, namespace)))
    return phases


async def _publish_all(running: RunningContender) -> None:
    await asyncio.gather(*(running.publish(SPC, pod) for pod in range(PODS)))


async def _ignore(work: Coroutine[Any, Any, object]) -> None:
    await work


async def _idle(running: RunningContender, seconds: float) -> None:
    """No pod comes or goes; kubelet publishes each pod about every 90 seconds."""
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        for pod in range(PODS):
            await running.publish(SPC, pod)
            await asyncio.sleep(90 / PODS)


async def _rotation(running: RunningContender) -> None:
    """Two intervals, so that each volume is refreshed."""
    await _idle(running, 2 * ROTATION_SECONDS)


async def _end_all(running: RunningContender, client: ApiClient, namespace: str) -> None:
    async def end(pod: int) -> None:
        await running.unpublish(SPC, pod)
        options = {"gracePeriodSeconds": 0}
        await client.delete("Pod", namespace, f"web-{pod}", **options)

    await asyncio.gather(*(end(pod) for pod in range(PODS)))


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.api_load", description=__doc__)
    parser.add_argument("--idle", type=float, default=660, help="seconds; more than a watch lasts")
    parser.add_argument("--rate", type=float, default=3, help="foreign changes per second and kind")
    parser.add_argument("--upstream", action="store_true", help="measure upstream")
    parser.add_argument("--program", default="keyferry", help="an older Keyferry")
    parser.add_argument("--out", type=Path, default=Path("api-load.json"))
    options = parser.parse_args()
    contender = (
        UPSTREAM if options.upstream else Contender("keyferry", ALL_KEYFERRY, options.program)
    )
    asyncio.run(built_programs())
    upstream = built_upstream()
    with TemporaryDirectory(prefix="kf-", dir="/dev/shm") as name:
        folder = Path(name)
        load_vault = build_load_vault(folder)
        policy, audit_log = folder / "policy.json", folder / "audit.log"
        policy.write_text(json.dumps(POLICY))
        audit_log.touch()
        flags = (f"--audit-policy-file={policy}", f"--audit-log-path={audit_log}")
        enter_own_world([VAULT])

        async def run() -> list[Phase]:
            async with running_arena(folder, upstream, load_vault, {}, *flags) as arena:
                return await measure(
                    arena, contender, audit_log, idle=options.idle, rate=options.rate
                )

        phases = asyncio.run(run())
    options.out.write_text(json.dumps([phase.as_json() for phase in phases], indent=1) + "\n")
    print(options.out.read_text())


if __name__ == "__main__":
    main()
