"""Runs the tools on broken set-ups, and records what they say."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import yaml

from tests.e2e.cluster.broken.setup import BrokenSetup
from tests.e2e.cluster.broken.world import World
from tests.e2e.cluster.kubectl import Document
from tests.e2e.cluster.waiting import eventually
from tests.fakes.cli import run_cli

EVENT_SECONDS = 90.0
_DOCTOR_LIMIT = "20s"
_AT_ONCE = 2
"""More would only share the processors."""
_EVENT = re.compile(r"^  (?:Warning|Normal) +(\S+) +\S.*?  +(\S+)  +(.*)$", re.MULTILINE)


@dataclass
class Outcome:
    """What the tools say about one set-up.

    Attributes:
        events: reason and message of the warnings of `kubectl describe`.
        lint: the findings, as rule and message.
        stage: the first stage that failed.
        problem: of that stage.
        remedy: of that stage.
        seconds: the duration of doctor.
        status: the problem that status shows.
        alerts: the firing alerts.
        outputs: everything that was printed.
    """

    events: list[tuple[str, str]] = field(default_factory=list)
    lint: list[tuple[str, str, str]] = field(default_factory=list)
    stage: str = ""
    problem: str = ""
    remedy: str = ""
    seconds: float = 0.0
    status: str = ""
    alerts: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)


class Observer:
    """Records the outcomes of the set-ups of one phase.

    Args:
        world: the cluster.
        rows: the set-ups.
        environment: of doctor.
    """

    def __init__(
        self, world: World, rows: Sequence[BrokenSetup], environment: Mapping[str, str]
    ) -> None:
        self._world = world
        self._rows = rows
        self._environment = environment
        self.outcomes = {row.name: Outcome() for row in rows}
        self.outputs: list[str] = []
        self.doctor_cpu = 0.0
        """Mean processor time of a diagnosis in seconds: a busy machine does not change it."""

    async def wait_for_events(self) -> None:
        """Wait until each set-up has the event that it should have."""

        async def happened() -> bool:
            found = await self._world.installed.kubectl.get("events", "-A")
            seen = {(e["metadata"]["namespace"], e["reason"]) for e in found["items"]}
            missing = [row.name for row in self._rows if (row.name, row.reasons[0]) not in seen]
            assert not missing, f"no event yet: {missing}"
            return True

        await eventually(happened, "the events", seconds=EVENT_SECONDS, pause=2.0)

    async def describe(self) -> None:
        """Record the warnings of `kubectl describe`."""

        async def describe(row: BrokenSetup) -> None:
            text = await self._world.installed.kubectl(
                "describe", row.about, f"--namespace={row.name}"
            )
            outcome = self.outcomes[row.name]
            outcome.outputs.append(text)
            warnings = {reason: message for reason, _, message in _EVENT.findall(text)}
            outcome.events = sorted(warnings.items())

        await self._for_each(describe)

    async def lint(self, folder: Path) -> None:
        """Record the findings of `keyferry lint` on the files of all set-ups."""
        folder.mkdir()
        for row in self._rows:
            documents = [_in_namespace(each, row) for each in row.rendered(self._world.addresses)]
            (folder / f"{row.name}.yaml").write_text(yaml.safe_dump_all(documents))
        done = await run_cli("lint", folder, "--format", "json")
        self.outputs += [done.stdout, done.stderr]
        for finding in json.loads(done.stdout):
            name = Path(finding["file"]).stem
            parts = (finding["rule"], finding["problem"], finding.get("remedy", ""))
            self.outcomes[name].lint.append(parts)

    async def status(self) -> None:
        """Record the problems that `keyferry status` shows."""
        kubeconfig = self._world.installed.cluster.kubeconfig
        done = await run_cli("status", "-A", "-o", "json", "--kubeconfig", kubeconfig)
        self.outputs += [done.stdout, done.stderr]
        for each in json.loads(done.stdout or "[]"):
            if each["namespace"] in self.outcomes:
                outcome = self.outcomes[each["namespace"]]
                shown = each["problem"] or _other_status(each)
                outcome.status = outcome.status or shown

    async def doctor(self, *options: str) -> None:
        """Record the broken stage that `keyferry doctor` names."""
        kubeconfig = self._world.installed.cluster.kubeconfig

        async def diagnose(row: BrokenSetup) -> None:
            outcome = self.outcomes[row.name]
            start = time.monotonic()
            done = await run_cli(
                *("doctor", row.target, "-n", row.name, "-o", "json"),
                *("--kubeconfig", kubeconfig, "--timeout", _DOCTOR_LIMIT),
                *(*row.doctor_options, *options),
                env=self._environment,
            )
            outcome.seconds = time.monotonic() - start
            outcome.outputs += [done.stdout, done.stderr]
            broken = _broken(done.stdout)
            outcome.stage = broken.get("stage", "")
            outcome.problem = broken.get("problem", done.stderr)
            outcome.remedy = broken.get("remedy", "")

        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        await self._for_each(diagnose)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        self.doctor_cpu = spent / len(self._rows)

    async def _for_each(self, look: Callable[[BrokenSetup], Awaitable[None]]) -> None:
        """Look at the set-ups, some of them at a time."""
        room = asyncio.Semaphore(_AT_ONCE)

        async def one(row: BrokenSetup) -> None:
            async with room:
                await look(row)

        await asyncio.gather(*map(one, self._rows))

    async def metrics(self) -> str:
        """Return the metrics page of the driver."""
        return await self._page(f"{self._world.node}:8095")

    async def controller_metrics(self) -> str:
        """Return the metrics page of the SecretSync controller."""
        pods = await self._world.installed.kubectl.get(
            "pods", "--namespace=kube-system", "--selector=app=keyferry-sync"
        )
        return await self._page(f"{pods['items'][0]['status']['podIP']}:8085")

    async def _page(self, address: str) -> str:
        def read() -> str:
            with urlopen(f"http://{address}/metrics", timeout=10) as response:
                content: bytes = response.read()
            return content.decode()

        page = await asyncio.to_thread(read)
        self.outputs.append(page)
        return page


def _broken(text: str) -> dict[str, Any]:
    """Return the first failed check in the JSON of doctor."""
    if not text.startswith(("{", "[")):
        return {}
    document = json.loads(text)
    reports = document if isinstance(document, list) else [document]
    checks = (check for report in reports for check in report.get("checks", ()))
    return next((check for check in checks if check["status"] == "failed"), {})


def _other_status(row: Mapping[str, Any]) -> str:
    return "environment is old" if row.get("environment") == "old" else ""


def _in_namespace(document: Document, row: BrokenSetup) -> Document:
    metadata = {"namespace": row.name, **document["metadata"]}
    return {**document, "metadata": metadata}
