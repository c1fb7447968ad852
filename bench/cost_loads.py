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
QUIET_IDENTITIES = 10
QUIET_FLAGS = ("--enable-secret-rotation",)
"""With the default interval of two minutes."""
COMMANDS = {
    "version": ("--version",),
    "help": ("--help",),
    "lint": ("lint", "examples/azure/service-principal.yaml"),
}
CLI_RUNS = 5
_ROOT = Path(__file__).parents[1]


async def quiet_node(
    arena: Arena, contenders: Sequence[Contender], effort: Effort
) -> Mapping[str, Figures]:
    """110 pods on a node where nothing changes, while kubelet publishes each every 90 seconds.

    Rotation is enabled, with the default interval. All sides run at the same time and in the same
    seconds, because they need little CPU time and their figure is CPU time. The time of observation
    is shortened, not the intervals: 120 seconds contain one rotation of each secret, and publish a
    third of the pods twice.
    """
    await arena.vault.tune(rtt_ms=20)
    async with AsyncExitStack() as stack:
        nodes = {}
        for contender in contenders:
            running = await stack.enter_async_context(arena.contender(contender, *QUIET_FLAGS))
            await _mount_node(running)
            nodes[contender.name] = running
        for running in nodes.values():
            await running.settle()
        found = await asyncio.gather(
            *(_observe_quiet_node(running, effort.quiet_seconds) for running in nodes.values())
        )
        for running in nodes.values():
            await running.unpublish_all()
    return dict(zip(nodes, found, strict=True))


async def _observe_quiet_node(running: RunningContender, seconds: float) -> Figures:
    before, start = running.cpu_seconds(), time.perf_counter()
    publishes = 0
    while (due := publishes * KUBELET_SECONDS / PODS) < seconds:
        await asyncio.sleep(max(0.0, start + due - time.perf_counter()))
        pod = publishes % PODS
        await running.publish("node", pod, identity=pod % QUIET_IDENTITIES)
        publishes += 1
    await asyncio.sleep(max(0.0, start + seconds - time.perf_counter()))
    cpu = running.cpu_seconds() - before
    wall = time.perf_counter() - start
    return {
        "percent": cpu / wall * 100,
        "publishes": publishes,
        "observed_s": wall,
        **running.memory(),
    }


async def repeated_publishes(arena: Arena, contender: Contender, effort: Effort) -> Figures:
    """Publishes that have nothing to do: the volumes are mounted, and no refresh is due."""
    await arena.vault.tune(rtt_ms=20)
    async with arena.contender(contender, *QUIET_FLAGS) as running:
        await _mount_node(running)
        await running.settle()
        before = running.cpu_seconds()
        seconds = [
            await running.publish("node", pod, identity=pod % QUIET_IDENTITIES)
            for _ in range(effort.rounds)
            for pod in range(PODS)
        ]
        cpu = running.cpu_seconds() - before
        await running.unpublish_all()
    return {
        "p50_ms": statistics.median(seconds) * 1000,
        "cpu_ms": cpu / len(seconds) * 1000,
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
