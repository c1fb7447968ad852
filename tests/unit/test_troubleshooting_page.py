"""docs/operations/troubleshooting.md is generated, and covers every error and every warning."""

from __future__ import annotations

import ast
import re
from collections import Counter

import pytest

from keyferry.errors import KeyferryError, Stage
from keyferry.telemetry.help_links import SYMPTOM_OF_EVENT, Symptom
from scripts.troubleshooting.page import (
    DOCTOR_STAGES,
    GROUPS,
    NEVER_SHOWN,
    ROOT,
    Entry,
    anchor,
    entries,
    error_types,
    page,
    short_name,
)
from tests.unit.test_documented_names import OPERATIONS, said

PAGE = (OPERATIONS / "troubleshooting.md").read_text()
ENTRIES = entries()
SECTIONS = {anchor(part.partition("\n")[0]): part for part in PAGE.split("\n## ")[1:]}
CORPUS = said()


def test_page_is_up_to_date() -> None:
    """To update it, run the command in the docstring of scripts/troubleshooting/__main__.py."""
    assert page() == PAGE


def test_every_type_of_error_has_an_entry() -> None:
    """A new type of error needs one in scripts/troubleshooting/errors.yaml."""
    found = error_types()
    assert len(found) > 45
    names = Counter(entry.name for entry in ENTRIES)
    assert {short_name(each) for each in found} - GROUPS - NEVER_SHOWN == set(names)
    assert {1} == set(names.values())


def constructed(name: str) -> bool:
    """Whether the code calls a type of this name; a class statement or a pattern is no call."""
    texts = (module.read_text() for module in (ROOT / "src" / "keyferry").rglob("*.py"))
    return any(
        isinstance(node, ast.Call) and ast.unparse(node.func) == name
        for text in texts
        if f"{name}(" in text
        for node in ast.walk(ast.parse(text))
    )


def test_types_without_an_entry_are_never_raised() -> None:
    """They only group others."""
    types = {short_name(each): each for each in error_types()}
    assert constructed("VaultError")
    for name in GROUPS:
        assert types[name].__subclasses__()
        assert not constructed(types[name].__name__)


def test_sections_are_the_symptoms_in_their_order() -> None:
    """So the links of events have a target, on GitHub and on the site."""
    assert [*(symptom.value for symptom in Symptom), "stages"] == list(SECTIONS)


@pytest.mark.parametrize(("reason", "symptom"), SYMPTOM_OF_EVENT.items())
def test_section_of_an_event_names_it(reason: str, symptom: Symptom) -> None:
    """And so does the overview at the top, in the row of the section."""
    assert f"`{reason}`" in SECTIONS[symptom.value]
    row = next(line for line in PAGE.splitlines() if f"(#{symptom.value})" in line)
    assert f"`{reason}`" in row


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_entry_is_complete(entry: Entry) -> None:
    """Its messages are said by the code; capitals, dots and signs replace what differs."""
    assert entry.rows
    assert entry.actor
    assert set(entry.doctor) <= set(DOCTOR_STAGES)
    assert f"### {entry.heading}\n" in SECTIONS[entry.sections[0].value]
    for symptom in entry.sections:
        assert entry.link in SECTIONS[symptom.value]
    for row in entry.rows:
        for message in row.messages:
            parts = [part.strip() for part in re.split(r"\b[A-Z_]{4,}\b|\.\.\.|[/':()]", message)]
            significant = [part for part in parts if len(part) > 8]
            assert significant, message
            assert [] == [part for part in significant if part not in CORPUS]


def test_sections_have_errors_in_the_order_of_their_stages() -> None:
    """As the stages follow each other in a mount."""
    order = [stage.value for stage in Stage]
    for section in SECTIONS.values():
        stages = re.findall(r"^### \w+ errors: (\w+)$", section, re.MULTILINE)
        assert stages == sorted(stages, key=order.index)
        assert "<!--" not in section


def test_every_stage_is_explained() -> None:
    """With the checks of `keyferry doctor`, all of which belong to a stage."""
    rows = re.findall(r"^\| `(\w+)` \| .+ \| (.+) \|$", SECTIONS["stages"], re.MULTILINE)
    assert [stage.value for stage in Stage] == [name for name, _ in rows]
    checks = {check for _, named in rows for check in re.findall(r"`([\w-]+)`", named)}
    assert set(DOCTOR_STAGES) == checks


def test_a_new_type_of_error_is_found() -> None:
    """Types of other programs are not on the page."""

    class OtherError(KeyferryError):
        """Of a test."""

    assert OtherError not in error_types()
    OtherError.__module__ = "keyferry.other"
    assert OtherError in error_types()
    OtherError.__module__ = __name__
