"""The loads: each is carried by one contender at a time, and gives figures by name."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from bench.arena import (
    BIG_MESSAGES,
    FULL_RATE_LIMIT,
    PODS,
    ROTATION,
    ROTATION_SECONDS,
    Arena,
    Contender,
    RunningContender,
)
from bench.bare import bare_cycle_seconds
from tests.e2e.cluster.waiting import eventually
from tests.e2e.node import Files, Volume

Figures = dict[str, float]
"""By name; seconds end in `_s`, MiB in `_mib`, milliseconds in `_ms`, numbers have no ending."""

RTTS_MS = (5, 20, 50)
COUNTS = (1, 5, 20, 50)
IDENTITIES = (1, 10, 110)
RTT_MS = 20
NODE_IDENTITIES = 10
MOUNTS = 5
OTHER_MOUNTS = 3
REFRESH_ROUNDS = 3
NODE_OBJECTS = 10
WARM_UP_CYCLES = 30
BIG_OBJECTS = 800
BIG_BYTES = 25_000


@dataclass(frozen=True)
class Effort:
    """How much of everything is done in one repeat.

    Attributes:
        other_rtts_ms: further round trips to the vault of the first mounts, in milliseconds.
        mounts: first mounts of each size.
        shared_pods: pods that mount cached objects.
        other_identities: further numbers of identities of the cold node.
        bao_nodes: whether the cold node of OpenBao is measured.
        cycles: pods that are created and deleted.
        many_cycles: the same for the long run, which only Keyferry carries.
        throttle_seconds: how long kubelet tries to mount on a throttled node.
        throttles: requests per second that the throttled vault accepts.
        rounds: rounds of publishes with nothing to do.
        quiet_node: whether a quiet node is observed.
    """

    other_rtts_ms: Sequence[int] = ()
    mounts: int = MOUNTS
    shared_pods: int = 25
    other_identities: Sequence[int] = ()
    bao_nodes: bool = False
    cycles: int = 100
    many_cycles: int = 3_000
    throttle_seconds: float = 30
    throttles: Sequence[int] = (110,)
    rounds: int = 3
    quiet_node: bool = True


FIRST = Effort(
    other_rtts_ms=[rtt for rtt in RTTS_MS if rtt != RTT_MS],
    other_identities=[count for count in IDENTITIES if count != NODE_IDENTITIES],
    bao_nodes=True,
    throttles=(110, 10),
)
"""The first repeat of a run. Variants that take long and only illustrate are measured once."""
LATER = Effort()
QUICK = Effort(
    mounts=3, shared_pods=15, cycles=50, many_cycles=500, throttle_seconds=20,
    quiet_node=False,
)  # fmt: skip


def effort_of(repeat: int, *, quick: bool) -> Effort:
    """Return the effort of a repeat; the first is 1."""
    if quick:
        return QUICK
    return FIRST if repeat == 1 else LATER


def all_spcs() -> Mapping[str, tuple[str, int]]:
    """The classes of all loads: what the names of their objects begin with, and how many."""
    return {
        **{
            f"n{count}-{repeat}": (f"32-{count}-{repeat}", count)
            for count in COUNTS
            for repeat in range(MOUNTS + 1)
        },
        "node": ("32-node", NODE_OBJECTS),
        "single": ("32-single", 1),
        "big": (f"{BIG_BYTES}-big", BIG_OBJECTS),
    }


async def starts(arena: Arena, contender: Contender, effort: Effort) -> Figures:
    """From the start of the processes until they answer, and until a first mount is done.

    CPU time and memory are those once the processes are idle, so they include work that a process
    does after it has answered. The first mount is one of another start.
    """
    await arena.vault.tune(rtt_ms=RTT_MS)
    if not arena.has_compiled(contender):
        async with arena.contender(contender) as running:
            await running.publish("single", 0)  # compiles modules, and fills caches
            await running.unpublish_all()
    async with arena.contender(contender) as running:
        idle_cpu = await running.settle()
        figures = {
            "start_s": running.started_seconds,
            "loaded_s": running.loaded_seconds,
            "start_cpu_s": running.started_cpu_seconds,
            "idle_cpu_s": idle_cpu,
            **prefixed("ready", running.memory()),
        }
    async with arena.contender(contender) as running:
        await running.publish("single", 0)
        figures["mounted_s"] = time.perf_counter() - running.start
        await running.unpublish_all()
    return figures


async def first_mounts(arena: Arena, contender: Contender, effort: Effort) -> Figures:
    """One identity, `n` objects: in a fresh process, and in a warm one.

    Fresh: no token, no connection. At work: token and connections exist, the objects are new.
    """
    figures: Figures = {}
    mounts = {RTT_MS: effort.mounts, **dict.fromkeys(effort.other_rtts_ms, OTHER_MOUNTS)}
    for rtt, repeats in mounts.items():
        await arena.vault.tune(rtt_ms=rtt)
        for count in COUNTS:
            async with arena.contender(contender) as running:
                fresh = await running.publish(f"n{count}-0", 0)
                later = [
                    await running.publish(f"n{count}-{repeat}", repeat)
                    for repeat in range(1, repeats + 1)
                ]
                await running.unpublish_all()
            figures[f"fresh_n{count}_rtt{rtt}_ms"] = fresh * 1000
            figures[f"at_work_n{count}_rtt{rtt}_ms"] = statistics.median(later) * 1000
    return figures


async def shared_objects(arena: Arena, contender: Contender, effort: Effort) -> Figures:
    """Pods of one identity whose objects another pod has just got."""
    await arena.vault.tune(rtt_ms=20)
    async with arena.contender(contender) as running:
        for pod in range(3):
            await running.publish("node", pod)
        await arena.vault.reset_counts()
        before = running.usage()
        pods = range(3, 3 + effort.shared_pods)
        seconds = [await running.publish("node", pod) for pod in pods]
        cpu = running.usage().cpu_seconds - before.cpu_seconds
        calls = await arena.vault.counts()
        await running.unpublish_all()
    return {
        "p50_ms": statistics.median(seconds) * 1000,
        "calls": calls.get("secret", 0),
        "cpu_ms_per_mount": cpu / len(seconds) * 1000,
    }


async def nodes(arena: Arena, contender: Contender, effort: Effort) -> Figures:
    """A cold node with a full set of pods, then its refresh with and without a change."""
    figures: Figures = {}
    await arena.vault.tune(rtt_ms=RTT_MS)
    for identities in (NODE_IDENTITIES, *effort.other_identities):
        name = f"ids{identities}"
        # With so short an interval, refreshes would come in between.
        async with arena.contender(contender) as running:
            figures |= prefixed(f"cold_{name}", await all_pods(running, identities))
            await running.settle()
            figures |= prefixed(f"cold_{name}_loaded", running.memory())
            await _check_contents(running, identities)
            await running.unpublish_all()
    flags = (*ROTATION, *FULL_RATE_LIMIT) if contender.is_keyferry else ROTATION
    name = f"ids{NODE_IDENTITIES}"
    async with arena.contender(contender, *flags) as running:
        await all_pods(running, NODE_IDENTITIES)
        for what in ("same", "changed"):
            rotate = arena.vault.rotate if what == "changed" else None
            found = await refresh(running, NODE_IDENTITIES, contender, rotate=rotate)
            figures |= prefixed(f"refresh_{what}_{name}", found)
        await _check_contents(running, NODE_IDENTITIES)
        figures |= prefixed(f"refreshed_{name}", running.memory())
        await running.unpublish_all()
    return figures


def prefixed(prefix: str, figures: Figures) -> Figures:
    """The same figures, their names behind a prefix."""
    return {f"{prefix}_{name}": value for name, value in figures.items()}


async def refresh(
    running: RunningContender,
    identities: int,
    contender: Contender,
    *,
    rotate: Callable[[], Awaitable[None]] | None = None,
    spc_of: Callable[[int], str] = lambda _: "node",
) -> Figures:
    """Everything that happens in one interval in which kubelet publishes each pod once.

    Upstream refreshes a volume on a kubelet call if its folder is old enough. Keyferry has a timer
    and refreshes each identity once per interval. The timer runs once a second, so some refreshes
    fall into a neighboring interval; the figures are the means of three rounds of publishes, and
    the number of requests is that of an interval.

    Args:
        running: the node.
        identities: number of identities of the pods.
        contender: whose node it is.
        rotate: changes all objects, before each interval; None if nothing changes.
        spc_of: the name of the SecretProviderClass of each identity.
    """
    rounds, pause = REFRESH_ROUNDS, 0.0
    if not contender.is_keyferry:
        rounds, pause = 1, ROTATION_SECONDS + 0.5
    found = []
    for _ in range(rounds):
        if rotate:
            await rotate()
        await asyncio.sleep(pause)
        least = 0 if pause else ROTATION_SECONDS
        found.append(await all_pods(running, identities, spc_of=spc_of, min_seconds=least))
    intervals = sum(one["observed_s"] for one in found) / ROTATION_SECONDS
    means = {name: statistics.fmean(one[name] for one in found) for name in found[0]}
    if contender.is_keyferry:
        means["calls"] = sum(one["calls"] for one in found) / intervals
    return means


async def all_pods(
    running: RunningContender,
    identities: int,
    *,
    spc_of: Callable[[int], str] = lambda _: "node",
    min_seconds: float = 0,
) -> Figures:
    """Publish every pod of the node at once.

    Args:
        running: the node.
        identities: number of identities of the pods.
        spc_of: the name of the class of each identity.
        min_seconds: seconds for which calls and processor time are counted, at the least.
    """
    await running.vault.reset_counts()
    vault_before, before = running.vault.usage(), running.usage()
    start = time.perf_counter()
    owners = [pod % identities for pod in range(PODS)]
    seconds = await asyncio.gather(
        *(running.publish(spc_of(of), pod, identity=of) for pod, of in enumerate(owners))
    )
    wall = time.perf_counter() - start
    await asyncio.sleep(max(0, min_seconds - wall))
    cpu = running.usage().cpu_seconds - before.cpu_seconds
    counts = await running.vault.counts()
    return {
        "observed_s": time.perf_counter() - start,
        "wall_s": wall,
        "p50_s": statistics.median(seconds),
        "calls": counts.get("secret", 0) + counts.get("list", 0),
        "tokens": counts.get("token", 0),
        "cpu_s": cpu,
        "vault_cpu_s": running.vault.usage().cpu_seconds - vault_before.cpu_seconds,
    }


async def _check_contents(running: RunningContender, identities: int) -> None:
    """The values name their readers, so no pod has those of another identity."""
    for pod in range(PODS):
        files = await eventually(partial(_read_files, running.volumes["node", pod]), "the files")
        owners = {contents.split(b"/")[0] for _, contents in files.values()}
        assert (NODE_OBJECTS, {b"app-%d" % (pod % identities)}) == (len(files), owners)


async def _read_files(volume: Volume) -> Files | None:
    """Return the files of a volume; None if a refresh replaced them meanwhile."""
    try:
        return volume.files()
    except FileNotFoundError:
        return None


async def churn(arena: Arena, contender: Contender, effort: Effort) -> Figures:
    """One pod after the other comes and goes, its vault next door."""
    figures = await _cycles(arena, contender, effort.cycles)
    bare = bare_cycle_seconds(arena.folder / "bare", contents=[b"x" * 32], cycles=500)
    return {**figures, "bare_ms_per_cycle": bare * 1000}


async def long_run(arena: Arena, contender: Contender, effort: Effort) -> Figures:
    """The load for a long time, only of Keyferry: does memory grow?"""
    if not contender.is_keyferry:
        return {}
    return await _cycles(arena, contender, effort.many_cycles)


async def _cycles(arena: Arena, contender: Contender, count: int) -> Figures:
    await arena.vault.tune(rtt_ms=0)
    async with arena.contender(contender) as running:
        for pod in range(WARM_UP_CYCLES):
            await _cycle(running, pod)
        before, start = running.usage(), time.perf_counter()
        pairs = [await _cycle(running, number % PODS) for number in range(count)]
        wall = time.perf_counter() - start
        after = running.usage()
    return {
        "cycles": count,
        "publish_p50_ms": statistics.median(pair[0] for pair in pairs) * 1000,
        "unpublish_p50_ms": statistics.median(pair[1] for pair in pairs) * 1000,
        "cycle_ms": wall / count * 1000,
        "cpu_ms_per_cycle": (after.cpu_seconds - before.cpu_seconds) / count * 1000,
        "mib_before": before.rss_mib,
        "mib_after": after.rss_mib,
        "descriptors_before": before.descriptors,
        "descriptors_after": after.descriptors,
        "threads_after": after.threads,
    }


async def _cycle(running: RunningContender, pod: int) -> tuple[float, float]:
    published = await running.publish("single", pod)
    return published, await running.unpublish("single", pod)


async def big_content(arena: Arena, contender: Contender, effort: Effort) -> Figures:
    """20 MB in one volume: 800 objects of 25 kB, as much as a Key Vault secret may have."""
    await arena.vault.tune(rtt_ms=5)
    async with arena.contender(contender, *BIG_MESSAGES) as running:
        before = running.usage()
        seconds = await running.publish("big", 0)
        after = running.usage()
        await running.unpublish_all()
    return {
        "mount_s": seconds,
        "cpu_s": after.cpu_seconds - before.cpu_seconds,
        "mib_before": before.rss_mib,
        "mib_after": after.rss_mib,
        "bare_ms": bare_cycle_seconds(
            arena.folder / "bare", contents=[b"x" * BIG_BYTES] * BIG_OBJECTS, cycles=5
        )
        * 1000,
    }


async def throttled(arena: Arena, contender: Contender, effort: Effort) -> Figures:
    """A cold node of ten identities whose vault refuses most of it; kubelet tries again."""
    figures: Figures = {}
    for limit in effort.throttles:
        async with arena.contender(contender) as running:
            await arena.vault.tune(rtt_ms=20, limit=limit)
            start = time.perf_counter()
            until = start + effort.throttle_seconds
            mounted = await asyncio.gather(
                *(
                    running.publish_as_kubelet("node", pod, identity=pod % 10, deadline=until)
                    for pod in range(PODS)
                )
            )
            wall = time.perf_counter() - start
            counts = await arena.vault.counts()
            await arena.vault.tune(rtt_ms=20)
            await running.unpublish_all()
        figures |= {
            f"limit{limit}_wall_s": wall,
            f"limit{limit}_mounted": sum(mounted),
            f"limit{limit}_calls": counts.get("secret", 0) + counts.get("throttled", 0),
            f"limit{limit}_refused": counts.get("throttled", 0),
        }
    return figures
