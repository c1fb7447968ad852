"""keyferry.formats.yaml_text: flat mappings of short texts are read without the parser."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.formats import yaml_text
from keyferry.formats.yaml_text import YamlError, YamlMap, YamlNode, YamlScalar, read_yaml

PIECES = st.sampled_from(
    [
        *("a", "objectName", "null", "Null", "~", "yes", "0755", "1.5", "<<", "k" * 1100, "x-y"),
        *(": ", ":", "\n", "\n\n", " ", "  ", '"', "'", ", ", "{", "}", "-", "- ", "/", ".", "---"),
        *("...", "#", " #", "&a ", "*a", "!!str ", "\\", "\t", "é", "|", ">", "%", "\r", "\u2028"),
    ]
)
WORDS = st.sampled_from(["a", "b", "objectName", "null", "NULL", "x_1"])
VALUES = st.sampled_from(["db", "null", "Null", "0755", "true", "a/b.c-d", "_", "1e3", "a-", "a."])
QUOTED = st.sampled_from(["", " ", "db", "null", "a b", "-", ".", "/"])


def parsed(text: str, *, simple: bool) -> YamlNode | str | None:
    """Return what is read, or the error, with or without the shortcut."""
    with pytest.MonkeyPatch.context() as patch:
        if not simple:
            patch.setattr(yaml_text, "_read_simple", lambda _: None)
        try:
            return read_yaml(text)
        except YamlError as error:
            return str(error)


def lines(pairs: list[tuple[str, str]], *, quote: bool) -> str:
    return "".join(f'{key}: "{text}"\n' if quote else f"{key}: {text}\n" for key, text in pairs)


@given(text=st.lists(PIECES, max_size=12).map("".join))
def test_any_text_is_read_as_the_parser_reads_it(text: str) -> None:
    assert parsed(text, simple=False) == parsed(text, simple=True)


@given(
    plain=st.lists(st.tuples(WORDS, VALUES), max_size=4),
    quoted=st.lists(st.tuples(WORDS, QUOTED), max_size=4),
    strip=st.booleans(),
)
def test_simple_lines_are_read_as_the_parser_reads_them(
    plain: list[tuple[str, str]], quoted: list[tuple[str, str]], *, strip: bool
) -> None:
    text = lines(plain, quote=False) + lines(quoted, quote=True)
    text = text.rstrip("\n") if strip else text
    assert parsed(text, simple=False) == parsed(text, simple=True)


@given(pairs=st.dictionaries(WORDS, QUOTED | VALUES, max_size=5))
def test_simple_json_is_read_as_the_parser_reads_it(pairs: dict[str, str]) -> None:
    text = json.dumps(pairs)
    assert parsed(text, simple=False) == parsed(text, simple=True)


@pytest.mark.parametrize(
    "text",
    [
        'objectName: db\nobjectType: secret\nobjectVersion: ""\n',
        '{"objectName": "db", "objectType": "secret"}',
    ],
)
def test_usual_entries_need_no_parser(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_text, "walk_yaml", None)
    found = read_yaml(text)
    assert isinstance(found, YamlMap)
    name = found.entries["objectName"]
    assert isinstance(name, YamlScalar)
    assert "db" == name.text
    with suppress(TypeError):
        read_yaml("a: [b]")
        raise AssertionError


@pytest.mark.parametrize(
    "text",
    [
        *("a: null", "a: Null\nb: NULL\n", 'a: "null"', "null: a", 'a: "b"\nc: d\n', "a: 0755"),
        *(
            "a: b\na: c\n",
            '{"a": "b", "a": "c"}',
            '{"null": "a"}',
            '{"a": "null"}',
            "a: -b",
            "a: .",
        ),
    ],
)
def test_unusual_keys_and_values_are_read_as_the_parser_reads_them(text: str) -> None:
    assert parsed(text, simple=False) == parsed(text, simple=True)
