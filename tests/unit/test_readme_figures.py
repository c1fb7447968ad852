"""The figures of README.md are those of the last benchmark."""

from __future__ import annotations

import re

import pytest

from scripts.readme_figures import CHART, README, chart, table, with_table


def test_the_table_and_the_chart_show_the_figures_of_the_last_benchmark() -> None:
    """If this fails, run: .venv/bin/python -m scripts.readme_figures"""
    assert with_table(README.read_text()) == README.read_text()
    assert chart() == CHART.read_text()


def test_the_description_of_the_chart_names_its_values() -> None:
    """Readers who cannot see the chart get the same figures."""
    (description,) = re.findall(r"!\[(.*?)\]\(docs/images/comparison\.svg\)", README.read_text())
    values = re.findall(r'class="value"[^>]*>([^<]+)<', chart())
    assert 4 == len(values)
    assert [] == [value for value in values if value not in description]


def test_a_readme_without_a_place_for_the_table_is_an_error() -> None:
    """Figures must not be lost."""
    assert table() in README.read_text()
    with pytest.raises(ValueError, match="has no <!-- figures"):
        with_table("# Keyferry\n")
