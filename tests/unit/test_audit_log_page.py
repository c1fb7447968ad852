"""docs/reference/audit-log.md describes the records of the audit log as they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keyferry.accesses import IDENTITY_FIELDS, AccessOutcome, AccessSource
from keyferry.errors import Stage
from tests.fakes.audit import SCHEMA, checked_records

PAGE = (Path(__file__).parents[2] / "docs/reference/audit-log.md").read_text()


def field_names(schema: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the names of the fields of a schema, as the page writes them."""
    for name, inner in schema["properties"].items():
        if name == "identity":
            yield from field_names(inner, f"{name}.")
        else:
            yield f"{prefix}{name}"


def test_table_lists_the_fields_of_the_schema_in_order() -> None:
    """And says which of them are required."""
    rows = re.findall(r"^\| (`.*`) \| (yes|) ?\| ", PAGE, re.MULTILINE)
    listed = [(name, bool(flag)) for cell, flag in rows for name in re.findall(r"`([^`]+)`", cell)]
    assert [name for name, _ in listed] == list(field_names(SCHEMA))
    assert {name for name, is_required in listed if is_required} == set(SCHEMA["required"])


def test_examples_match_the_schema_and_show_each_outcome() -> None:
    """Users copy them into their tests."""
    blocks = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    examples = checked_records("".join(blocks))
    assert {each["outcome"] for each in examples} == {outcome.value for outcome in AccessOutcome}


def test_schema_lists_all_values() -> None:
    """Of the closed choices of the code."""
    properties = SCHEMA["properties"]
    assert properties["identity"]["properties"].keys() == IDENTITY_FIELDS
    assert properties["outcome"]["enum"] == [each.value for each in AccessOutcome]
    assert properties["source"]["enum"] == [each.value for each in AccessSource]
    assert properties["stage"]["enum"] == [each.value for each in Stage]


def test_page_explains_each_source_and_outcome() -> None:
    """In the two tables below the fields."""
    for choice in (*AccessSource, *AccessOutcome):
        assert f"\n| `{choice.value}` | " in PAGE
