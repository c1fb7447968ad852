"""`jmesPath` and `expandKeys`, whatever the expressions and the values are."""

from __future__ import annotations

import json
import string
from contextlib import suppress
from typing import Any

import jmespath
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from jmespath.functions import Functions, signature

from keyferry.errors import ClassInvalidError, ObjectUnusableError
from keyferry.formats.volume_paths import path_problem
from keyferry.rendering.extraction import (
    MAX_JSON_BYTES,
    MAX_KEYS,
    ExtractionRequest,
    check_expression,
    extract,
)
from tests.fuzz.messages import check_message

pytestmark = pytest.mark.filterwarnings("ignore:deprecated string literal syntax")

CANARY = "canary-3f1d"
KEYS = st.sampled_from(["a", "b", "user", "x.y", "", "é", "..", "a/b"]) | st.text(max_size=4)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.just(CANARY)
    | st.text(max_size=6) | st.sampled_from(["1.10", "10" * 20])
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
PIECES = st.sampled_from([
    "a", "b", "user", ".", "..", "[", "]", "[]", "[*]", "*", "[0]", "[-1]", "[::2]", "[?", "==",
    "`1`", "'a'", '"x.y"', "|", "||", "&&", "!", "@", "&", "{", "}", ":", ",", "keys(@)", "(", ")",
    "values(@)", "sort(@)", "to_number(a)", "length(@)", "join('', @)", "map(&@, @)", "max(@)",
    "sort_by(@, &a)", "type(@)", "to_string(@)", "reverse(@)", "nothing(@)", "merge(@, @)", "<",
])  # fmt: skip
SHAPES = st.sampled_from([
    "{0}.{1}", "{0}[0]", "{0}[*]", "{0}[]", "[{0}, {1}]", "{{k: {0}, l: {1}}}", "keys({0})",
    "{0} | {1}", "{0}[?{1} == `1`]", "to_string({0})", "{0} || {1}", "length({0})", "max({0})",
    "map(&{1}, {0})", "sort_by({0}, &{1})", "join('', {0})", "merge({0}, {1})",
])  # fmt: skip
VALID = st.recursive(
    st.sampled_from(["a", "b", "user", "@", '"x.y"', "`1`", "*"]),
    lambda inner: st.builds(str.format, SHAPES, inner, inner),
    max_leaves=5,
)
EXPRESSIONS = (
    VALID
    | st.lists(PIECES, max_size=9).map("".join)
    | st.text(max_size=20)
    | st.text(string.ascii_letters + string.punctuation, max_size=12)
)
TEXTS = st.binary(max_size=30) | st.text(max_size=30).map(lambda text: text.encode())


class KeepsCharacters(Functions):
    """`to_string` as in Go, where JSON keeps its characters; jmespath's escapes them."""

    @signature({"types": []})
    def _func_to_string(self, value: Any) -> str:
        if isinstance(value, str):
            return value
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


OPTIONS = jmespath.Options(custom_functions=KeepsCharacters())


def check_values(message: str) -> None:
    """Check that a message has no value."""
    assert CANARY not in message


@given(EXPRESSIONS, VALUES)
@example("[[@,@],[@,@]]", [CANARY])
@example("to_string(@)", {"é": None})
@example("[to_string(@)]", ["é"])
def test_an_expression_finds_what_jmespath_finds_or_fails(expression: str, value: Any) -> None:
    """No other exception; the message names no value; the result has a limit."""
    text = json.dumps(value)
    try:
        check_expression(expression)
        (found,) = extract(ExtractionRequest(text.encode(), (expression,))).values
    except (ClassInvalidError, ObjectUnusableError) as error:
        check_message(error)
        check_values(str(error))
        return
    assert len(found) <= MAX_JSON_BYTES
    expected = jmespath.search(expression, json.loads(text), OPTIONS)
    if isinstance(expected, str):
        assert expected.encode(errors="replace") == found.replace("\ufffd".encode(), b"?")
    else:
        assert expected == json.loads(found)


@given(VALUES, st.booleans())
def test_each_key_is_a_file_or_the_value_is_refused(value: Any, is_yaml: bool) -> None:
    """The names of the files are valid, and the values are those of the document."""
    text = yaml.safe_dump(value, allow_unicode=False) if is_yaml else json.dumps(value)
    try:
        found = extract(ExtractionRequest(text.encode(), expands=True, is_yaml=is_yaml)).keys
    except ObjectUnusableError as error:
        check_message(error)
        check_values(str(error))
        return
    assert isinstance(value, dict)
    assert len(found) == len(value) <= MAX_KEYS
    assert all(path_problem(key) is None and "/" not in key for key, _ in found)


@given(TEXTS, st.booleans(), st.booleans())
def test_any_bytes_are_parsed_or_refused(text: bytes, is_yaml: bool, expands: bool) -> None:
    """No other exception."""
    with suppress(ObjectUnusableError):
        extract(ExtractionRequest(text, ("@",), expands, is_yaml))


@given(TEXTS, st.booleans())
def test_message_does_not_quote_a_text_that_is_not_json(text: bytes, expands: bool) -> None:
    """It may be a password."""
    with pytest.raises(ObjectUnusableError) as caught:
        extract(ExtractionRequest(CANARY.encode() + text, ("a.b",), expands))
    check_message(caught.value)
    assert CANARY not in str(caught.value)
