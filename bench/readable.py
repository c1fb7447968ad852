"""Write the figures of a benchmark run into docs/operations/performance.md.

python -m bench.readable .bench-output docs/operations
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.loads import COUNTS, RTTS_MS, Figures

Results = Mapping[str, Mapping[str, Figures]]
"""Figures by load, then by contender."""

IDENTITIES = (1, 10, 110)
CONNECT_ROUND_TRIPS = 4
"""Round trips of a process without connection and token: TCP, TLS, token, object. The connection
to the token endpoint is opened concurrently."""
REFRESHES = (("same", "nothing changed"), ("changed", "all changed"))


def key_vault_table(results: Results) -> str:
    """Return Keyferry compared with upstream, as a Markdown table."""
    head = "| load | limit | Keyferry | upstream | ratio |\n|---|---:|---:|---:|---:|\n"
    return head + "\n".join([*_mount_rows(results), *_node_rows(results), *_other_rows(results)])


def vault_table(results: Results) -> str:
    """Return Keyferry compared with a bare loop of the same requests to OpenBao."""
    head = "| load | limit | Keyferry | ratio to limit |\n|---|---:|---:|---:|\n"
    return head + "\n".join(_open_bao_rows(results["open_bao"]["keyferry"]))


def with_tables(page: str, results: Results) -> str:
    """Return the page with its tables replaced by those of these results.

    Raises:
        ValueError: the page has no place for one.
    """
    for name, table in (("key vault", key_vault_table), ("vault", vault_table)):
        begin, end = f"<!-- figures: {name} -->\n", "<!-- end -->"
        before, _, rest = page.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"the page has no line {begin.strip()} with {end} after it")
        page = f"{before}{begin}{table(results)}\n{end}{after}"
    return page


def _mount_rows(results: Results) -> Iterator[str]:
    load = results["first_mounts"]
    for rtt in RTTS_MS:
        for count in COUNTS:
            what = f"first mount of {_pluralize(count, 'object')}, round trip {rtt} ms"
            yield _comparison_row(what, load, f"at_work_n{count}_rtt{rtt}_ms", " ms", f"{rtt} ms")
    for count in COUNTS:
        what = f"first mount of {_pluralize(count, 'object')}, round trip 20 ms, new process"
        limit = f"{CONNECT_ROUND_TRIPS * 20} ms"
        yield _comparison_row(what, load, f"fresh_n{count}_rtt20_ms", " ms", limit)
    load = results["shared_objects"]
    what = "mount of 10 objects cached for another pod of the identity, p50"
    yield _comparison_row(what, load, "p50_ms", " ms")
    yield _comparison_row("... vault requests of 50 such mounts", load, "calls", "", "0")
    yield _comparison_row("... CPU time of one mount", load, "cpu_ms_per_mount", " ms")


def _node_rows(results: Results) -> Iterator[str]:
    load = results["nodes"]
    kinds = [("cold", "cold node, 110 pods x 10 objects", "all are mounted")]
    kinds += [
        (f"refresh_{what}", f"refresh of this node, {words}", "all publishes have returned")
        for what, words in REFRESHES
    ]
    for identities in IDENTITIES:
        for kind, what, done in kinds:
            key = f"{kind}_ids{identities}"
            name = f"{what}, {_pluralize(identities, 'identity', 'identities')}: vault requests"
            yield _comparison_row(name, load, f"{key}_calls", "", _format_value(identities * 10))
            yield _comparison_row(f"... time until {done}", load, f"{key}_wall_s", " s")
            yield _comparison_row("... CPU time", load, f"{key}_cpu_s", " s")
    what = "memory after the cold node with 10 identities"
    yield _comparison_row(what, load, "cold_ids10_loaded_mib", " MiB")
    load = results["throttled"]
    for rate in (110, 10):
        key = f"limit{rate}"
        what = f"cold node, 10 identities, vault limited to {rate} requests per second"
        yield _comparison_row(f"{what}: pods mounted", load, f"{key}_mounted", "", "110")
        yield _comparison_row("... time", load, f"{key}_wall_s", " s")
        yield _comparison_row(
            "... requests, including throttled ones", load, f"{key}_calls", "", "100"
        )
        yield _comparison_row("... throttled requests", load, f"{key}_refused", "", "0")


def _other_rows(results: Results) -> Iterator[str]:
    load = results["big_content"]
    what = "20 MB in one volume (800 objects of 25 kB, round trip 5 ms): time"
    yield _comparison_row(what, load, "mount_s", " s")
    yield _comparison_row("... CPU time", load, "cpu_s", " s")
    yield _comparison_row("... memory afterwards", load, "mib_after", " MiB")
    load = results["churn"]
    bare = _format_value(load["keyferry"]["bare_ms_per_cycle"], " ms")
    yield _comparison_row(
        "1,000 pods created and deleted: publish, p50", load, "publish_p50_ms", " ms", bare
    )
    yield _comparison_row("... unpublish, p50", load, "unpublish_p50_ms", " ms")
    yield _comparison_row("... CPU time of both", load, "cpu_ms_per_cycle", " ms")
    load = results["long_run"]
    yield _comparison_row(
        "10,000 pods created and deleted: memory before", load, "mib_before", " MiB"
    )
    yield _comparison_row("... memory after", load, "mib_after", " MiB")
    yield _comparison_row("... open files before", load, "descriptors_before")
    yield _comparison_row("... open files after", load, "descriptors_after")
    load = results["starts"]
    yield _comparison_row("start to ready", load, "start_s", " s")
    yield _comparison_row("memory when ready", load, "ready_mib", " MiB")


def _open_bao_rows(figures: Figures) -> Iterator[str]:
    for count in COUNTS:
        what = f"first mount of {_pluralize(count, 'secret')}"
        yield _limit_row(what, figures[f"n{count}_at_work_ms"], " ms", figures[f"n{count}_bare_ms"])
        its = _format_value(figures[f"n{count}_bao_cpu_ms"], " ms")
        yield _limit_row(f"... CPU time (OpenBao: {its})", figures[f"n{count}_cpu_ms"], " ms")
        what = "... new process"
        yield _limit_row(what, figures[f"n{count}_fresh_ms"], " ms")
    for roles in IDENTITIES:
        key, role = f"cold_roles{roles}_lists", _pluralize(roles, "role")
        what = f"cold node, 110 pods x 10 secrets, {role}: reads"
        yield _limit_row(what, figures[f"{key}_calls"], "", roles * 10)
        yield _limit_row("... logins", figures[f"{key}_tokens"], "", roles)
        yield _limit_row("... time until all are mounted", figures[f"{key}_wall_s"], " s")
        its = _format_value(figures[f"{key}_vault_cpu_s"], " s")
        yield _limit_row(f"... CPU time (OpenBao: {its})", figures[f"{key}_cpu_s"], " s")
        yield _limit_row("... memory afterwards", figures[f"{key}_loaded_mib"], " MiB")
        for what, words in REFRESHES:
            for how, lists in (("lists", roles), ("no_lists", 0)):
                key = f"refresh_{what}_roles{roles}_{how}"
                reads = 0 if lists and what == "same" else roles * 10
                listing = "with lists" if lists else "without lists"
                name = f"refresh of this node, {words}, {role}, {listing}: requests"
                yield _limit_row(name, figures[f"{key}_calls"], "", reads + lists)
                yield _limit_row(
                    "... time until all publishes have returned", figures[f"{key}_wall_s"], " s"
                )
                yield _limit_row("... CPU time", figures[f"{key}_cpu_s"], " s")


def _comparison_row(
    label: str, load: Mapping[str, Figures], key: str, unit: str = "", limit: str = ""
) -> str:
    keyferry, upstream = load["keyferry"][key], load.get("upstream", {}).get(key)
    shown = "" if upstream is None else _format_value(upstream, unit)
    ratio = f"{upstream / keyferry:.1f} x" if keyferry and upstream is not None else ""
    return f"| {label} | {limit} | {_format_value(keyferry, unit)} | {shown} | {ratio} |"


def _limit_row(label: str, value: float, unit: str, limit: float | None = None) -> str:
    shown = "" if limit is None else _format_value(limit, unit)
    ratio = f"{value / limit:.1f} x" if limit else ""
    return f"| {label} | {shown} | {_format_value(value, unit)} | {ratio} |"


def _pluralize(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def _format_value(value: float, unit: str = "") -> str:
    return (f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}") + unit


def main() -> None:
    """Rewrite the page, and copy the figures and the plot next to it."""
    output, docs = map(Path, sys.argv[1:])
    results: Results = json.loads((output / "results.json").read_text())["results"]
    page = docs / "performance.md"
    page.write_text(with_tables(page.read_text(), results))
    shutil.copyfile(output / "results.json", docs / "performance.json")
    shutil.copyfile(output / "plot.svg", docs / "performance.svg")


if __name__ == "__main__":
    main()
