"""Breaks all set-ups, in two phases, and returns what the tools say about them."""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import yaml

from tests.e2e.cluster.broken import azure_rows, vault_rows
from tests.e2e.cluster.broken.alerts import firing_alerts, promtool_path
from tests.e2e.cluster.broken.azure_rows import AZURE_ROWS
from tests.e2e.cluster.broken.normalising import said
from tests.e2e.cluster.broken.observe import Observer, Outcome
from tests.e2e.cluster.broken.page import Said
from tests.e2e.cluster.broken.setup import BrokenSetup, Phase
from tests.e2e.cluster.broken.sync_rows import SYNC_ROWS, UNLISTED
from tests.e2e.cluster.broken.vault_rows import SECRETS_NAMESPACE, VAULT_ROWS
from tests.e2e.cluster.broken.world import (
    World,
    proxy_variables,
    running_world,
    vault_installed,
)
from tests.e2e.cluster.kubectl import Document
from tests.e2e.cluster.waiting import eventually

ROWS = (*AZURE_ROWS, *VAULT_ROWS, *SYNC_ROWS)
_CLUSTER_KINDS = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")


@dataclass
class Results:
    """What the tools said.

    Attributes:
        said: by name of a set-up.
        outcomes: before anything was replaced.
        outputs: all texts that were printed, for the search for values.
        phases: the seconds of each step.
        doctor_cpu: mean processor time of a diagnosis in seconds, by phase.
    """

    said: dict[str, Said] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    phases: dict[str, float] = field(default_factory=dict)
    doctor_cpu: dict[str, float] = field(default_factory=dict)


async def observe_all(
    folder: Path, rows: Sequence[BrokenSetup] = ROWS, results: Results | None = None
) -> Results:
    """Break the set-ups on a new cluster.

    Args:
        folder: for all files; a short path.
        rows: the set-ups.
        results: is filled; None for new ones.
    """
    promtool = promtool_path()
    results, start = results or Results(), time.monotonic()

    def done(step: str) -> None:
        results.phases[step] = time.monotonic() - start

    async with running_world(folder) as world:
        done("cluster")
        for each in (Phase.AZURE, Phase.IMDS):
            if chosen := [row for row in rows if row.phase is each]:
                for row in chosen:
                    azure_rows.prepare(world, row)
                data = str(world.installed.vault.data.folder)
                phase = _Run(world, chosen, results, {}, ("--dev-vault", data), promtool, done)
                await phase.run(each.value)
        if chosen := [row for row in rows if row.phase is Phase.VAULT]:
            names = [row.name for row in chosen]
            await world.make_namespaces(names)
            async with vault_installed(
                world,
                secrets_in=[name for name in names if name != SECRETS_NAMESPACE],
                syncs_in=[name for name in names if name != UNLISTED],
            ):
                done("vault installed")
                await vault_rows.put_secret(world)
                for row in chosen:
                    await vault_rows.prepare(world, row)
                proxies = proxy_variables(world)
                phase = _Run(world, chosen, results, proxies, (), promtool, done)
                await phase.run("vault")
    return results


@dataclass
class _Run:
    """One phase.

    Attributes:
        world: the cluster.
        rows: the set-ups of the phase.
        results: is filled.
        variables: environment of doctor.
        options: of doctor.
        promtool: its path.
        done: records a step.
    """

    world: World
    rows: Sequence[BrokenSetup]
    results: Results
    variables: Mapping[str, str]
    options: Sequence[str]
    promtool: str
    done: Callable[[str], None]

    async def run(self, name: str) -> None:
        """Break the set-ups, and record what the tools say."""
        world, folder = self.world, self.world.folder / name
        folder.mkdir()
        observer = Observer(world, self.rows, {**os.environ, **self.variables})
        await world.make_namespaces([row.name for row in self.rows])
        before, start = await observer.metrics(), time.monotonic()
        await self._apply()
        await self._break_later()
        self.done(f"{name} applied")
        await asyncio.gather(self._events(observer), observer.lint(folder / "lint"))
        self.done(f"{name} events")
        await observer.doctor(*self.options)
        self.done(f"{name} doctor")
        self.results.doctor_cpu[name] = observer.doctor_cpu
        await observer.status()
        after, seconds = await observer.metrics(), time.monotonic() - start
        pages = [(before, after)]
        observer.outputs.append(await world.installed.driver_log())
        if world.openbao is not None:
            logs = ("logs", "deployment/keyferry-sync", "--namespace=kube-system")
            observer.outputs.append(await world.installed.kubectl(*logs))
            pages.append(("", await observer.controller_metrics()))
        firing = [
            alert
            for first, last in pages
            for alert in firing_alerts(first, last, seconds, promtool=self.promtool, folder=folder)
        ]
        folders = {
            str(world.folder): "DIR",
            **({str(world.bao.ca.parent): "/etc/keyferry/vault"} if world.openbao else {}),
        }
        for row in self.rows:
            outcome = observer.outcomes[row.name]
            provider, address = _vault_of(row, world)
            outcome.alerts = sorted(
                {
                    each.name
                    for each in firing
                    if each.concerns(row.name, provider, address)
                    and (each.name in row.alerts or each.is_about_a_vault)
                }
            )
            self.results.said[row.name] = said(row, outcome, folders)
            self.results.outputs += outcome.outputs
        self.results.outcomes |= observer.outcomes
        self.results.outputs += [*observer.outputs, *map(str, firing)]
        self.done(name)

    async def _apply(self) -> None:
        documents: list[Document] = []
        policies: list[Document] = []
        refusing: set[str] = set()
        for row in self.rows:
            for document in row.rendered(self.world.addresses):
                if document["kind"] in _CLUSTER_KINDS:
                    policies.append(document)
                    refusing.add(row.name)
                    continue
                document["metadata"].setdefault("namespace", row.name)
                documents.append(document)
        if policies:
            await self._apply_all(policies)
        for namespace in refusing:
            look = partial(self._refuses_secrets, namespace)
            await eventually(look, f"the admission policy of {namespace}")
        await self._apply_all(documents)

    async def _apply_all(self, documents: Sequence[Document]) -> None:
        await self.world.installed.kubectl(
            "apply", "--filename=-", stdin=yaml.safe_dump_all(documents)
        )

    async def _refuses_secrets(self, namespace: str) -> bool | None:
        """Return True if no Secret can be created: the API server applies policies with a delay."""
        try:
            await self.world.installed.kubectl(
                *("create", "secret", "generic", "probe", f"--namespace={namespace}"),
                "--dry-run=server",
            )
        except AssertionError as error:
            return "denied" in str(error) or None
        return None

    async def _break_later(self) -> None:
        for row in self.rows:
            if row.later is not None:
                await self.world.installed.kubectl(
                    *("wait", "--for=condition=Ready", "pod/web", f"--namespace={row.name}"),
                    "--timeout=120s",
                )
                done = row.later(self.world, row)
                if inspect.isawaitable(done):
                    await done

    @staticmethod
    async def _events(observer: Observer) -> None:
        await observer.wait_for_events()
        await observer.describe()


def _vault_of(row: BrokenSetup, world: World) -> tuple[str, str]:
    """Return the provider and the address of the vault of a set-up."""
    spc = row.rendered(world.addresses)[0]
    parameters = spc["spec"]["parameters"]
    address = parameters.get("vaultAddress") or f"{parameters.get('keyvaultName')}.vault.azure.net"
    return spc["spec"]["provider"], address
