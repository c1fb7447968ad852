"""The plot of the results, as SVG: bars on a logarithmic scale. [pure]"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from bench.loads import COUNTS, Figures

Results = Mapping[str, Mapping[str, Figures]]

_COLOURS = {"keyferry": "#1f6f8b", "before": "#8fbcc8", "upstream": "#c2703d"}
_PANEL_WIDTH, _PANEL_HEIGHT, _PLOT_HEIGHT = 460, 250, 170
_LEFT, _TOP = 50, 40
_DASHED = 'stroke="#333" stroke-dasharray="4 3"'
_FONT = 'font-family="sans-serif" font-size="11" fill="#333"'


@dataclass(frozen=True)
class Panel:
    """One group of bars.

    Attributes:
        title: with the unit.
        groups: below the bars.
        bars: of each contender, in the order of the groups; None where there is no figure.
        limit: a line that no bar can fall below; None for none.
    """

    title: str
    groups: Sequence[str]
    bars: Mapping[str, Sequence[float | None]]
    limit: float | None = None


def svg(results: Results) -> str:
    """Everything in one picture."""
    panels = [panel for panel in _panels(results) if any(map(any, panel.bars.values()))]
    height = _PANEL_HEIGHT * math.ceil(len(panels) / 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * _PANEL_WIDTH}" height="{height}">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for number, panel in enumerate(panels):
        x, y = _PANEL_WIDTH * (number % 2), _PANEL_HEIGHT * (number // 2)
        parts.append(f'<g transform="translate({x},{y})">{_render(panel)}</g>')
    return "\n".join([*parts, "</svg>\n"])


def _panels(results: Results) -> list[Panel]:
    first, node = results.get("first_mounts", {}), results.get("nodes", {})
    throttled, shared = results.get("throttled", {}), results.get("shared_objects", {})
    kinds = [f"{what}_ids10" for what in ("cold", "refresh_same", "refresh_changed")]
    names = ["cold", "refresh, unchanged", "refresh, changed"]
    counts = [str(count) for count in COUNTS]

    def bars(of: Mapping[str, Figures], keys: Sequence[str]) -> dict[str, list[float | None]]:
        return {name: [figures.get(key) for key in keys] for name, figures in of.items()}

    return [
        Panel(
            "First mount of n objects, round trip 20 ms: milliseconds",
            counts,
            bars(first, [f"at_work_n{count}_rtt20_ms" for count in counts]),
            limit=20,
        ),
        Panel(
            "Node, 110 pods x 10 objects, 10 identities: vault requests",
            names,
            bars(node, [f"{kind}_calls" for kind in kinds]),
            limit=100,
        ),
        Panel(
            "The same node: seconds until all are mounted",
            names,
            bars(node, [f"{kind}_wall_s" for kind in kinds]),
        ),
        Panel(
            "Cached objects (ms); throttled node (s until mounted, requests)",
            ["p50 of a mount", "seconds at 110/s", "requests at 110/s"],
            {
                name: [
                    shared.get(name, {}).get("p50_ms"),
                    throttled.get(name, {}).get("limit110_wall_s"),
                    throttled.get(name, {}).get("limit110_calls"),
                ]
                for name in {**shared, **throttled}
            },
        ),
        *_vault_panels(results.get("open_bao", {})),
    ]


def _vault_panels(found: Mapping[str, Figures]) -> list[Panel]:
    """What the Vault provider was measured by."""
    nodes = {
        "cold": "cold_roles10_lists",
        "unchanged": "refresh_same_roles10_lists",
        "unchanged, no lists": "refresh_same_roles10_no_lists",
        "changed": "refresh_changed_roles10_lists",
    }

    def bars(keys: Sequence[str]) -> dict[str, list[float | None]]:
        return {
            name: [figures.get(key) for key in keys] for name, figures in found.items() if figures
        }

    return [
        Panel(
            "OpenBao: first mount of n secrets, round trip 20 ms: milliseconds",
            [str(count) for count in COUNTS],
            bars([f"n{count}_at_work_ms" for count in COUNTS]),
            limit=20,
        ),
        Panel(
            "OpenBao: node, 110 pods x 10 secrets, 10 roles: requests",
            list(nodes),
            bars([f"{key}_calls" for key in nodes.values()]),
        ),
    ]


def _text(x: float, y: float, text: str, attributes: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {_FONT} {attributes}>{escape(text)}</text>'


def _rectangle(x: float, y: float, width: float, height: float, colour: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{max(height, 0):.1f}"'
    return f'<rect {place} fill="{colour}"/>'


def _line(x: float, y: float, length: float, attributes: str) -> str:
    return f'<path d="M{x:.1f} {y:.1f}h{length:.1f}" {attributes}/>'


@dataclass(frozen=True)
class _Scale:
    """Powers of ten, from the bottom of the plot to its top."""

    low: int
    high: int

    @classmethod
    def covering(cls, values: Sequence[float]) -> _Scale:
        """What holds all of them, and some room for their numbers."""
        low = math.floor(math.log10(min(values)) - 0.1)
        return cls(low, max(math.ceil(math.log10(max(values)) + 0.05), low + 1))

    def y_of(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return _TOP + _PLOT_HEIGHT * (1 - share)


def _render(panel: Panel) -> str:
    values = [value for bars in panel.bars.values() for value in bars if value]
    scale = _Scale.covering([*values, panel.limit] if panel.limit else values)
    width = _PANEL_WIDTH - _LEFT - 10
    parts = [_text(10, 16, panel.title, 'font-weight="bold"'), *_legend(panel)]
    for power in range(scale.low, scale.high + 1):
        y = scale.y_of(10**power)
        parts.append(_line(_LEFT, y, width, 'stroke="#ddd"'))
        parts.append(_text(_LEFT - 4, y + 4, f"{10**power:g}", 'text-anchor="end"'))
    slot = width / len(panel.groups)
    bar = slot * 0.8 / max(1, len(panel.bars))
    for index, group in enumerate(panel.groups):
        x = _LEFT + slot * (index + 0.1)
        middle = 'text-anchor="middle"'
        parts.append(_text(x + slot * 0.4, _TOP + _PLOT_HEIGHT + 15, group, middle))
        for number, (name, bars) in enumerate(panel.bars.items()):
            if value := bars[index]:
                left, top = x + number * bar, scale.y_of(value)
                height = _TOP + _PLOT_HEIGHT - top
                parts.append(_rectangle(left, top, bar - 2, height, _COLOURS[name]))
                shown = f"{value:.0f}" if value >= 10 else f"{value:.2g}"
                parts.append(_text(left + bar / 2 - 1, top - 3, shown, middle))
    if panel.limit:
        parts.append(_line(_LEFT, scale.y_of(panel.limit), width, _DASHED))
    return "".join(parts)


def _legend(panel: Panel) -> list[str]:
    parts = []
    for number, name in enumerate(panel.bars):
        x = _LEFT + 90 * number
        parts += [
            _rectangle(x, 22, 10, 10, _COLOURS[name]),
            _text(x + 14, 31, name),
        ]
    if panel.limit:
        x = _LEFT + 90 * len(panel.bars)
        parts += [_line(x, 27, 12, _DASHED), _text(x + 16, 31, "limit")]
    return parts
