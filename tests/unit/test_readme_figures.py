"""scripts/readme_figures.py: picture and table of README.md."""

from __future__ import annotations

import pytest

from bench.charts import overview_text
from scripts.readme_figures import picture, with_figures
from tests.fakes.bench_run import example_run

EMPTY = """\
<!-- figures: picture -->
<!-- end -->
Load.
<!-- figures: summary -->
old
<!-- end -->
"""


def test_readme_gets_picture_and_table() -> None:
    """Text around them stays."""
    text = with_figures(EMPTY, example_run())
    assert "<!-- end -->\nLoad.\n<!-- figures: summary -->\n" in text
    assert "| first mount of 20 objects | 28 ms | 523 ms |" in text
    assert "old" not in text
    assert text == with_figures(text, example_run())


def test_picture_has_both_themes_and_describes_itself() -> None:
    """Browsers without support for `picture` show the light one."""
    text = picture(example_run())
    assert '(prefers-color-scheme: dark)" srcset="docs/images/comparison-dark.svg"' in text
    assert 'src="docs/images/comparison-light.svg"' in text
    assert f'alt="{overview_text(example_run())}"' in text


def test_remark_of_the_run_is_below_the_picture() -> None:
    """For example that its figures are those of an older version."""
    run = example_run()
    run.note = "Figures of an older version."
    assert picture(run).endswith("</picture>\n\nFigures of an older version.\n\n")


def test_readme_without_a_place_for_the_figures_is_an_error() -> None:
    """Figures must not be lost."""
    with pytest.raises(ValueError, match="has no line <!-- figures: picture"):
        with_figures("# Keyferry\n", example_run())
