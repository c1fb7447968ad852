"""docs/operations/migrate.md and `keyferry lint` say what upstream does with each option."""

from __future__ import annotations

from pathlib import Path

from keyferry.lint.upstream import AZURE_FIELDS, FIELDS, PARAMETERS, VAULT_FIELDS
from keyferry.providers.known_fields.names import (
    AZURE_OBJECT_FIELDS,
    COMMON_OBJECT_FIELDS,
    COMMON_PARAMETERS,
    VAULT_ENTRY_SUFFIXES,
)
from tests.compat.option_table import OPTION_CASES, OPTION_ROWS

PAGE = Path(__file__).parents[2] / "docs/operations/migrate.md"
OPTIONS = {option for row in OPTION_ROWS for option in row.options}
OF_UPSTREAM = {
    *("objectName", "objectType", "objectAlias", "objectVersion", "objectVersionHistory"),
    *("objectEncoding", "objectFormat", "filePermission"),
}
WITH_FIND = {"rewrite", "maxObjects"}
"""Fields of an entry that has `find`, which lint reports."""


def test_page_has_each_row() -> None:
    rows = [row.text for row in OPTION_ROWS]

    found = [line for line in PAGE.read_text().splitlines() if line in rows]

    assert rows == found


def test_each_option_has_a_row() -> None:
    further = set(AZURE_OBJECT_FIELDS) - OF_UPSTREAM - {"tenantId", "expiryWarning"}
    addresses = {f"vault{suffix}" for suffix in VAULT_ENTRY_SUFFIXES}

    assert {*COMMON_PARAMETERS, *COMMON_OBJECT_FIELDS, *further, *addresses} <= OPTIONS


def test_lint_reports_each_option() -> None:
    fields = {*FIELDS, *AZURE_FIELDS, *VAULT_FIELDS, *WITH_FIND}

    assert set(COMMON_PARAMETERS) <= set(PARAMETERS)
    assert fields >= OPTIONS - set(COMMON_PARAMETERS)


def test_lint_agrees_whether_upstream_refuses() -> None:
    for row in OPTION_ROWS:
        clauses = [
            table[option]
            for option in row.options
            for table in (PARAMETERS, FIELDS, AZURE_FIELDS, VAULT_FIELDS)
            if option in table
        ]
        refuses = row.upstream.startswith("refused")
        assert all(("refuses" in clause) == refuses for clause in clauses)


def test_cases_have_one_outcome_and_different_names() -> None:
    assert len(OPTION_CASES) == len({case.name for case in OPTION_CASES})
    assert all(bool(case.files) != bool(case.says) for case in OPTION_CASES)
