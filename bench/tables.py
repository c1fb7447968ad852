"""The tables of a run: the summary of the terminal, those of the documentation, and all. [pure]"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bench.runs import KEYFERRY, NO_ISOLATION, UPSTREAM, Run, Spread
from bench.table import Table, number, ratio_cell, short_number, value_cell

RTTS_MS = (5, 20, 50)
COUNTS = (1, 5, 20, 50)
IDENTITIES = (1, 10, 110)
NODE_IDENTITIES = 10
CONNECT_ROUND_TRIPS = 4
"""Round trips of a process without connection and token: TCP, TLS, token, object. The connection
to the token endpoint is opened concurrently."""
REFRESHES = (("same", "nothing changed"), ("changed", "all changed"))
SIDES: Mapping[str, str] = {
    KEYFERRY: "Keyferry",
    NO_ISOLATION: "Keyferry, `--isolation=none`",
    UPSTREAM: "upstream",
    "before": "before",
}


@dataclass(frozen=True)
class Row:
    """A figure of all sides.

    Attributes:
        label: what it is.
        load: name of the load.
        figure: name of the figure.
        unit: with a space in front.
        limit: the best that is possible, as text; empty if unknown.
        limit_figure: a figure of the same load that is the limit instead.
    """

    label: str
    load: str
    figure: str
    unit: str = ""
    limit: str = ""
    limit_figure: str = ""


def summary_table(run: Run) -> Table:
    """Return the figures that matter most, for a terminal."""
    table = Table(
        ("load", "limit", "Keyferry", "isolation=none", "upstream", "upstream / Keyferry"),
        (False, True, True, True, True, True),
    )
    for heading, rows in _summary_rows().items():
        cells = [_comparison(run, row) for row in rows if _is_measured(run, row)]
        if cells:
            table.rows += [(heading,), *cells]
    return table


def _summary_rows() -> Mapping[str, list[Row]]:
    node = "nodes"
    return {
        "First mount, token cached, round trip 20 ms": [
            Row(_plural(n, "object"), "first_mounts", f"at_work_n{n}_rtt20_ms", " ms", "20 ms")
            for n in COUNTS
        ],
        "Mount of 10 objects that are cached for another pod of the identity": [
            Row("p50", "shared_objects", "p50_ms", " ms"),
            Row("CPU time", "shared_objects", "cpu_ms_per_mount", " ms"),
        ],
        "Node with 110 pods x 10 objects, 10 identities, round trip 20 ms": [
            Row("cold: vault requests", node, "cold_ids10_calls", "", "100"),
            Row("cold: time", node, "cold_ids10_wall_s", " s"),
            Row("cold: CPU time", node, "cold_ids10_cpu_s", " s"),
            Row("refresh: vault requests", node, "refresh_same_ids10_calls", "", "100"),
            Row("refresh: CPU time", node, "refresh_same_ids10_cpu_s", " s"),
            Row("time, vault limited to 110/s", "throttled", "limit110_wall_s", " s"),
        ],
        "The same node, when nothing changes": [
            Row("CPU of a quiet node, of one core", "quiet_node", "percent", " %"),
            Row("repeated publish: CPU time", "repeated_publishes", "cpu_ms", " ms"),
            Row("repeated publish: p50", "repeated_publishes", "p50_ms", " ms"),
        ],
        "Memory of the whole container": [
            Row("when ready", "starts", "ready_mib", " MiB"),
            Row("after the cold node", node, "cold_ids10_loaded_mib", " MiB"),
            Row("when ready, + kernel, tmpfs", "starts", "ready_charged_mib", " MiB"),
            Row("after cold node, + kernel, tmpfs", node, "cold_ids10_loaded_charged_mib", " MiB"),
        ],
        "Start": [
            Row("to ready", "starts", "start_s", " s"),
            Row("to the end of a first mount", "starts", "mounted_s", " s"),
            Row("CPU time to ready", "starts", "start_cpu_s", " s"),
            Row("CPU time until idle", "starts", "idle_cpu_s", " s"),
            *(
                Row(f"keyferry {text}: {what}", "command_line", f"{name}_{key}", " s")
                for name, text in (("version", "--version"), ("help", "--help"), ("lint", "lint"))
                for key, what in (("s", "time"), ("cpu_s", "CPU time"))
            ),
        ],
        "OpenBao: first mount, token cached, round trip 20 ms (limit: requests without a driver)": [
            Row(_plural(n, "secret"), "open_bao", f"n{n}_at_work_ms", " ms", "", f"n{n}_bare_ms")
            for n in COUNTS
        ],
    }


def key_vault_table(run: Run) -> Table:
    """Return Keyferry compared with upstream."""
    table = Table(
        ("load", "limit", *(SIDES[side] for side in (KEYFERRY, NO_ISOLATION, UPSTREAM)), "ratio"),
        (False, True, True, True, True, True),
    )
    rows = [*_mount_rows(), *_node_rows(), *_other_rows()]
    table.rows = [_comparison(run, row) for row in rows if _is_measured(run, row)]
    return table


def vault_table(run: Run) -> Table:
    """Return Keyferry compared with the same requests to OpenBao without a driver."""
    table = Table(("load", "limit", "Keyferry", "ratio to limit"), (False, True, True, True))
    table.rows = [_to_limit(run, row) for row in _open_bao_rows(run) if _is_measured(run, row)]
    return table


def readme_table(run: Run) -> Table:
    """Return the table of the README: medians of Keyferry and upstream."""
    rows = [
        Row("requests to the vault", "nodes", "cold_ids10_calls"),
        Row("time until all Pods are mounted", "nodes", "cold_ids10_wall_s", " s"),
        Row("first mount of 20 objects", "first_mounts", "at_work_n20_rtt20_ms", " ms"),
        Row("CPU of a quiet node, in percent of a core", "quiet_node", "percent", " %"),
        Row("memory after the load", "nodes", "cold_ids10_loaded_mib", " MiB"),
        Row("memory when ready", "starts", "ready_mib", " MiB"),
        Row("start until ready", "starts", "start_s", " s"),
    ]
    table = Table((" ", "Keyferry", "upstream"), (False, True, True))
    for row in rows:
        if _is_measured(run, row):
            medians = [run.median(row.load, side, row.figure) for side in (KEYFERRY, UPSTREAM)]
            cells = ["" if one is None else short_number(one) + row.unit for one in medians]
            table.rows.append((row.label, *cells))
    return table


def missing_figures(run: Run) -> list[str]:
    """Return the figures of Keyferry that the documentation shows and a run lacks."""
    rows = [*_mount_rows(), *_node_rows(), *_other_rows(), *_open_bao_rows(run)]
    return [f"{row.load}/{row.figure}" for row in rows if not _is_measured(run, row)]


def all_figures_table(run: Run) -> Table:
    """Return every figure of every load."""
    sides = run.sides()
    table = Table(
        ("load", "figure", *sides, "upstream / keyferry"),
        (False, False, *[True] * (len(sides) + 1)),
    )
    for load in dict.fromkeys(record.load for record in run.records):
        for figure in run.names(load):
            found = {side: run.spread(load, side, figure) for side in sides}
            ratio = ratio_cell(found.get(UPSTREAM), found.get(KEYFERRY))
            table.rows.append((load, figure, *map(value_cell, found.values()), ratio))
    return table


def _is_measured(run: Run, row: Row) -> bool:
    return run.spread(row.load, KEYFERRY, row.figure) is not None


def _comparison(run: Run, row: Row) -> tuple[str, ...]:
    found = {
        side: run.spread(row.load, side, row.figure) for side in (KEYFERRY, NO_ISOLATION, UPSTREAM)
    }
    cells = [value_cell(spread, row.unit) for spread in found.values()]
    return (row.label, _limit(run, row), *cells, ratio_cell(found[UPSTREAM], found[KEYFERRY]))


def _to_limit(run: Run, row: Row) -> tuple[str, ...]:
    value = run.spread(row.load, KEYFERRY, row.figure)
    base = run.spread(row.load, KEYFERRY, row.limit_figure) if row.limit_figure else None
    if base is None and row.limit:
        base = Spread((float(row.limit.replace(",", "")),))
    return (row.label, _limit(run, row), value_cell(value, row.unit), ratio_cell(value, base))


def _limit(run: Run, row: Row) -> str:
    if not row.limit_figure:
        return row.limit
    return value_cell(run.spread(row.load, KEYFERRY, row.limit_figure), row.unit)


def _mount_rows() -> Iterator[Row]:
    load = "first_mounts"
    for rtt in RTTS_MS:
        for count in COUNTS:
            what = f"first mount of {_plural(count, 'object')}, round trip {rtt} ms"
            yield Row(what, load, f"at_work_n{count}_rtt{rtt}_ms", " ms", f"{rtt} ms")
    for count in COUNTS:
        what = f"first mount of {_plural(count, 'object')}, round trip 20 ms, new process"
        limit = f"{CONNECT_ROUND_TRIPS * 20} ms"
        yield Row(what, load, f"fresh_n{count}_rtt20_ms", " ms", limit)
    load = "shared_objects"
    what = "mount of 10 objects cached for another pod of the identity, p50"
    yield Row(what, load, "p50_ms", " ms")
    yield Row("... vault requests of all such mounts", load, "calls", "", "0")
    yield Row("... CPU time of one mount", load, "cpu_ms_per_mount", " ms")


def _node_rows() -> Iterator[Row]:
    load = "nodes"
    kinds = [("cold", "cold node, 110 pods x 10 objects", "all are mounted")]
    kinds += [
        (f"refresh_{what}", f"refresh of this node, {words}", "all publishes have returned")
        for what, words in REFRESHES
    ]
    for identities in IDENTITIES:
        for kind, what, done in kinds if identities == NODE_IDENTITIES else kinds[:1]:
            key = f"{kind}_ids{identities}"
            name = f"{what}, {_plural(identities, 'identity', 'identities')}: vault requests"
            yield Row(name, load, f"{key}_calls", "", number(identities * 10))
            yield Row(f"... time until {done}", load, f"{key}_wall_s", " s")
            yield Row("... CPU time", load, f"{key}_cpu_s", " s")
    load = "throttled"
    for rate in (110, 10):
        key = f"limit{rate}"
        what = f"cold node, 10 identities, vault limited to {rate} requests per second"
        yield Row(f"{what}: pods mounted", load, f"{key}_mounted", "", "110")
        yield Row("... time", load, f"{key}_wall_s", " s")
        yield Row("... requests, including throttled ones", load, f"{key}_calls", "", "100")
        yield Row("... throttled requests", load, f"{key}_refused", "", "0")


def _other_rows() -> Iterator[Row]:
    load = "quiet_node"
    yield Row("quiet node, 110 pods: CPU time, in percent of a core", load, "percent", " %")
    load = "repeated_publishes"
    yield Row("publish with nothing to do: CPU time", load, "cpu_ms", " ms")
    yield Row("... p50", load, "p50_ms", " ms")
    load = "big_content"
    what = "20 MB in one volume (800 objects of 25 kB, round trip 5 ms): time"
    yield Row(what, load, "mount_s", " s")
    yield Row("... CPU time", load, "cpu_s", " s")
    yield Row("... memory afterwards", load, "mib_after", " MiB")
    load = "churn"
    what = "pods created and deleted, one after the other: publish, p50"
    yield Row(what, load, "publish_p50_ms", " ms", "", "bare_ms_per_cycle")
    yield Row("... unpublish, p50", load, "unpublish_p50_ms", " ms")
    yield Row("... CPU time of both", load, "cpu_ms_per_cycle", " ms")
    load = "long_run"
    yield Row("thousands of pods created and deleted: memory before", load, "mib_before", " MiB")
    yield Row("... memory after", load, "mib_after", " MiB")
    yield Row("... open files before", load, "descriptors_before")
    yield Row("... open files after", load, "descriptors_after")
    yield Row("start until ready", "starts", "start_s", " s")
    what = "... until a first mount of 1 object is done, round trip 20 ms"
    yield Row(what, "starts", "mounted_s", " s")
    yield Row("... CPU time", "starts", "start_cpu_s", " s")
    yield Row("... CPU time until the processes are idle", "starts", "idle_cpu_s", " s")
    yield Row("memory when ready", "starts", "ready_mib", " MiB")
    what = "memory after the cold node with 10 identities"
    yield Row(what, "nodes", "cold_ids10_loaded_mib", " MiB")
    charged = "with kernel memory and the files of volumes"
    yield Row(f"memory when ready, {charged}", "starts", "ready_charged_mib", " MiB")
    yield Row(f"{what}, {charged}", "nodes", "cold_ids10_loaded_charged_mib", " MiB")
    for name, text in (("version", "--version"), ("help", "--help"), ("lint", "lint` of one file")):
        command = f"`keyferry {text}" + ("" if "`" in text else "`")
        yield Row(f"{command}: time", "command_line", f"{name}_s", " s")
        yield Row("... CPU time", "command_line", f"{name}_cpu_s", " s")


def _open_bao_rows(run: Run) -> Iterator[Row]:
    load = "open_bao"

    def its(figure: str, unit: str) -> str:
        median = run.median(load, KEYFERRY, figure)
        return "" if median is None else f" (OpenBao: {number(median)}{unit})"

    for count in COUNTS:
        what = f"first mount of {_plural(count, 'secret')}"
        yield Row(what, load, f"n{count}_at_work_ms", " ms", "", f"n{count}_bare_ms")
        cpu = f"... CPU time{its(f'n{count}_bao_cpu_ms', ' ms')}"
        yield Row(cpu, load, f"n{count}_cpu_ms", " ms")
        yield Row("... new process", load, f"n{count}_fresh_ms", " ms")
    for roles in IDENTITIES:
        key, role = f"cold_roles{roles}_lists", _plural(roles, "role")
        what = f"cold node, 110 pods x 10 secrets, {role}: reads"
        yield Row(what, load, f"{key}_calls", "", number(roles * 10))
        yield Row("... logins", load, f"{key}_tokens", "", number(roles))
        yield Row("... time until all are mounted", load, f"{key}_wall_s", " s")
        yield Row(f"... CPU time{its(f'{key}_vault_cpu_s', ' s')}", load, f"{key}_cpu_s", " s")
        yield Row("... memory afterwards", load, f"{key}_loaded_mib", " MiB")
        for what, words in REFRESHES if roles == NODE_IDENTITIES else ():
            for how, lists in (("lists", roles), ("no_lists", 0)):
                key = f"refresh_{what}_roles{roles}_{how}"
                reads = 0 if lists and what == "same" else roles * 10
                listing = "with lists" if lists else "without lists"
                name = f"refresh of this node, {words}, {role}, {listing}: requests"
                yield Row(name, load, f"{key}_calls", "", number(reads + lists))
                done = "... time until all publishes have returned"
                yield Row(done, load, f"{key}_wall_s", " s")
                yield Row("... CPU time", load, f"{key}_cpu_s", " s")


def _plural(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"
