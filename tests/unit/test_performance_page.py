"""docs/operations/performance.md, README.md and the charts show the figures of performance.json."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.readable import PAGE, README, ROOT, published_files, published_run, with_tables

FIGURES = published_run()


@pytest.mark.parametrize("path", published_files(FIGURES), ids=str)
def test_published_file_shows_the_figures_of_the_published_run(path: Path) -> None:
    """If this fails, run: .venv/bin/python -m bench.readable docs/operations/performance.json"""
    assert published_files(FIGURES)[path] == (ROOT / path).read_text()


@pytest.mark.parametrize("page", [PAGE, README])
def test_charts_of_the_page_exist_for_light_and_dark(page: Path) -> None:
    """The browser chooses one of the two."""
    text = (ROOT / page).read_text()
    for pictures in re.findall(r"<picture>(.*?)</picture>", text, re.DOTALL):
        found = re.findall(r'(?:src|srcset)="([^"]+)"', pictures)
        assert ["dark", "light"] == [Path(name).stem.rpartition("-")[2] for name in found]
        for name in found:
            assert (ROOT / page).parent.joinpath(name).is_file()
    assert "<picture>" in text


def test_page_without_a_place_for_its_tables_is_an_error() -> None:
    """Figures must not get lost."""
    with pytest.raises(ValueError, match="no line <!-- figures: run -->"):
        with_tables("# Performance\n", FIGURES)
