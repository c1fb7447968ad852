"""`make bench`: Keyferry and upstream under the same loads, in one run.

The sides take turns (A B A B), so that a change of the machine affects all of them. Ends with
tables in the terminal. The folder gets `results.json`, `table.md` and charts for light and dark
pages. `python -m bench.readable` publishes them.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import time
import traceback
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.arena import KEYFERRY, Arena, Contender, running_arena
from bench.load_vault import VAULT, build_load_vault
from bench.loads import all_spcs, effort_of
from bench.machine import LoadWatch, go_module_version, keyferry_version, machine
from bench.processes import become_subreaper
from bench.report import report, write_report
from bench.runs import Run, save_run
from bench.suite import ALL, BEFORE, LOADS, NAMES, UNCHANGED_NAMES, UNCHANGED_NODE, order
from tests.compat.stacks import ALL_KEYFERRY
from tests.compat.upstream import UpstreamPrograms, built_upstream
from tests.compat.world import enter_own_world
from tests.e2e.cluster.programs import built_programs
from tests.e2e.vault.programs import server_programs


def main() -> None:
    """Measure, and print the tables."""
    options = _options()
    older = Contender(BEFORE, ALL_KEYFERRY, options.before) if options.before else None
    asyncio.run(built_programs())
    upstream = built_upstream()
    server_programs()
    become_subreaper()
    # On a tmpfs, so that no disk is measured; of a short path, for the sockets.
    with TemporaryDirectory(prefix="kf-", dir="/dev/shm") as folder:
        load_vault = build_load_vault(Path(folder))
        now = datetime.now(UTC)
        run = Run(
            f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}",
            f"{now:%Y-%m-%dT%H:%M:%SZ}",
            quick=options.quick,
            loads=NAMES,
            machine=machine(_versions(upstream, older)),
            note=options.note,
        )
        watch = LoadWatch()
        run.load = watch.report().as_json()
        for name, value in run.machine.items():
            print(f"{name}: {value}", file=sys.stderr)
        for warning in run.load["warnings"]:
            print(f"Warning: {warning}. Figures will not be reliable.", file=sys.stderr)
        enter_own_world([VAULT])

        def save() -> None:
            run.load = watch.report().as_json()
            save_run(run, options.out)

        async def measure() -> None:
            sides = [*ALL, *([older] if older else [])]
            async with running_arena(
                Path(folder), upstream, load_vault, all_spcs(), contenders=sides
            ) as arena:
                async for _ in _measured(arena, run, options, older):
                    save()

        with _noted(run, "end of the run"):
            asyncio.run(measure())
        run.finished = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        save()
    write_report(run, options.out)
    print(report(run, options.out))
    sys.exit(1 if run.failures else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="less of everything, and fewer repeats"
    )
    parser.add_argument(
        "--out", type=Path, default=Path(".bench-output"), help="folder for results"
    )
    parser.add_argument("--only", action="append", choices=NAMES, help="a load; may be repeated")
    parser.add_argument("--note", default="", help="a remark that is shown with the figures")
    parser.add_argument(
        "--before", help="the program of an older Keyferry, to compare mounts and requests with it"
    )
    return parser.parse_args()


def _versions(upstream: UpstreamPrograms, older: Contender | None) -> Mapping[str, str]:
    versions = {
        "Keyferry": keyferry_version(KEYFERRY.keyferry),
        "upstream driver": go_module_version(upstream.driver),
        "upstream Azure provider": go_module_version(upstream.azure),
    }
    if older:
        versions["before"] = keyferry_version(older.keyferry)
    return versions


async def _measured(
    arena: Arena, run: Run, options: argparse.Namespace, older: Contender | None
) -> AsyncIterator[None]:
    """Carry all loads; yields after each repeat of a side."""
    wanted: Sequence[str] = options.only or NAMES
    for load in LOADS:
        if load.name in wanted:
            for repeat, side in order(load, quick=options.quick, before=older):
                with _noted(run, f"{load.name} {repeat}, {side.name}"):
                    effort = effort_of(repeat, quick=options.quick)
                    figures = await load.carry(arena, side, effort)
                    run.add(load.name, side.name, repeat, figures)
                yield
    if set(UNCHANGED_NAMES) & set(wanted):
        with _noted(run, UNCHANGED_NODE.__name__):
            found = await UNCHANGED_NODE(arena, ALL, effort_of(1, quick=options.quick))
            for name, sides in found.items():
                for side_name, repeats in sides.items():
                    for repeat, figures in enumerate(repeats, 1):
                        run.add(name, side_name, repeat, figures)
        yield


@contextmanager
def _noted(run: Run, name: str) -> Iterator[None]:
    """Print how long a load took. If it fails, note that and continue with the next one."""
    start = time.perf_counter()
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the other loads are still worth measuring
        traceback.print_exc()
        run.failures.append(f"{name} failed: {type(error).__name__}: {error}"[:300].strip())
    print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
