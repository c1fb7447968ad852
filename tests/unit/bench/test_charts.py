"""The charts of a run: legible on light and dark pages, and complete."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from itertools import combinations

import pytest

from bench.charts import THEMES, Theme, details_chart, overview_chart, overview_text
from bench.runs import Run
from tests.fakes.bench_run import example_run

SVG = "{http://www.w3.org/2000/svg}"
TEXT_CONTRAST, GRAPHICS_CONTRAST = 4.5, 3.0
"""Source: https://www.w3.org/TR/WCAG22/#contrast-minimum"""
CHARTS = [overview_chart, details_chart]
Chart = Callable[[Run, str], str]


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb. Source: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance"""
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_colours_have_enough_contrast(theme: Theme) -> None:
    """Text and bars on the background."""
    for colour in (theme.text, theme.muted):
        assert contrast(colour, theme.background) >= TEXT_CONTRAST
    for colour in theme.bars.values():
        assert contrast(colour, theme.background) >= GRAPHICS_CONTRAST
    for one, other in combinations(theme.bars.values(), 2):
        assert one != other


@pytest.mark.parametrize("chart", CHARTS)
@pytest.mark.parametrize("theme", THEMES)
def test_chart_is_accessible_and_has_no_foreign_content(chart: Chart, theme: str) -> None:
    """Title and description for screen readers, a background, no fonts or images to load."""
    root = ET.fromstring(chart(example_run(), theme))
    assert ("img", "title desc") == (root.get("role"), root.get("aria-labelledby"))
    title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None
    assert description is not None
    assert title.text
    assert "Keyferry 0.58 s" in (description.text or "")
    assert {"svg", "title", "desc", "rect", "text", "path"} == {
        element.tag.removeprefix(SVG) for element in root.iter()
    }
    (background,) = [box for box in root.iter(f"{SVG}rect") if box.get("stroke")]
    assert THEMES[theme].background == background.get("fill")
    assert str(root.get("font-family")).endswith("sans-serif")


@pytest.mark.parametrize("chart", CHARTS)
def test_everything_is_inside_of_the_picture(chart: Chart) -> None:
    """A character is 0.56 of its height wide on average, in bold."""
    root = ET.fromstring(chart(example_run(), "light"))
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for text in root.iter(f"{SVG}text"):
        size = float(text.get("font-size", 13))
        x, length = float(text.get("x", 0)), len(text.text or "") * size * 0.56
        left = x - length if text.get("text-anchor") == "end" else x
        assert left >= 0, text.text
        assert left + length <= width, text.text
        assert 0 < float(text.get("y", 0)) < height
    for box in root.iter(f"{SVG}rect"):
        assert float(box.get("x", 0)) + float(box.get("width", 0)) <= width


def test_both_themes_show_the_same_figures() -> None:
    """They differ in colours only."""
    for chart in CHARTS:
        shown = [re.sub("#[0-9a-f]{6}", "", chart(example_run(), theme)) for theme in THEMES]
        assert shown[0] == shown[1]


def test_chart_names_its_run_and_shows_the_range() -> None:
    """The range is a line; a run without repeats has none."""
    run = example_run()
    assert run.run in overview_chart(run, "light")
    assert "lines: smallest and largest value" in overview_chart(run, "light")
    run.records = [record for record in run.records if record.repeat == 1]
    assert "lines: smallest" not in overview_chart(run, "light")
    assert "<path" not in overview_chart(run, "light")


def test_bars_are_proportional_to_the_medians() -> None:
    """1,100 requests are eleven times as long as 100."""
    root = ET.fromstring(overview_chart(example_run(), "light"))
    keyferry, upstream = [float(box.get("width", 0)) for box in root.iter(f"{SVG}rect")][1:3]
    assert upstream / keyferry == pytest.approx(11, rel=0.01)


def test_description_has_the_values_of_the_chart() -> None:
    """Readers who cannot see the chart get the same figures."""
    root = ET.fromstring(overview_chart(example_run(), "light"))
    values = [text.text for text in root.iter(f"{SVG}text") if text.get("font-size") == "13"]
    assert 12 == len(values)
    assert [] == [value for value in values if f"{value}" not in overview_text(example_run())]


def test_figures_that_were_not_measured_are_left_out() -> None:
    """An empty panel would look like zero."""
    run = example_run()
    run.records = [record for record in run.records if record.load != "quiet_node"]
    assert "quiet node" not in overview_chart(run, "light")
    assert "nan" not in details_chart(run, "light")
