"""docs/reference/compatibility-azure.md: each upstream check has an answer and existing tests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[3]
PAGE = TESTS.parent / "docs" / "reference" / "compatibility-azure.md"
ANSWERS = ("same", "differs: ", "not applicable: ", "not applicable to ")
UNIT_LINES, E2E_LINES = 45, 12
"""How many lines upstream's tables have at least.

Source: docs/reference/upstream-azure-provider.md#upstream-tests
"""


def rows() -> Iterator[tuple[str, str, str]]:
    """Check, answer and tests of each row of the tables that compare tests."""
    section = PAGE.read_text().partition("## Upstream's tests")[2].partition("\n## ")[0]
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 3 and not line.startswith(("|---", "| upstream")):
            yield cells[0], cells[1], cells[2]


def test_every_upstream_check_has_a_status() -> None:
    """Same, differs or not applicable; the end-to-end checks are numbered without a gap."""
    found = list(rows())
    assert [] == [check for check, answer, _ in found if not answer.startswith(ANSWERS)]
    numbers = {int(match[0]) for check, _, _ in found if (match := re.match(r"\d+", check))}
    assert set(range(1, E2E_LINES + 1)) == numbers
    assert len(found) - E2E_LINES >= UNIT_LINES


def test_every_status_names_existing_tests() -> None:
    """Unless the check is not applicable."""
    for check, answer, named in rows():
        tests = re.findall(r"`([^`]+)`", named)
        assert tests or answer.startswith("not applicable"), check
        for test in tests:
            file, _, name = test.partition("::")
            assert (TESTS / file).is_file(), test
            assert not name or f"def {name}(" in (TESTS / file).read_text(), test
