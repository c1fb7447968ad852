"""Loads that cost CPU time while nothing changes: a quiet node, repeated publishes, the CLI."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from bench.arena import PODS, Arena, Contender, RunningContender
from bench.loads import Effort, Figures, prefixed

KUBELET_SECONDS = 90.0
"""How often kubelet publishes each volume of a running pod again, on average."""
PUBLISHES_OF_A_POD = 5
"""In a round. The kernel counts CPU time in steps of 10 ms, too coarse for one publish of each."""
QUIET_IDENTITIES = 10
QUIET_DELAY_SECONDS = 30.0
QUIET_ROUNDS = 2
"""Of kubelet's publishes of each pod."""
QUIET_FLAGS = ("--enable-secret-rotation",)
"""With the default interval of two minutes."""
COMMANDS = {
    "version": ("--version",),
    "help": ("--help",),
    "lint": ("lint", "examples/azure/service-principal.yaml"),
}
CLI_RUNS = 5
_ROOT = Path(__file__).parents[1]


async def unchanged_node(
    arena: Arena, contenders: Sequence[Contender], effort: Effort
) -> Mapping[str, Mapping[str, Sequence[Figures]]]:
    """A node with 110 pods on which nothing changes. Rotation is on, with the default interval.

    First, each pod is published with nothing to do, several times: `repeated_publishes`, by one
    side after the other. Then the node is quiet: kubelet publishes each pod every 90 seconds, and
    each object is refreshed every two minutes. All sides are quiet at the same time, because they
    need little CPU time, and CPU time is their figure. Intervals are not shortened: the observation
    begins 30 seconds after the mounts and lasts two rounds of kubelet. So upstream, which refreshes
    a volume on a publish more than two minutes after the last refresh, refreshes each volume once,
    which is its steady rate.

    Returns:
        Figures by load and side, one for each repeat.
    """
    await arena.vault.tune(rtt_ms=20)
    async with AsyncExitStack() as stack:
        nodes = {
            one.name: await stack.enter_async_context(arena.contender(one, *QUIET_FLAGS))
            for one in contenders
        }
        for running in nodes.values():
            await _mount_node(running)
        start = time.perf_counter()
        for running in nodes.values():
            await running.settle()
        publishes: dict[str, list[Figures]] = {name: [] for name in nodes}
        for _ in range(effort.rounds):
            for name, running in nodes.items():
                publishes[name].append(await _publish_again(running))
        quiet: dict[str, list[Figures]] = {}
        if effort.quiet_node:
            await asyncio.sleep(max(0.0, start + QUIET_DELAY_SECONDS - time.perf_counter()))
            found = await asyncio.gather(*map(_observe_quiet_node, nodes.values()))
            quiet = {name: [figures] for name, figures in zip(nodes, found, strict=True)}
        for running in nodes.values():
            await running.unpublish_all()
    return {"repeated_publishes": publishes, "quiet_node": quiet}


async def _publish_again(running: RunningContender) -> Figures:
    """Publish each pod several times; the volumes are mounted, and no refresh is due."""
    before = running.cpu_seconds()
    seconds = [
        await running.publish("node", pod, identity=pod % QUIET_IDENTITIES)
        for _ in range(PUBLISHES_OF_A_POD)
        for pod in range(PODS)
    ]
    cpu = running.cpu_seconds() - before
    return {"p50_ms": statistics.median(seconds) * 1000, "cpu_ms": cpu / len(seconds) * 1000}


async def _observe_quiet_node(running: RunningContender) -> Figures:
    before, start = running.cpu_seconds(), time.perf_counter()
    publishes = QUIET_ROUNDS * PODS
    for number in range(publishes):
        due = start + number * KUBELET_SECONDS / PODS
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        pod = number % PODS
        await running.publish("node", pod, identity=pod % QUIET_IDENTITIES)
    end = start + QUIET_ROUNDS * KUBELET_SECONDS
    await asyncio.sleep(max(0.0, end - time.perf_counter()))
    cpu = running.cpu_seconds() - before
    wall = time.perf_counter() - start
    return {
        "percent": cpu / wall * 100,
        "publishes": publishes,
        "observed_s": wall,
        **running.memory(),
    }


async def _mount_node(running: RunningContender) -> None:
    """Mount the volumes of all pods of a node at once."""
    await asyncio.gather(
        *(running.publish("node", pod, identity=pod % QUIET_IDENTITIES) for pod in range(PODS))
    )


async def command_line(arena: Arena, contender: Contender, effort: Effort) -> Figures:
    """Commands that a user waits for. Only Keyferry has them."""
    if not contender.is_keyferry:
        return {}
    variables = {**os.environ, "PYTHONPYCACHEPREFIX": str(arena.folder / "compiled" / "cli")}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    figures: Figures = {}
    for name, arguments in COMMANDS.items():
        command = [contender.keyferry, *arguments]
        await asyncio.to_thread(run_command, command, variables)  # compiles modules
        runs = [await asyncio.to_thread(run_command, command, variables) for _ in range(CLI_RUNS)]
        of_command = {
            "s": statistics.median(wall for wall, _ in runs),
            "cpu_s": statistics.median(cpu for _, cpu in runs),
        }
        figures |= prefixed(name, of_command)
    return figures


def run_command(command: Sequence[str], variables: Mapping[str, str]) -> tuple[float, float]:
    """Run a command in the root of the repository; return its seconds and its CPU seconds.

    Raises:
        subprocess.CalledProcessError: the command failed.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=_ROOT, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return wall, usage.ru_utime + usage.ru_stime
