"""The loads of the Vault provider, on a real OpenBao.

Only Keyferry runs them: the upstream providers cannot be built here
(docs/reference/compatibility-vault.md).
"""

from __future__ import annotations

import json
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from bench.arena import FULL_BUDGET, PODS, ROTATION, Arena, Contender, Running
from bench.far_bao import Accounts, FarBao, bao_class, make_accounts, running_far_bao
from bench.loads import COUNTS, NODE_OBJECTS, Effort, Figures, all_pods, named, refresh
from tests.compat.stacks import OURS
from tests.e2e.cluster.waiting import eventually

RTT_MS = 20
NODE_SECRETS = [f"node/s{number}" for number in range(NODE_OBJECTS)]
PROOFS = {"proofs": (), "no_proofs": ("--fetch-proofs=false",)}
"""What the figures are called with and without proofs, and the flags."""


async def open_bao(arena: Arena, contender: Contender, effort: Effort) -> Figures:
    """First mounts of so many secrets; a cold node as so many roles, and its refreshes."""
    if contender.pairing != OURS:
        return {}
    async with running_far_bao(arena.load_vault, arena.folder / "bao", arena.api) as bao:
        roles = max(effort.identities)
        accounts = await make_accounts(bao, arena.api, contender.pairing.name, roles)
        scene = _Scene(arena, contender, effort, bao, accounts)
        await scene.fill()
        await bao.tune(rtt_ms=RTT_MS)
        return {**await _first_mounts(scene), **await _nodes(scene)}


@dataclass(frozen=True)
class _Scene:
    """Who reads what from where.

    Attributes:
        arena: where it takes place.
        contender: who reads.
        effort: how much.
        bao: what is read.
        accounts: of the pods.
    """

    arena: Arena
    contender: Contender
    effort: Effort
    bao: FarBao
    accounts: Accounts

    async def fill(self) -> None:
        """Have the secrets, and the classes that name them."""
        mounts = {
            _mount_class(count, repeat): _mount_secrets(count, repeat)
            for count in COUNTS
            for repeat in range(self.effort.repeats + 1)
        }
        await self.bao.put([one for secrets in mounts.values() for one in secrets])
        self.bao.rotating(NODE_SECRETS)
        await self.bao.rotate()
        namespace = self.accounts.namespace
        documents = [
            *(bao_class(self.bao, name, namespace, 0, of) for name, of in mounts.items()),
            *(
                bao_class(self.bao, _node_class(role), namespace, role, NODE_SECRETS)
                for role in range(max(self.effort.identities))
            ),
        ]
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
        await self.arena.api.kubectl("create", "--filename=-", stdin=text)

    @asynccontextmanager
    async def running(self, *flags: str) -> AsyncIterator[Running]:
        """Fresh processes, with these flags of the driver."""
        async with self.arena.contender(
            self.contender, *flags, vault=self.bao, sign_in=self.accounts.sign_in
        ) as running:
            yield running


def _mount_class(count: int, repeat: int) -> str:
    return f"bao-n{count}-{repeat}"


def _mount_secrets(count: int, repeat: int) -> list[str]:
    return [f"n{count}-{repeat}/s{number}" for number in range(count)]


def _node_class(role: int) -> str:
    return f"bao-node-{role}"


async def _first_mounts(scene: _Scene) -> Figures:
    """As `first_mounts` of Key Vault: by a fresh process, and by one that has been at work."""
    figures: Figures = {}
    repeats = range(1, scene.effort.repeats + 1)
    for count in COUNTS:
        async with scene.running() as running:
            fresh = await running.publish(_mount_class(count, 0), 0)
            before, bao_before = running.usage(), scene.bao.usage()
            later = [await running.publish(_mount_class(count, one), one) for one in repeats]
            after, bao_after = running.usage(), scene.bao.usage()
            await running.unpublish_all()
        bare = [
            await scene.bao.bare_reads_seconds(_mount_secrets(count, repeat)) for repeat in repeats
        ]
        of_count = {
            "fresh_ms": fresh * 1000,
            "at_work_ms": statistics.median(later) * 1000,
            "bare_ms": statistics.median(bare) * 1000,
            "cpu_ms": (after.cpu - before.cpu) / len(repeats) * 1000,
            "bao_cpu_ms": (bao_after.cpu - bao_before.cpu) / len(repeats) * 1000,
        }
        figures |= named(f"n{count}", of_count)
    return figures


async def _nodes(scene: _Scene) -> Figures:
    """A cold node, then its refresh with and without a change; each with and without proofs."""
    figures: Figures = {}
    for roles in scene.effort.identities:
        for how, flags in PROOFS.items():
            name = f"roles{roles}_{how}"
            # With so short an interval, refreshes would come in between.
            async with scene.running(*flags) as running:
                found = await all_pods(running, roles, class_of=_node_class)
                figures |= named(f"cold_{name}", found)
                await running.unpublish_all()
            async with scene.running(*ROTATION, *FULL_BUDGET, *flags) as running:
                await all_pods(running, roles, class_of=_node_class)
                figures[f"cold_{name}_loaded_mib"] = running.usage().rss
                for what in ("same", "changed"):
                    if what == "changed":
                        await scene.bao.rotate()
                    found = await refresh(running, roles, scene.contender, class_of=_node_class)
                    figures |= named(f"refresh_{what}_{name}", found)
                figures[f"refresh_changed_{name}_behind"] = _behind(scene.bao, running, roles)
                current = partial(_all_are_current, scene.bao, running, roles)
                await eventually(current, "the new versions")
                await running.unpublish_all()
    return figures


def _behind(bao: FarBao, running: Running, roles: int) -> int:
    """How many pods have not yet what the last rotation wrote."""
    expected = {name.replace("/", "-"): bao.value(name) for name in NODE_SECRETS}
    volumes = [running.volumes[_node_class(pod % roles), pod] for pod in range(PODS)]
    return sum(
        expected != {path: content for path, (_, content) in volume.files().items()}
        for volume in volumes
    )


async def _all_are_current(bao: FarBao, running: Running, roles: int) -> bool | None:
    return None if _behind(bao, running, roles) else True
