"""keyferry.formats.unknown_fields: which fields have no effect, and what was meant."""

from __future__ import annotations

import pytest

from keyferry.formats.unknown_fields import (
    MAX_UNKNOWN_FIELDS,
    FieldTable,
    UnknownField,
    correct_missing,
    describe_unknown_fields,
    limited,
)

TABLE = FieldTable(
    ("secretKey", "secretPath", "tenantID", "tenantId", "client_id", "type"),
    synonyms={"key": "secretKey", "objectPath": "secretPath"},
    notes={"objectVersion": "it is old", "objectPath": "it was renamed", "secretKeys": "a plural"},
)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("secretkey", "secretKey"),
        ("SECRET_KEY", "secretKey"),
        ("secret-key", "secretKey"),
        ("secrtKey", "secretKey"),
        ("sceretPath", "secretPath"),
        ("key", "secretKey"),
        ("Key", "secretKey"),
        ("tenantid", "tenantID"),
        ("clientId", "client_id"),
        ("colour", ""),
        ("tpye", "type"),
        ("tyqe", "type"),
        ("typ", "type"),  # by similarity: three of four letters
        ("ttype", "type"),
        ("data", ""),
        ("secretKey" * 20, ""),
        ("", ""),
    ],
)
def test_suggestion_is_the_field_that_was_meant(name: str, meant: str) -> None:
    """First by case and punctuation, then by synonyms, then by similarity."""
    (found,) = TABLE.find("spec", [name])
    assert UnknownField("spec", name, meant) == found


def test_known_fields_are_not_found() -> None:
    """In any number and order."""
    assert [] == list(TABLE.find("spec", ["tenantId", "secretKey", "tenantID"]))


@pytest.mark.parametrize("present", ["secretKey", "tenantId"])
def test_field_that_is_present_is_not_suggested(present: str) -> None:
    """It has its value already; the other one only has no effect."""
    name = {"secretKey": "secretkey", "tenantId": "tenantid"}[present]
    assert [UnknownField("", name)] == list(TABLE.find("", [present, name]))


def test_notes_explain_fields_of_other_places() -> None:
    """With a suggestion if there is one; a field with a note is not compared with others."""
    assert [
        UnknownField("", "objectversion", "", "it is old"),
        UnknownField("", "objectPath", "secretPath", "it was renamed"),
        UnknownField("", "secretKeys", "", "a plural"),
    ] == list(TABLE.find("", ["objectversion", "objectPath", "secretKeys"]))


@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        (UnknownField("spec", "a"), "unknown field spec.a"),
        (UnknownField("spec", "a", "b"), "unknown field spec.a: did you mean b?"),
        (UnknownField("", "a", "b"), "unknown field a: did you mean b?"),
        (UnknownField("spec", "a", "", "it is old"), "spec.a has no effect: it is old"),
        (
            UnknownField("spec", "a", "b", "it is old"),
            "spec.a has no effect: it is old; did you mean b?",
        ),
    ],
)
def test_sentence_names_the_field_and_the_remedy(field: UnknownField, sentence: str) -> None:
    """A suggestion is a question."""
    assert sentence == str(field)


def test_names_are_shown_on_one_line_and_shortened() -> None:
    """They are those of a tenant."""
    text = str(UnknownField("spec", "a\nb\x1b[31m" + "c" * 1000))
    assert text.isprintable()
    assert len(text) < 300


def test_several_fields_are_one_line() -> None:
    """It is the message of an event."""
    fields = (UnknownField("spec", "a", "b"), UnknownField("", "c"))
    assert "fields that have no effect: spec.a (did you mean b?), c" == (
        describe_unknown_fields(fields)
    )


def test_number_of_fields_is_limited() -> None:
    """Further ones are not even compared."""
    names = (f"x{number}" for number in range(10**9))
    found = limited(UnknownField("", name) for name in names)
    assert MAX_UNKNOWN_FIELDS == len(found)


def test_misspelled_fields_of_mappings_with_other_keys() -> None:
    """A Secret may have keys of other programs."""
    assert [UnknownField("ref", "secretkey", "secretKey")] == list(
        TABLE.find_misspelled("ref", ["colour", "secretkey", "objectVersion"])
    )


def test_missing_field_names_the_misspelled_one() -> None:
    """With a remedy that says what to write."""
    assert ("; you wrote secret_key", "Rename secret_key to secretKey.") == correct_missing(
        TABLE, ("secretKey",), ["colour", "secret_key"], "Set it."
    )
    assert ("", "Set it.") == correct_missing(TABLE, ("secretPath",), ["secret_key"], "Set it.")
