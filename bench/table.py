"""The table of the results: a row for each figure, a column for each contender. [pure]"""

from __future__ import annotations

from collections.abc import Mapping

from bench.loads import Figures


def markdown(results: Mapping[str, Mapping[str, Figures]]) -> str:
    """All figures as a Markdown table."""
    names = list(dict.fromkeys(name for of in results.values() for name in of))
    lines = [f"| load | figure | {' | '.join(names)} | upstream / keyferry |"]
    lines.append(f"|---|---|{'---:|' * (len(names) + 1)}")
    for load, of in results.items():
        for figure in dict.fromkeys(figure for figures in of.values() for figure in figures):
            values = {name: figures[figure] for name, figures in of.items() if figure in figures}
            cells = [_format_value(values.get(name)) for name in names]
            keyferry, upstream = values.get("keyferry"), values.get("upstream")
            ratio = f"{upstream / keyferry:.1f}" if keyferry and upstream is not None else ""
            lines.append(f"| {load} | {figure} | {' | '.join(cells)} | {ratio} |")
    return "\n".join(lines) + "\n"


def _format_value(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
