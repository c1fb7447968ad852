"""Runs each case in all four stacks, with one cloud and one Kubernetes API.

async with running_comparison(folder) as compared:
    outcome = compared.outcomes["plain", ALL_UPSTREAM]
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import yaml

from keyferry.records import replace
from tests.compat.cases import Case, Tokens
from tests.compat.cloud import running_cloud
from tests.compat.outcome import ClusterView, Outcome, Refusal, seen_in_volume
from tests.compat.stacks import PAIRINGS, Ground, Pairing, Stack, start_stack
from tests.compat.table import cases
from tests.compat.upstream import built_upstream
from tests.compat.vault_contents import SUBJECT, Contents, fill
from tests.e2e.children import ending_children
from tests.e2e.cluster.api_server import ApiServer, running_api_server
from tests.e2e.cluster.waiting import eventually
from tests.e2e.node import Volume
from tests.fakes.devvault import DevVault
from tests.fakes.mounts import unmount_below

ROTATION_SECONDS = 1
CRDS = Path(__file__).parents[2] / "deploy" / "crds"


@dataclass
class SideBySide:
    """The running stacks.

    Attributes:
        api: their Kubernetes API.
        tokens: of the service accounts of the pods.
        stacks: by pairing.
        volumes: of each case in each stack.
        outcomes: what became of its publish.
    """

    api: ApiServer
    tokens: Tokens
    stacks: dict[Pairing, Stack]
    volumes: dict[tuple[str, Pairing], Volume] = field(default_factory=dict)
    outcomes: dict[tuple[str, Pairing], Outcome] = field(default_factory=dict)

    def of(self, *pairings: Pairing) -> SideBySide:
        """Some of the stacks; volumes and outcomes are shared."""
        stacks = {pairing: self.stacks[pairing] for pairing in pairings}
        return SideBySide(self.api, self.tokens, stacks, self.volumes, self.outcomes)

    async def prepare(self, some: Sequence[Case]) -> None:
        """Create the classes and the pods, in the namespace of each stack."""
        await asyncio.gather(*(self._prepare(stack, some) for stack in self.stacks.values()))

    async def _prepare(self, stack: Stack, some: Sequence[Case]) -> None:
        namespace = stack.pairing.name
        documents = [one for case in some for one in case.manifests(namespace)]
        text = yaml.safe_dump_all(documents)
        await self.api.kubectl("create", "--filename=-", stdin=text)
        pods = await self.api.kubectl.get("pods", f"--namespace={namespace}")
        uids = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in pods["items"]}
        for case in some:
            self.volumes[case.name, stack.pairing] = stack.volume(
                case.class_name or case.name,
                pod=case.name,
                uid=uids[case.name],
                context=case.context_in(namespace, self.tokens),
                secrets=case.secrets,
            )

    async def publish(self, name: str, stack: Stack) -> Refusal | None:
        """Publish the volume of a case; return why not."""
        try:
            await stack.driver.publish(self.volumes[name, stack.pairing])
        except grpc.aio.AioRpcError as error:
            return Refusal(error.code().name, error.details() or "")
        return None

    async def play(self, some: Sequence[Case]) -> None:
        """Publish the cases one after the other in each stack, wait for it, and look."""
        await self.prepare(some)

        async def one_by_one(stack: Stack) -> None:
            for case in some:
                await self._play(stack, case)

        await asyncio.gather(*map(one_by_one, self.stacks.values()))
        await self.look(some)

    async def play_at_once(self, some: Sequence[Case]) -> None:
        """Publish prepared cases, all of a stack at the same time, wait for it, and look."""
        for stack in self.stacks.values():
            await asyncio.gather(*(self._play(stack, case) for case in some))
        await self.look(some)

    async def _play(self, stack: Stack, case: Case) -> None:
        refusal = await self.publish(case.name, stack)
        files, top = seen_in_volume(self.volumes[case.name, stack.pairing])
        self.outcomes[case.name, stack.pairing] = Outcome(refusal, files, top)

    async def look(self, some: Sequence[Case]) -> None:
        """Fill in what the cluster holds of each case in each stack."""
        await asyncio.gather(*(self._look(stack, some) for stack in self.stacks.values()))

    async def _look(self, stack: Stack, some: Sequence[Case]) -> None:
        """Read the objects of the cluster once the upstream driver has written them."""

        async def settled() -> ClusterView | None:
            view = await ClusterView.take(self.api.kubectl, stack)
            busy = [
                case.name
                for case in some
                if self._has_no_status(case, stack, view) or self._is_busy(case, stack, view)
            ]
            assert not busy, f"{stack.pairing.name} is busy with {busy}"
            return view

        view = await eventually(settled, "Secrets")
        for case in some:
            outcome = self.outcomes[case.name, stack.pairing]
            found = {name: view.named("Secret", name) for name in case.secret_names}
            self.outcomes[case.name, stack.pairing] = replace(
                outcome,
                status=_status_of(case, stack, view),
                secrets={name: one for name, one in found.items() if one is not None},
                complaints=view.complained(case.name),
            )

    def _has_no_status(self, case: Case, stack: Stack, view: ClusterView) -> bool:
        """Whether the status of a volume is still to come."""
        refused = self.outcomes[case.name, stack.pairing].refusal is not None
        return not refused and _status_of(case, stack, view) is None

    def _is_busy(self, case: Case, stack: Stack, view: ClusterView) -> bool:
        """Whether a Secret is still to come, or its owner."""
        if self.outcomes[case.name, stack.pairing].refusal or view.complained(case.name):
            return False
        found = [view.named("Secret", name) for name in case.secret_names]
        return not case.quiet and any(
            one is None or "ownerReferences" not in one["metadata"] for one in found
        )


def _status_of(case: Case, stack: Stack, view: ClusterView) -> Mapping[str, Any] | None:
    name = f"{case.name}-{stack.pairing.name}-{case.class_name or case.name}"
    return view.named("SecretProviderClassPodStatus", name)


@dataclass
class Comparison(SideBySide):
    """The stacks that read from Key Vault.

    Attributes:
        vault: what all of them read.
        contents: what was in it at first.
    """

    vault: DevVault = field(kw_only=True)
    contents: Contents = field(kw_only=True)


@asynccontextmanager
async def running_comparison(folder: Path) -> AsyncIterator[Comparison]:
    """The stacks, and what became of all cases of the table."""
    try:
        async with (
            running_api_server(folder / "api") as api,
            ending_children(folder / "output") as children,
            running_cloud(folder / "cloud", children) as vault,
        ):
            await furnish(api, PAIRINGS)
            contents = fill(vault, folder)
            ground = Ground(
                children,
                folder,
                kubeconfig=api.kubeconfig,
                ca=folder / "cloud" / "ca.pem",
                upstream=built_upstream(),
                driver_flags=(
                    "--enable-secret-rotation",
                    f"--rotation-poll-interval={ROTATION_SECONDS}s",
                    "--max-call-recv-msg-size=67108864",
                ),
                # The provider protocol does not distinguish a refresh from a first mount.
                keyferry_provider_flags=(
                    f"--cache-ttl={ROTATION_SECONDS * 500}ms",
                    "--max-call-recv-msg-size=67108864",
                ),
                provider_flags=("--write-cert-and-key-in-separate-files",),
            )
            started = [await start_stack(pairing, ground) for pairing in PAIRINGS]

            def token(namespace: str, audience: str) -> str:
                subject = SUBJECT.replace("PAIRING", namespace)
                return vault.service_account_token(subject, audience=audience)

            stacks = {one.pairing: one for one in started}
            compared = Comparison(api, token, stacks, vault=vault, contents=contents)
            try:
                await compared.play(cases(contents))
                yield compared
            finally:
                for stack in started:
                    await stack.driver.close()
    finally:
        unmount_below(folder)


async def furnish(api: ApiServer, pairings: Iterable[Pairing]) -> None:
    """Create the kinds, and for each pairing its namespace with the service account `web`."""
    await api.kubectl("apply", f"--filename={CRDS}")
    await api.kubectl("wait", "--for=condition=Established", "--timeout=60s", f"--filename={CRDS}")
    for pairing in pairings:
        await api.kubectl("create", "namespace", pairing.name)
        await api.kubectl("create", "serviceaccount", "web", f"--namespace={pairing.name}")
