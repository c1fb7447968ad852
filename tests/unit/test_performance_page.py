"""docs/operations/performance.md shows the figures of performance.json, and no others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.readable import with_tables

DOCS = Path(__file__).parents[2] / "docs" / "operations"


def test_the_tables_are_those_of_the_figures_beside_them() -> None:
    """After `make bench`: python -m bench.readable .bench-output docs/operations."""
    page = (DOCS / "performance.md").read_text()
    results = json.loads((DOCS / "performance.json").read_text())["results"]
    assert page == with_tables(page, results)


def test_a_page_without_a_place_for_them_is_an_error() -> None:
    """Figures must not get lost."""
    results = json.loads((DOCS / "performance.json").read_text())["results"]
    with pytest.raises(ValueError, match="no line <!-- figures: key vault -->"):
        with_tables("# Performance\n", results)
