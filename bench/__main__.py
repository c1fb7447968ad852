"""`make bench`: Keyferry and upstream under the same loads, in one run.

Prints one table; `results.json`, `table.md` and `plot.svg` go to a folder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.arena import KEYFERRY, UPSTREAM, Contender, running_arena
from bench.load_vault import VAULT, build_load_vault
from bench.loads import LOADS, QUICK, Effort, Figures, all_spcs, nodes, shared_objects
from bench.plot import svg
from bench.table import markdown
from bench.vault_loads import open_bao
from tests.compat.stacks import ALL_KEYFERRY
from tests.compat.upstream import built_upstream
from tests.compat.world import enter_own_world
from tests.e2e.cluster.programs import built_programs
from tests.e2e.vault.programs import server_programs

BEFORE = "before"
LOADS_FOR_OLDER_VERSIONS = (shared_objects, nodes)
"""Loads that an older Keyferry carries as well."""

Results = dict[str, dict[str, Figures]]
"""By load, then by contender."""


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything: three minutes")
    parser.add_argument("--out", type=Path, default=Path(".bench-output"), help="where results go")
    parser.add_argument("--only", action="append", help="a load; may be repeated")
    parser.add_argument(
        "--before", help="the program of an older Keyferry, for loads that compare request counts"
    )
    options = parser.parse_args()
    contenders = [KEYFERRY, UPSTREAM]
    if options.before:
        contenders.append(Contender(BEFORE, ALL_KEYFERRY, options.before))
    asyncio.run(built_programs())
    upstream = built_upstream()
    server_programs()
    # On a tmpfs, so that no disk is measured; of a short path, for the sockets.
    with TemporaryDirectory(prefix="kf-", dir="/dev/shm") as folder:
        load_vault = build_load_vault(Path(folder))
        enter_own_world([VAULT])
        effort = QUICK if options.quick else Effort()

        async def measure() -> None:
            async with running_arena(Path(folder), upstream, load_vault, all_spcs()) as arena:
                results: Results = {}
                for load in (*LOADS, open_bao):
                    if options.only and load.__name__ not in options.only:
                        continue
                    for contender in contenders:
                        if contender.name == BEFORE and load not in LOADS_FOR_OLDER_VERSIONS:
                            continue
                        start = time.perf_counter()
                        figures = await load(arena, contender, effort)
                        results.setdefault(load.__name__, {})[contender.name] = figures
                        spent = time.perf_counter() - start
                        print(f"{load.__name__}, {contender.name}: {spent:.0f} s", file=sys.stderr)
                        _write_results(options.out, results, quick=options.quick)

        asyncio.run(measure())
    print((options.out / "table.md").read_text())


def _write_results(folder: Path, results: Results, *, quick: bool) -> None:
    """Write what there is so far."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {"machine": _machine(), "quick": quick, "results": results}
    (folder / "results.json").write_text(json.dumps(document, indent=1) + "\n")
    (folder / "table.md").write_text(markdown(results))
    (folder / "plot.svg").write_text(svg(results))


def _machine() -> dict[str, object]:
    return {
        "processors": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
