"""The charts of a run as SVG, each for light and for dark pages. [pure]

Bars begin at zero and are linear. A line at the end of a bar is the range of the repeats. The
background is part of the picture, so that it is legible on any page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from bench.runs import KEYFERRY, NO_ISOLATION, UPSTREAM, Run, Spread
from bench.table import short_number
from bench.tables import COUNTS


@dataclass(frozen=True)
class Theme:
    """Colours.

    Attributes:
        background: of the picture.
        border: around the picture.
        text: titles, values and ranges.
        muted: labels.
        bars: by side.
    """

    background: str
    border: str
    text: str
    muted: str
    bars: Mapping[str, str]


THEMES: Mapping[str, Theme] = {
    "light": Theme(
        *("#ffffff", "#d0d7de", "#1f2328", "#59636e"),
        {KEYFERRY: "#0550ae", NO_ISOLATION: "#3f8ae0", UPSTREAM: "#8a929c", "before": "#6f42c1"},
    ),
    "dark": Theme(
        *("#0d1117", "#3d444d", "#f0f6fc", "#9ea7b3"),
        {KEYFERRY: "#79b8ff", NO_ISOLATION: "#3a78c9", UPSTREAM: "#7d8590", "before": "#b392f0"},
    ),
}
NAMES: Mapping[str, str] = {
    KEYFERRY: "Keyferry",
    NO_ISOLATION: "Keyferry, isolation=none",
    UPSTREAM: "upstream",
    "before": "before",
}
"""Names of the sides."""

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif"
_MARGIN, _GAP = 20, 28
_VALUE_WIDTH = 92
"""Room for the value at the end of the longest bar, in pixels."""


@dataclass(frozen=True)
class Group:
    """Bars that are compared with each other.

    Attributes:
        label: in front of them.
        bars: by side.
    """

    label: str
    bars: Mapping[str, Spread]


@dataclass(frozen=True)
class Panel:
    """A part of a chart with one scale.

    Attributes:
        title: above the bars.
        unit: of the values, with a space in front.
        groups: from top to bottom.
        limit: a value that no bar can fall below; None for none.
    """

    title: str
    unit: str
    groups: Sequence[Group]
    limit: float | None = None


@dataclass(frozen=True)
class Layout:
    """Sizes in pixels.

    Attributes:
        width: of the picture.
        bar: height of a bar.
        bar_gap: between bars of a group.
        group_gap: between groups.
        label: width of the labels.
        has_legend: whether a legend names the sides.
    """

    width: int
    bar: int
    bar_gap: int
    group_gap: int
    label: int
    has_legend: bool

    @property
    def panel_width(self) -> float:
        return (self.width - 2 * _MARGIN - _GAP) / 2


OVERVIEW = Layout(760, 22, 6, 6, 74, has_legend=False)
DETAILS = Layout(900, 13, 2, 9, 104, has_legend=True)


def overview_chart(run: Run, theme: str) -> str:
    """Return Keyferry and upstream in six figures, for the README.

    Args:
        run: has the figures.
        theme: a key of `THEMES`.
    """
    title = "Keyferry and upstream on one node"
    return _chart(run, title, _overview_panels(run), OVERVIEW, THEMES[theme])


def details_chart(run: Run, theme: str) -> str:
    """Return the most important figures of all sides, for the page about performance."""
    title = "Figures of the benchmark"
    return _chart(run, title, _details_panels(run), DETAILS, THEMES[theme])


def overview_text(run: Run) -> str:
    """Return the content of the overview in words, for readers who do not see it."""
    return _description(_overview_panels(run))


def _overview_panels(run: Run) -> list[Panel]:
    wanted = [
        ("Vault requests, 110 Pods start", "", "nodes", "cold_ids10_calls"),
        ("Time until these Pods are mounted", " s", "nodes", "cold_ids10_wall_s"),
        ("First mount of 20 objects", " ms", "first_mounts", "at_work_n20_rtt20_ms"),
        ("CPU of a quiet node (% of a core)", " %", "quiet_node", "percent"),
        ("Memory after the Pods started", " MiB", "nodes", "cold_ids10_loaded_mib"),
        ("Start until ready", " s", "starts", "start_s"),
    ]
    panels = []
    for title, unit, load, figure in wanted:
        groups = [
            Group(NAMES[side], {side: spread})
            for side in (KEYFERRY, UPSTREAM)
            if (spread := run.spread(load, side, figure))
        ]
        panels.append(Panel(title, unit, groups))
    return [panel for panel in panels if panel.groups]


def _details_panels(run: Run) -> list[Panel]:
    def groups(load: str, figures: Mapping[str, str]) -> list[Group]:
        found = []
        for label, figure in figures.items():
            spreads = {side: run.spread(load, side, figure) for side in NAMES}
            bars = {side: spread for side, spread in spreads.items() if spread}
            if bars:
                found.append(Group(label, bars))
        return found

    kinds = {"cold": "cold", "refresh": "refresh_same", "all changed": "refresh_changed"}

    def node(suffix: str) -> dict[str, str]:
        return {label: f"{kind}_ids10_{suffix}" for label, kind in kinds.items()}

    objects = {f"{n} object{'s' if n > 1 else ''}": f"at_work_n{n}_rtt20_ms" for n in COUNTS}
    secrets = {f"{n} secret{'s' if n > 1 else ''}": f"n{n}_at_work_ms" for n in COUNTS}
    memory = [
        *groups("starts", {"ready": "ready_mib"}),
        *groups("nodes", {"after 110 Pods": "cold_ids10_loaded_mib"}),
    ]
    cost = [
        *groups("quiet_node", {"quiet node": "percent"}),
    ]
    panels = [
        Panel(
            "First mount, round trip 20 ms (line: one round trip)",
            " ms",
            groups("first_mounts", objects),
            limit=20,
        ),
        Panel("110 Pods x 10 objects: vault requests", "", groups("nodes", node("calls"))),
        Panel("The same node: time", " s", groups("nodes", node("wall_s"))),
        Panel("The same node: CPU time", " s", groups("nodes", node("cpu_s"))),
        Panel("Memory of the whole container", " MiB", memory),
        Panel(
            "Start", " s", groups("starts", {"until ready": "start_s", "CPU time": "idle_cpu_s"})
        ),
        Panel("CPU of the node when nothing changes (% of a core)", " %", cost),
        Panel(
            "Publish with nothing to do",
            " ms",
            groups("repeated_publishes", {"CPU time": "cpu_ms", "p50": "p50_ms"}),
        ),
        Panel("OpenBao: first mount, round trip 20 ms", " ms", groups("open_bao", secrets), 20),
    ]
    return [panel for panel in panels if panel.groups]


def _chart(run: Run, title: str, panels: Sequence[Panel], layout: Layout, theme: Theme) -> str:
    top = _MARGIN + (34 if layout.has_legend else 6)
    parts: list[str] = []
    bottom = float(top)
    for row in range(0, len(panels), 2):
        pair = panels[row : row + 2]
        for column, panel in enumerate(pair):
            left = _MARGIN + column * (layout.panel_width + _GAP)
            parts += _panel(panel, left, bottom, layout, theme)
        bottom += max(_panel_height(panel, layout) for panel in pair) + 18
    height = round(bottom + 22)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{layout.width}" height="{height}" '
        f'viewBox="0 0 {layout.width} {height}" role="img" aria-labelledby="title desc" '
        f'font-family="{_FONT}" font-size="13">'
    )
    box = f'x="0.5" y="0.5" width="{layout.width - 1}" height="{height - 1}" rx="8"'
    lines = [
        head,
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="desc">{escape(_description(panels))}</desc>',
        f'<rect {box} fill="{theme.background}" stroke="{theme.border}"/>',
        *(_legend(panels, theme) if layout.has_legend else ()),
        *parts,
        _text(_MARGIN, height - 14, _footer(run), theme.muted, 'font-size="12"'),
        "</svg>\n",
    ]
    return "\n".join(lines)


def _footer(run: Run) -> str:
    repeats = max((record.repeat for record in run.records), default=1)
    ranges = "; lines: smallest and largest value" if repeats > 1 else ""
    return f"Less is better. Medians of one run{ranges}. Run {run.run}."


def _panel_height(panel: Panel, layout: Layout) -> float:
    bars = sum(len(group.bars) for group in panel.groups)
    inner = bars * layout.bar + (bars - len(panel.groups)) * layout.bar_gap
    return 30 + inner + (len(panel.groups) - 1) * layout.group_gap


def _panel(panel: Panel, left: float, top: float, layout: Layout, theme: Theme) -> Iterator[str]:
    yield _text(left, top + 15, panel.title, theme.text, 'font-weight="600" font-size="14"')
    room = layout.panel_width - layout.label - _VALUE_WIDTH
    spreads = [spread for group in panel.groups for spread in group.bars.values()]
    highest = max([*(spread.high for spread in spreads), panel.limit or 0]) or 1
    zero, y = left + layout.label, top + 30
    for group in panel.groups:
        size = len(group.bars) * (layout.bar + layout.bar_gap) - layout.bar_gap
        yield _text(zero - 8, y + size / 2 + 4.5, group.label, theme.muted, 'text-anchor="end"')
        for side, spread in group.bars.items():
            yield from _bar(spread, side, panel.unit, (zero, y), room / highest, layout, theme)
            y += layout.bar + layout.bar_gap
        y += layout.group_gap - layout.bar_gap
    if panel.limit:
        x, length = zero + panel.limit * room / highest, y - layout.group_gap - top - 24
        yield (
            f'<path d="M{x:.1f} {top + 27:.1f}v{length:.1f}" stroke="{theme.text}" '
            'stroke-dasharray="3 3"/>'
        )


def _bar(
    spread: Spread,
    side: str,
    unit: str,
    corner: tuple[float, float],
    scale: float,
    layout: Layout,
    theme: Theme,
) -> Iterator[str]:
    x, y = corner
    width = max(2.0, spread.median * scale)
    size = f'width="{width:.1f}" height="{layout.bar}" rx="2"'
    yield f'<rect x="{x:.1f}" y="{y:.1f}" {size} fill="{theme.bars[side]}"/>'
    end = x + width
    low, high = x + spread.low * scale, x + spread.high * scale
    if high - low >= 3:
        middle = y + layout.bar / 2
        yield (
            f'<path d="M{low:.1f} {middle:.1f}H{high:.1f}M{low:.1f} {middle - 3:.1f}v6'
            f'M{high:.1f} {middle - 3:.1f}v6" stroke="{theme.background}" stroke-width="4"/>'
        )
        yield (
            f'<path d="M{low:.1f} {middle:.1f}H{high:.1f}M{low:.1f} {middle - 3:.1f}v6'
            f'M{high:.1f} {middle - 3:.1f}v6" stroke="{theme.text}" stroke-width="1.5"/>'
        )
        end = max(end, high)
    value = f"{short_number(spread.median)}{unit}"
    style = f'font-weight="600" font-size="{12 if layout.bar < 20 else 13}"'
    yield _text(end + 8, y + layout.bar / 2 + 4.5, value, theme.text, style)


def _legend(panels: Sequence[Panel], theme: Theme) -> Iterator[str]:
    sides = {side for panel in panels for group in panel.groups for side in group.bars}
    x = float(_MARGIN)
    for side, name in NAMES.items():
        if side in sides:
            yield (
                f'<rect x="{x:.1f}" y="{_MARGIN}" width="13" height="13" rx="2" '
                f'fill="{theme.bars[side]}"/>'
            )
            yield _text(x + 20, _MARGIN + 11, name, theme.text)
            x += 44 + 7 * len(name)


def _text(x: float, y: float, text: str, colour: str, attributes: str = "") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" fill="{colour}"'
    return f"<text {place}{' ' + attributes if attributes else ''}>{escape(text)}</text>"


def _description(panels: Sequence[Panel]) -> str:
    sentences = []
    for panel in panels:
        values = []
        for group in panel.groups:
            for side, spread in group.bars.items():
                name = NAMES[side]
                label = name if group.label == name else f"{group.label}, {name}"
                values.append(f"{label} {short_number(spread.median)}{panel.unit}")
        sentences.append(f"{panel.title}: {'; '.join(values)}.")
    return " ".join(sentences)
