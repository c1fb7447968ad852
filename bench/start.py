"""`python -m bench.start`: what a start takes, and memory when ready and loaded.

Measures both values of `--isolation`, in turns, on one machine: time and CPU time until the CSI
socket answers Probe, and until a publish can be served; memory then, and after a cold node with 110
pods of 10 identities, 10 objects each. With `--libraries`, only what it costs to import each
library in a fresh interpreter that has imported those above it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.arena import KEYFERRY, Arena, running_arena
from bench.load_vault import VAULT, build_load_vault
from bench.loads import Figures, all_pods, all_spcs
from tests.compat.upstream import built_upstream
from tests.compat.world import enter_own_world
from tests.e2e.cluster.programs import built_programs

ISOLATIONS = ("none", "process")
IDENTITIES = 10
ROWS = {
    "probe_s": "CSI socket answers, s",
    "probe_cpu_s": "... CPU time, s",
    "ready_s": "a publish can be served, s",
    "ready_cpu_s": "... CPU time, s",
    "ready_mib": "memory when ready, MiB",
    "loaded_mib": "memory after a cold node, MiB",
}
LIBRARIES = {
    "asyncio, with ssl and logging": ("asyncio", "ssl", "logging"),
    "click": ("click",),
    "PyYAML": ("yaml",),
    "msgspec": ("msgspec",),
    "grpcio, with protobuf": ("keyferry.proto.csi_pb2", "grpc"),
    "aiohttp, client": ("keyferry.aio.http_library",),
    "aiohttp, server": ("keyferry.net.status_server",),
    "prometheus-client": ("prometheus_client",),
    "httpx2": ("httpx2",),
    "lightkube": ("lightkube",),
    "Keyferry, all of the driver": (
        "keyferry.cli.daemons.driver",
        "keyferry.driver.daemon",
        "keyferry.driver.node",
        "keyferry.kubernetes.api.store",
        "keyferry.providers.azure.provider",
        "keyferry.providers.vault.provider",
    ),
    "cryptography, at the first certificate": (
        "cryptography.x509",
        "cryptography.hazmat.primitives.serialization.pkcs12",
    ),
}
"""What the driver imports, in an order in which each needs only those above it."""
_MEASURE = """
import resource, sys
def now():
    lines = (line.split() for line in open("/proc/self/smaps_rollup"))
    sizes = {line[0]: int(line[1]) for line in lines if line[-1] == "kB"}
    used = resource.getrusage(resource.RUSAGE_SELF)
    anonymous = sizes["Anonymous:"]
    return used.ru_utime + used.ru_stime, anonymous, sizes["Rss:"] - anonymous
exec(sys.argv[1])
before = now()
exec(sys.argv[2])
print(*(after - first for after, first in zip(now(), before)))
"""


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.start", description=__doc__)
    parser.add_argument("--repeat", type=int, default=5, help="starts of each; the median counts")
    parser.add_argument("--libraries", action="store_true", help="only the cost of each library")
    options = parser.parse_args()
    if options.libraries:
        _print_libraries(options.repeat)
        return
    asyncio.run(built_programs())
    upstream = built_upstream()
    with TemporaryDirectory(prefix="kf-", dir="/dev/shm") as folder:
        load_vault = build_load_vault(Path(folder))
        enter_own_world([VAULT])

        async def measure() -> dict[str, Figures]:
            async with running_arena(Path(folder), upstream, load_vault, all_spcs()) as arena:
                await arena.vault.tune(rtt_ms=20)
                await _start(arena, "process", load=False)  # compiles the modules
                found: dict[str, list[Figures]] = {isolation: [] for isolation in ISOLATIONS}
                for turn in range(options.repeat):
                    for isolation in ISOLATIONS:
                        found[isolation].append(await _start(arena, isolation, load=turn == 0))
                return {isolation: _medians(each) for isolation, each in found.items()}

        figures = asyncio.run(measure())
    print(f"load average: {os.getloadavg()[0]:.1f}, processors: {os.cpu_count()}\n")
    print("| | " + " | ".join(f"`--isolation={each}`" for each in ISOLATIONS) + " |")
    print("|---|" + "---:|" * len(ISOLATIONS))
    for key, name in ROWS.items():
        print(f"| {name} | " + " | ".join(f"{figures[each][key]:.3g}" for each in ISOLATIONS), "|")


async def _start(arena: Arena, isolation: str, *, load: bool) -> Figures:
    async with arena.contender(KEYFERRY, f"--isolation={isolation}") as running:
        figures = {
            "probe_s": running.started_seconds,
            "probe_cpu_s": running.started_cpu_seconds,
            "ready_s": running.loaded_seconds,
            "ready_cpu_s": running.usage().cpu_seconds,
            "ready_mib": running.usage().rss_mib,
        }
        if load:
            await all_pods(running, IDENTITIES)
            figures["loaded_mib"] = running.usage().rss_mib
            await running.unpublish_all()
    return figures


def _medians(each: list[Figures]) -> Figures:
    return {
        key: statistics.median(figures[key] for figures in each if key in figures) for key in ROWS
    }


def _print_libraries(repeat: int) -> None:
    print("| library | CPU time, ms | memory, MiB | of files, MiB |\n|---|---:|---:|---:|")
    above = "pass"
    for name, modules in LIBRARIES.items():
        program = f"import {', '.join(modules)}"
        runs = [_import_cost(above, program) for _ in range(repeat)]
        seconds, anonymous, files = (min(column) for column in zip(*runs, strict=True))
        print(f"| {name} | {seconds * 1000:.0f} | {anonymous / 1024:.1f} | {files / 1024:.1f} |")
        above += f"; {program}"


def _import_cost(above: str, program: str) -> tuple[float, ...]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", _MEASURE, above, program]
    run = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return tuple(float(word) for word in run.stdout.split())


if __name__ == "__main__":
    main()
