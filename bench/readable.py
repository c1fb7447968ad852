"""Write the figures of one run into the documentation and the README.

.venv/bin/python -m bench.readable .bench-output

Writes the tables, the run and the budgets of docs/operations/performance.md, performance.json next
to it, the charts, and the table and picture of README.md. Refuses a short, incomplete or busy run
unless `--force` is given.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from bench.budgets import budgets_table
from bench.charts import THEMES, details_chart, overview_chart
from bench.runs import Run, RunError, load_only_run, load_run
from bench.table import with_parts
from bench.tables import key_vault_table, missing_figures, vault_table
from scripts.readme_figures import with_figures

ROOT = Path(__file__).parents[1]
PAGE = Path("docs/operations/performance.md")
FIGURES = Path("docs/operations/performance.json")
README = Path("README.md")
OVERVIEW = "docs/images/comparison-{}.svg"
DETAILS = "docs/operations/performance-{}.svg"


def with_tables(page: str, run: Run) -> str:
    """Return the page with its tables replaced by those of this run.

    Raises:
        ValueError: the page has no place for one.
    """
    parts = {
        "run": run_text(run),
        "budgets": budgets_table(run).markdown(),
        "key vault": key_vault_table(run).markdown(),
        "vault": vault_table(run).markdown(),
    }
    return with_parts(page, parts)


def run_text(run: Run) -> str:
    """Return the machine, its load and the id of a run, as Markdown."""
    load = run.load
    facts = [*run.machine.items(), ("run", f"`{run.run}` {run.started[:10]}".strip())]
    if load:
        before, during = load["others_before"], load["others_during"]
        first, last = load["load_average_before"], load["load_average_after"]
        average = f"{first:.2f} before the run, {last:.2f} at its end"
        steal = f"{load['steal_before']:.1%} before the run, {load['steal_during']:.1%} during it"
        facts += [
            ("load average", average),
            (
                "CPU time of other processes, of one core",
                f"{before:.1%} before the run, {during:.1%} during it",
            ),
            ("CPU time taken by the hypervisor, of one core", steal),
        ]
    lines = [
        "| property | value |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in facts),
        "",
    ]
    lines += [f"**Not a quiet machine:** {one}.\n" for one in load.get("warnings", ())]
    lines += [f"{run.note}\n"] if run.note else []
    return "\n".join(lines)


def published_files(run: Run, root: Path = ROOT) -> dict[Path, str]:
    """Return everything that is published about a run: the text of files by their paths.

    Args:
        run: has the figures.
        root: of the repository.

    Raises:
        ValueError: a file has no place for its figures.
    """
    files = {
        FIGURES: json.dumps(run.as_json(), indent=1) + "\n",
        PAGE: with_tables((root / PAGE).read_text(), run),
        README: with_figures((root / README).read_text(), run),
    }
    for theme in THEMES:
        files[Path(OVERVIEW.format(theme))] = overview_chart(run, theme)
        files[Path(DETAILS.format(theme))] = details_chart(run, theme)
    return files


def published_run(root: Path = ROOT) -> Run:
    """Return the run whose figures the documentation shows.

    Raises:
        RunError: performance.json is not the file of one run.
    """
    return load_run(root / FIGURES)


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(prog="python -m bench.readable", description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="results.json or its folder")
    parser.add_argument(
        "--force", action="store_true", help="publish a short, incomplete or busy run"
    )
    options = parser.parse_args()
    try:
        run = load_only_run(options.results)
    except RunError as error:
        sys.exit(f"Nothing is written. {error}")
    problems = run.problems()
    if missing := missing_figures(run):
        named = ", ".join(missing[:5])
        problems.append(f"it lacks {len(missing)} figures of the documentation, such as {named}")
    if problems and not options.force:
        sys.exit(
            f"Nothing is written. Run {run.run} should not be published: {'; '.join(problems)}. "
            "Run `make bench` on a quiet machine, or use --force."
        )
    for path, text in published_files(run).items():
        (ROOT / path).write_text(text)
        print(path)


if __name__ == "__main__":
    main()
