"""What `make bench` prints at its end, and the files that it writes. Also prints it for a file:

.venv/bin/python -m bench.report .bench-output
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.budgets import budgets_table, plain
from bench.charts import THEMES, details_chart, overview_chart
from bench.runs import Run, RunError, load_only_run
from bench.tables import all_figures_table, summary_table


def report(run: Run, folder: Path) -> str:
    """Return the tables of a run as text: machine, figures, budgets, and what is in the folder.

    Args:
        run: has the figures.
        folder: of the results.
    """
    sections = [
        f"Run {run.run}\n",
        _facts(run),
        "Medians of the repeats, in brackets the smallest and the largest value\n",
        summary_table(run).text(),
        "Budgets\n",
        budgets_table(run, plain).text(wrap=(44, 26, 42, 12)),
        "\n".join(_closing(run, folder)),
    ]
    return "\n" + "\n".join(sections)


def _facts(run: Run) -> str:
    load = run.load
    facts = dict(run.machine)
    if load:
        facts |= {
            "load average": f"{load['load_average_before']:.2f} before the run, "
            f"{load['load_average_after']:.2f} at its end",
            "other processes": f"{load['others_before']:.1%} of a core before the run, "
            f"{load['others_during']:.1%} during it",
            "steal": f"{load['steal_before']:.1%} of a core before the run, "
            f"{load['steal_during']:.1%} during it",
        }
    if run.note:
        facts["note"] = run.note
    width = max(map(len, facts))
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in facts.items()) + "\n"


def _closing(run: Run, folder: Path) -> list[str]:
    lines = [f"All figures: {folder}/table.md, {folder}/results.json"]
    lines.append(f"Charts: {folder}/overview-light.svg, -dark.svg, details-light.svg, -dark.svg")
    if problems := run.problems():
        lines += ["", *(f"WARNING: {one}." for one in problems)]
        lines.append("These figures should not be published.")
    else:
        lines.append(f"Publish them: python -m bench.readable {folder}")
    return lines


def write_report(run: Run, folder: Path) -> None:
    """Write the table of all figures and the charts next to the results."""
    (folder / "table.md").write_text(all_figures_table(run).markdown())
    for theme in THEMES:
        (folder / f"overview-{theme}.svg").write_text(overview_chart(run, theme))
        (folder / f"details-{theme}.svg").write_text(details_chart(run, theme))


def main() -> None:
    """Print the report of exactly one run."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="results.json or its folder")
    paths = parser.parse_args().results
    try:
        run = load_only_run(paths)
    except RunError as error:
        sys.exit(str(error))
    folder = paths[0] if paths[0].is_dir() else paths[0].parent
    write_report(run, folder)
    print(report(run, folder))


if __name__ == "__main__":
    main()
