"""keyferry.formats.go_json: the one spelling of a value."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.formats.go_json import (
    MAX_VALUES,
    NotJsonError,
    TooManyValuesError,
    read_json,
    text_bytes,
    write_json,
)

VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (b'{"b": 1, "a": [1.0, 1e9, 123456789012345678901234567890]}', None),
        (b'{"a":"<&>"}', b'{"a":"\\u003c\\u0026\\u003e"}'),
        (b'"\\u2028\\u00e9\\ud800"', '"\\u2028é\ufffd"'.encode()),
        (b'"\\n\\t\\b\\u0001"', b'"\\n\\t\\b\\u0001"'),
        (b"[true,false,null]", b"[true,false,null]"),
    ],
)
def test_values_are_written_in_one_spelling(text: bytes, written: bytes | None) -> None:
    """Sorted, compact, with Go's escapes; numbers stay as they came."""
    numbers = b'{"a":[1.0,1e9,123456789012345678901234567890],"b":1}'
    assert (written or numbers) == write_json(read_json(text))


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (1.0, b"1"),
        (1.5, b"1.5"),
        (100.0, b"100"),
        (1e20, b"100000000000000000000"),
        (1e21, b"1e+21"),
        (1e-6, b"0.000001"),
        (1.5e-7, b"1.5e-7"),
        (-0.0, b"-0"),
        (-2e22, b"-2e+22"),
    ],
)
def test_floats_are_written_as_go_does(number: float, written: bytes) -> None:
    """With an exponent only where it is short."""
    assert written == write_json(number)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_json_cannot_hold_is_an_error(number: float) -> None:
    with pytest.raises(NotJsonError):
        write_json([number])


@pytest.mark.parametrize("body", [b"", b"{", b"NaN", b"Infinity", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_an_error_without_its_text(body: bytes) -> None:
    """A proxy may say anything."""
    with pytest.raises(NotJsonError) as caught:
        read_json(body)
    assert "" == str(caught.value)


@given(VALUES)
def test_what_is_written_is_read_back(value: object) -> None:
    """Any JSON library reads it."""
    assert value == json.loads(write_json(value))  # type: ignore[arg-type]


def test_a_text_is_its_utf8() -> None:
    assert "é\ufffd".encode() == text_bytes("é\ud800")


@pytest.mark.parametrize("value", ["1", "[]", "{}", '"a"', '{"a":1}', "null"])
def test_number_of_values_is_limited(value: str) -> None:
    """A megabyte of small values takes seconds and fifty megabytes of memory."""
    few, many = MAX_VALUES // 4, MAX_VALUES + 1
    assert few == len(read_list(f"[{','.join([value] * few)}]"))
    with pytest.raises(TooManyValuesError):
        read_json(f"[{','.join([value] * many)}]".encode())


def read_list(text: str) -> Sequence[object]:
    """Read a list."""
    found = read_json(text.encode())
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("text", [",[{" * MAX_VALUES, '\\",[' * MAX_VALUES, "\n,\\" * MAX_VALUES])
def test_separators_in_a_string_are_no_values(text: str) -> None:
    """Such as a table in one secret."""
    document = json.dumps({"data": {"csv": text}}).encode()
    assert {"data": {"csv": text}} == read_json(document)
