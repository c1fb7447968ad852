"""The picture and the table of the README, from the figures of the last published benchmark.

`python -m bench.readable` writes them together with the documentation. This command writes only
the README: .venv/bin/python -m scripts.readme_figures
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from bench.charts import overview_text
from bench.runs import Run, load_run
from bench.table import with_parts
from bench.tables import readme_table

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
FIGURES = ROOT / "docs" / "operations" / "performance.json"
CHART = "docs/images/comparison-{}.svg"


def picture(run: Run) -> str:
    """Return the picture in HTML: the browser chooses the chart for light or dark pages."""
    text = escape(overview_text(run))
    note = f"\n{run.note}\n\n" if run.note else ""
    return (
        "<picture>\n"
        f'  <source media="(prefers-color-scheme: dark)" srcset="{CHART.format("dark")}">\n'
        f'  <img src="{CHART.format("light")}" width="760" alt="{text}">\n'
        f"</picture>\n{note}"
    )


def with_figures(text: str, run: Run) -> str:
    """Return the README with the picture and the table of a run in place of its own.

    Raises:
        ValueError: the README has no place for one.
    """
    return with_parts(text, {"picture": picture(run), "summary": readme_table(run).markdown()})


if __name__ == "__main__":
    README.write_text(with_figures(README.read_text(), load_run(FIGURES)))
