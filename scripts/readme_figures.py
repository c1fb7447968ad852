"""Updates the chart and the table of the README from the figures of the last benchmark.

Run: .venv/bin/python -m scripts.readme_figures
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
README, DOCS = ROOT / "README.md", ROOT / "docs"
CHART = DOCS / "images" / "comparison.svg"
BAR_WIDTH = 250
"""Length of the longest bar in pixels."""
BEGIN, END = "<!-- figures: summary -->\n", "<!-- end -->"

Figures = Mapping[str, float]

_HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 850 122" role="img" aria-labelledby="title" \
font-family="system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif" font-size="13">
  <title id="title">Keyferry and upstream on a starting node</title>"""
_STYLE = """\
    .title { fill: #1b2430; font-weight: 600; font-size: 15px; }
    .label { fill: #4a5667; }
    .value { fill: #1b2430; font-weight: 600; }
    .keyferry { fill: #2f6fde; }
    .upstream { fill: #9aa4b2; }
    @media (prefers-color-scheme: dark) {
      .title, .value { fill: #eef2f8; }
      .label { fill: #b4bfce; }
      .keyferry { fill: #6ea8ff; }
      .upstream { fill: #6b7685; }
    }
"""


def figures() -> Mapping[str, Mapping[str, Figures]]:
    """The results of the last `make bench`, by load, then by contender."""
    (path,) = DOCS.rglob("performance.json")
    results: Mapping[str, Mapping[str, Figures]] = json.loads(path.read_text())["results"]
    return results


def pair(load: str, figure: str) -> tuple[float, float]:
    """One figure of Keyferry and of upstream."""
    by_contender = figures()[load]
    (upstream,) = by_contender.keys() - {"keyferry"}
    return by_contender["keyferry"][figure], by_contender[upstream][figure]


def table() -> str:
    """The rows of the README in Markdown."""
    rows = [
        ("requests to the vault", pair("nodes", "cold_ids10_calls"), ""),
        ("time until all Pods are mounted", pair("nodes", "cold_ids10_wall_s"), " s"),
        ("first mount of 20 objects", pair("first_mounts", "at_work_n20_rtt20_ms"), " ms"),
        ("memory after the load", pair("nodes", "cold_ids10_loaded_mib"), " MiB"),
        ("memory when idle", pair("starts", "ready_mib"), " MiB"),
        ("startup time", pair("starts", "start_s"), " s"),
    ]
    lines = [
        f"| {name} | {shown(keyferry)}{unit} | {shown(upstream)}{unit} |"
        for name, (keyferry, upstream), unit in rows
    ]
    return "\n".join(["| | Keyferry | upstream |", "|---|---:|---:|", *lines, ""])


def with_table(text: str) -> str:
    """The README with the current table in place of its table.

    Raises:
        ValueError: the README has no place for the table.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"README.md has no {BEGIN.strip()} with {END} after it")
    return f"{before}{begin}{table()}{end}{after}"


def chart() -> str:
    """The chart as SVG: vault requests, and seconds until all Pods of a node are mounted."""
    panels = [
        _panel(0, "Requests to the vault", pair("nodes", "cold_ids10_calls"), ""),
        _panel(430, "Time until all Pods are mounted", pair("nodes", "cold_ids10_wall_s"), " s"),
    ]
    return "\n".join([_HEAD, f"  <style>\n{_STYLE}  </style>", *panels, "</svg>\n"])


def _panel(left: int, title: str, values: tuple[float, float], unit: str) -> str:
    lines = [f'  <text class="title" x="{left}" y="22">{title}</text>']
    for row, (name, value) in enumerate(zip(("Keyferry", "upstream"), values, strict=True)):
        top = 40 + row * 40
        width = max(2, round(BAR_WIDTH * value / max(values)))
        bar, text = left + 76, top + 19
        box = f'x="{bar}" y="{top}" width="{width}" height="28" rx="4"'
        figure = f"{shown(value)}{unit}"
        lines += [
            f'  <text class="label" x="{left}" y="{text}">{name}</text>',
            f'  <rect class="{name.lower()}" {box}/>',
            f'  <text class="value" x="{bar + width + 10}" y="{text}">{figure}</text>',
        ]
    return "\n".join(lines)


def shown(value: float) -> str:
    """A figure rounded to the precision that matters, with thousands separated."""
    if value >= 10:
        return f"{value:,.0f}" if value >= 20 else f"{value:.1f}"
    return f"{value:.2f}"


if __name__ == "__main__":
    CHART.write_text(chart())
    README.write_text(with_table(README.read_text()))
