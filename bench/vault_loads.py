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

from bench.arena import FULL_RATE_LIMIT, PODS, ROTATION, Arena, Contender, RunningContender
from bench.far_bao import Accounts, FarBao, bao_spc, make_accounts, running_far_bao
from bench.loads import (
    COUNTS,
    IDENTITIES,
    MOUNTS,
    NODE_IDENTITIES,
    NODE_OBJECTS,
    Effort,
    Figures,
    all_pods,
    prefixed,
    refresh,
)
from tests.e2e.cluster.waiting import eventually
from tests.e2e.node import Volume

RTT_MS = 20
NODE_SECRETS = [f"node/s{number}" for number in range(NODE_OBJECTS)]
LIST_REVALIDATION = {"lists": (), "no_lists": ("--list-revalidation=false",)}
"""Suffix of the figures, and the flags, with and without list revalidation."""


async def open_bao(arena: Arena, contender: Contender, effort: Effort) -> Figures:
    """First mounts of `n` secrets; a cold node with `n` roles, and its refreshes."""
    bao, accounts = await arena.once("open_bao", partial(_running_bao, arena, contender))
    setup = _BaoSetup(arena, contender, effort, bao, accounts)
    figures = await _first_mounts(setup)
    return {**figures, **await _nodes(setup)} if effort.bao_nodes else figures


@asynccontextmanager
async def _running_bao(
    arena: Arena, contender: Contender
) -> AsyncIterator[tuple[FarBao, Accounts]]:
    """A server with secrets and roles, and the SecretProviderClasses; for all repeats."""
    async with running_far_bao(arena.load_vault, arena.folder / "bao", arena.api) as bao:
        roles = max(IDENTITIES)
        accounts = await make_accounts(bao, arena.api, contender.pairing.name, roles)
        await _create_objects(arena, bao, accounts)
        await bao.tune(rtt_ms=RTT_MS)
        yield bao, accounts


@dataclass(frozen=True)
class _BaoSetup:
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

    @asynccontextmanager
    async def running(self, *flags: str) -> AsyncIterator[RunningContender]:
        """Fresh processes, with these flags of the driver."""
        async with self.arena.contender(
            self.contender, *flags, vault=self.bao, credentials_of=self.accounts.credentials
        ) as running:
            yield running


async def _create_objects(arena: Arena, bao: FarBao, accounts: Accounts) -> None:
    """Create the secrets, and the SecretProviderClasses that name them."""
    mounts = {
        _mount_spc(count, repeat): _mount_secrets(count, repeat)
        for count in COUNTS
        for repeat in range(MOUNTS + 1)
    }
    await bao.put([one for secrets in mounts.values() for one in secrets])
    bao.set_rotated(NODE_SECRETS)
    await bao.rotate()
    namespace = accounts.namespace
    documents = [
        *(bao_spc(bao, name, namespace, 0, of) for name, of in mounts.items()),
        *(
            bao_spc(bao, _node_spc(role), namespace, role, NODE_SECRETS)
            for role in range(max(IDENTITIES))
        ),
    ]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
    await arena.api.kubectl("create", "--filename=-", stdin=text)


def _mount_spc(count: int, repeat: int) -> str:
    return f"bao-n{count}-{repeat}"


def _mount_secrets(count: int, repeat: int) -> list[str]:
    return [f"n{count}-{repeat}/s{number}" for number in range(count)]


def _node_spc(role: int) -> str:
    return f"bao-node-{role}"


async def _first_mounts(setup: _BaoSetup) -> Figures:
    """As `first_mounts` of Key Vault: by a fresh process, and by one that has been at work."""
    figures: Figures = {}
    repeats = range(1, setup.effort.mounts + 1)
    for count in COUNTS:
        async with setup.running() as running:
            fresh = await running.publish(_mount_spc(count, 0), 0)
            before, bao_before = running.usage(), setup.bao.usage()
            later = [await running.publish(_mount_spc(count, one), one) for one in repeats]
            after, bao_after = running.usage(), setup.bao.usage()
            await running.unpublish_all()
        bare = [
            await setup.bao.bare_reads_seconds(_mount_secrets(count, repeat)) for repeat in repeats
        ]
        of_count = {
            "fresh_ms": fresh * 1000,
            "at_work_ms": statistics.median(later) * 1000,
            "bare_ms": statistics.median(bare) * 1000,
            "cpu_ms": (after.cpu_seconds - before.cpu_seconds) / len(repeats) * 1000,
            "bao_cpu_ms": (bao_after.cpu_seconds - bao_before.cpu_seconds) / len(repeats) * 1000,
        }
        figures |= prefixed(f"n{count}", of_count)
    return figures


async def _nodes(setup: _BaoSetup) -> Figures:
    """A cold node, then its refresh with and without a change; each with and without lists."""
    figures: Figures = {}
    for roles in (NODE_IDENTITIES, *setup.effort.other_identities):
        figures |= prefixed(f"cold_roles{roles}_lists", await _cold_node(setup, roles))
    for how, flags in LIST_REVALIDATION.items():
        name = f"roles{NODE_IDENTITIES}_{how}"
        async with setup.running(*ROTATION, *FULL_RATE_LIMIT, *flags) as running:
            await all_pods(running, NODE_IDENTITIES, spc_of=_node_spc)
            for what in ("same", "changed"):
                found = await refresh(
                    running,
                    NODE_IDENTITIES,
                    setup.contender,
                    rotate=setup.bao.rotate if what == "changed" else None,
                    spc_of=_node_spc,
                )
                figures |= prefixed(f"refresh_{what}_{name}", found)
            current = partial(_all_are_current, setup.bao, running, NODE_IDENTITIES)
            await eventually(current, "the new versions")
            await running.unpublish_all()
    return figures


async def _cold_node(setup: _BaoSetup, roles: int) -> Figures:
    """Without rotation: with so short an interval, refreshes would come in between."""
    async with setup.running() as running:
        figures = await all_pods(running, roles, spc_of=_node_spc)
        await running.settle()
        figures |= prefixed("loaded", running.memory())
        await running.unpublish_all()
    return figures


def _outdated_pods(bao: FarBao, running: RunningContender, roles: int) -> int:
    """Return how many pods do not have yet what the last rotation wrote."""
    expected = {name.replace("/", "-"): bao.value(name) for name in NODE_SECRETS}
    volumes = [running.volumes[_node_spc(pod % roles), pod] for pod in range(PODS)]
    return sum(expected != _contents(volume) for volume in volumes)


def _contents(volume: Volume) -> dict[str, bytes]:
    """Return the content of each file; nothing if a refresh replaces them at the moment."""
    try:
        return {path: content for path, (_, content) in volume.files().items()}
    except FileNotFoundError:
        return {}


async def _all_are_current(bao: FarBao, running: RunningContender, roles: int) -> bool | None:
    return None if _outdated_pods(bao, running, roles) else True
