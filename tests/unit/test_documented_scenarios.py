"""The table of upstream's end-to-end tests in docs/reference/compatibility.md is complete."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "compatibility.md"
TESTS = ROOT / "tests" / "e2e" / "cluster"
HEADING = "## Upstream's end-to-end tests"
ENDS = {"passes", "not applicable"}


def rows() -> list[list[str]]:
    """The cells of each row."""
    part = PAGE.read_text().partition(f"{HEADING}\n")[2].partition("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]


def test_every_item_of_upstream_has_its_row() -> None:
    """From 1 to 35, each once, with how it ends here."""
    numbers = [int(number) for row in rows() for number in row[0].split(",")]
    assert list(range(1, 36)) == numbers
    assert set() == {row[2] for row in rows()} - ENDS


def test_every_test_that_a_row_names_is_there() -> None:
    """A test that is renamed takes its row along."""
    named = [name for row in rows() for name in re.findall(r"`(\w+\.py::\w+)`", row[3])]
    assert len(named) > 12
    for name in named:
        path, _, test = name.partition("::")
        assert f"async def {test}(" in (TESTS / path).read_text(), name
