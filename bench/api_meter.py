"""Measures what clients cost an API server: from its own metrics, and from /proc.

Nothing is counted in an audit log, because writing one takes processor time of the API server.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.processes import process_usage
from tests.e2e.children import Children
from tests.e2e.cluster.api_server import ApiServer

RESOURCES = frozenset(
    {"pods", "secretproviderclasses", "secretproviderclasspodstatuses", "secrets", "events"}
)
Counts = Counter[str]


@dataclass(frozen=True)
class Reading:
    """The counters of an API server at one time.

    Attributes:
        cpu: seconds of processor time by process.
        requests: by verb and resource.
        events: watch events sent, by resource.
        bytes: sent in watch events, lists and reads, by resource.
        watches: open ones, by resource.
        memory_mib: of the API server.
    """

    cpu: Mapping[str, float]
    requests: Counts = field(default_factory=Counter)
    events: Counts = field(default_factory=Counter)
    bytes: Counts = field(default_factory=Counter)
    watches: Counts = field(default_factory=Counter)
    memory_mib: float = 0.0


@dataclass(frozen=True)
class Phase:
    """What happened in one phase.

    Attributes:
        name: of the phase.
        seconds: duration.
        cpu: seconds of processor time by process.
        requests: by verb and resource.
        events: watch events sent, by resource.
        bytes: sent, by resource.
        watches: open at the end, by resource.
        memory_mib: of the API server at the end.
    """

    name: str
    seconds: float
    cpu: Mapping[str, float]
    requests: Counts
    events: Counts
    bytes: Counts
    watches: Counts
    memory_mib: float

    def as_json(self) -> dict[str, Any]:
        """Return the figures."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


class Meter:
    """Measures phases.

    Args:
        server: the API server.
        children: etcd and kube-apiserver, by their names. The clients are in this process.
    """

    def __init__(self, server: ApiServer, children: Children) -> None:
        self._server = server
        self._pids = {child.name: child.pid for child in children.all}

    async def measure(
        self, name: str, work: Coroutine[Any, Any, object], *, settle: float = 5.0
    ) -> Phase:
        """Return what happened while `work` ran, and `settle` seconds after that."""
        loop = asyncio.get_running_loop()
        before, start = await self._read(), loop.time()
        await work
        await asyncio.sleep(settle)
        seconds = loop.time() - start
        after = await self._read()
        return Phase(
            name,
            seconds,
            {each: after.cpu[each] - before.cpu[each] for each in after.cpu},
            after.requests - before.requests,
            after.events - before.events,
            after.bytes - before.bytes,
            after.watches,
            after.memory_mib,
        )

    async def _read(self) -> Reading:
        cpu = {name: process_usage([pid]).cpu_seconds for name, pid in self._pids.items()}
        cpu["clients"] = time.process_time()
        memory = process_usage([self._pids["kube-apiserver"]]).rss_mib
        reading = Reading(cpu, memory_mib=memory)
        for line in (await self._server.kubectl("get", "--raw", "/metrics")).splitlines():
            match = re.match(r"(apiserver_\w+){(.*)} (\S+)$", line)
            if match is None:
                continue
            labels = dict(re.findall(r'(\w+)="([^"]*)"', match[2]))
            if labels.get("resource", "") in RESOURCES:
                _add(reading, match[1], labels, int(float(match[3])))
        return reading


def _add(reading: Reading, name: str, labels: Mapping[str, str], value: int) -> None:
    resource, verb = labels["resource"], labels.get("verb", "")
    match name:
        case "apiserver_request_total":
            reading.requests[f"{verb.lower()} {resource} {labels['code']}"] += value
        case "apiserver_watch_events_total":
            reading.events[resource] += value
        case "apiserver_watch_events_sizes_sum":
            reading.bytes[resource] += value
        case "apiserver_response_sizes_sum" if verb in {"GET", "LIST"}:
            reading.bytes[resource] += value
        case "apiserver_longrunning_requests" if verb == "WATCH":
            reading.watches[resource] += value
