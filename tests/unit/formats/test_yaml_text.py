"""keyferry.formats.yaml_text: texts stay texts, and hostile documents end at a limit."""

from __future__ import annotations

from contextlib import suppress

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from keyferry.formats.yaml_text import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_NODES,
    ScalarStyle,
    YamlError,
    YamlList,
    YamlMap,
    YamlNode,
    YamlScalar,
    read_yaml,
)


def plain(node: YamlNode | None) -> object:
    """The node as lists, dicts and texts."""
    match node:
        case YamlScalar(text):
            return text
        case YamlList(items):
            return [plain(item) for item in items]
        case YamlMap(entries):
            return {key: plain(value) for key, value in entries.items()}
        case None:
            return None


@pytest.mark.parametrize(
    "text",
    ["0755", "12e34", "0123", "true", "2024-01-01", "1_000", "0x1F", "yes", ".inf", "=", "1:30"],
)
def test_a_plain_scalar_stays_as_it_is_written(text: str) -> None:
    """No scalar is resolved to a number, a boolean or a date."""
    assert read_yaml(text) == YamlScalar(text, ScalarStyle.PLAIN, 1)


@pytest.mark.parametrize("text", ["a:", "a: ~", "a: null", "a: NULL", "a: Null"])
def test_null_is_the_empty_text(text: str) -> None:
    """What YAML calls null is read as nothing."""
    assert plain(read_yaml(text)) == {"a": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("'~'", "~"), ('"null"', "null"), ("!!str null", "null"), ("! 5", "5"), ('"\\x41"', "A")],
)
def test_quotes_and_the_string_tag_keep_the_text(text: str, expected: str) -> None:
    """Only a plain null is null."""
    assert plain(read_yaml(text)) == expected


def test_json_is_yaml() -> None:
    """Classes may be written as JSON."""
    assert plain(read_yaml('{"a": ["x", {"b": "0755"}]}')) == {"a": ["x", {"b": "0755"}]}


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n"])
def test_empty_text_has_no_document(text: str) -> None:
    """Nothing is not an empty text."""
    assert read_yaml(text) is None


def test_nodes_know_their_line_and_style() -> None:
    """Lines count from 1; a literal scalar begins at its '|'."""
    root = read_yaml("a: x\nb:\n- 'y'\n- |\n  z\n- >\n  w\n")
    assert root == YamlMap(
        {
            "a": YamlScalar("x", ScalarStyle.PLAIN, 1),
            "b": YamlList(
                (
                    YamlScalar("y", ScalarStyle.QUOTED, 3),
                    YamlScalar("z\n", ScalarStyle.LITERAL, 4),
                    YamlScalar("w\n", ScalarStyle.FOLDED, 6),
                ),
                3,
            ),
        },
        1,
    )


def test_an_alias_stands_for_its_anchor() -> None:
    """Anchors and aliases work within the limits."""
    assert plain(read_yaml("a: &x [1, 2]\nb: *x\n")) == {"a": ["1", "2"], "b": ["1", "2"]}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3", 3, "the key 'a' occurs twice"),
        ("a: [", 2, "not YAML"),
        ("a: b: c", 1, "not YAML"),
        ("a:\n\t- b", 2, "not YAML"),
        ("a: \x00", 1, "control character"),
        ("a: \ud800", 1, "not valid Unicode"),
        ("a: 1\nb: !!int x", 2, "a value is not what its tag !!int says"),
        ("a: !!bool 'maybe'", 1, "a value is not what its tag !!bool says"),
        ("a: !!null x", 1, "a value is not what its tag !!null says"),
        ("a: !!binary aGk", 1, "a value with the tag !!binary is not the base64 text of UTF-8"),
        ("a: !!binary /w==", 1, "a value with the tag !!binary is not the base64 text of UTF-8"),
        ("? [a]\n: b", 1, "a key is a list or a mapping"),
        ("a:\n  <<: b", 2, "a merge key (<<) has a value that is not a mapping"),
        ("a:\n  <<: [{b: c}, d]", 2, "a merge key (<<) has a value that is not a mapping"),
        ("<<: ~", 1, "a merge key (<<) has a value that is not a mapping"),
        ("<<: {a: b}\n<<: {c: d}", 2, "the key '<<' occurs twice"),
        ("a: *x", 1, "an alias has no anchor"),
        ("a: &x [*x]", 1, "an alias has no anchor before it, or is within its own anchor"),
    ],
)
def test_what_is_not_allowed_is_named_with_its_line(text: str, line: int, words: str) -> None:
    """Every refusal says what and where."""
    with pytest.raises(YamlError) as caught:
        read_yaml(text)
    assert words in caught.value.problem
    assert f"(line {line})" in caught.value.problem
    assert caught.value.line == line


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_deep_nesting_ends_at_the_limit(opening: str) -> None:
    """100,000 levels are an error, not a crash of the interpreter."""
    with pytest.raises(YamlError, match=f"deeper than {MAX_DEPTH} levels"):
        read_yaml(opening * 100_000)


def test_nesting_up_to_the_limit_is_read() -> None:
    """63 lists and the scalar in them are 64 levels; one more is too deep."""
    lists = MAX_DEPTH - 1
    assert isinstance(read_yaml("[" * lists + "x" + "]" * lists), YamlList)
    with pytest.raises(YamlError, match="deeper"):
        read_yaml("[" * (lists + 1) + "x" + "]" * (lists + 1))


def test_aliases_cannot_nest_deeper_than_the_limit_either() -> None:
    """An alias counts with the depth of what it stands for."""
    half = "[" * 40 + "x" + "]" * 40
    with pytest.raises(YamlError, match="deeper"):
        read_yaml(f"a: &x {half}\nb: {'[' * 40}*x{']' * 40}\n")


def test_an_alias_bomb_ends_at_the_limit() -> None:
    """Nine lists of nine aliases each would be 9^9 values."""
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    with pytest.raises(
        YamlError, match=f"more than {MAX_NODES} values, aliases expanded"
    ) as caught:
        read_yaml("\n".join(lines))
    assert caught.value.line == 5


def test_any_number_of_aliases_is_read_within_the_limit() -> None:
    """Each alias counts as the values that it stands for."""
    aliases = ",".join(["*x"] * 500)
    assert plain(read_yaml(f"a: &x y\nb: [{aliases}]")) == {"a": "y", "b": ["y"] * 500}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: &x {b: c}\nd:\n  <<: *x", {"b": "c"}),
        ("d: {<<: {b: c, e: f}, b: g}", {"b": "g", "e": "f"}),
        ("d: {b: g, <<: {b: c, e: f}}", {"b": "g", "e": "f"}),
        ("d: {<<: [{b: c}, {b: x, e: f}]}", {"b": "c", "e": "f"}),
        ("d: {<<: {<<: {b: c}, e: f}}", {"b": "c", "e": "f"}),
        ("d: {!!merge <<: {b: c}}", {"b": "c"}),
        ("d: {'<<': {b: c}}", {"<<": {"b": "c"}}),
    ],
)
def test_merge_keys_are_resolved(text: str, expected: object) -> None:
    """A mapping's own entries win, then the first source. A quoted key is not a merge key."""
    root = plain(read_yaml(text))
    assert isinstance(root, dict)
    assert root["d"] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("!!binary aGk=", YamlScalar("hi", ScalarStyle.QUOTED, 1)),
        ("!!binary |\n aG\n k=\n", YamlScalar("hi", ScalarStyle.QUOTED, 1)),
        ("!!str 5", YamlScalar("5", ScalarStyle.QUOTED, 1)),
        ("!own 5", YamlScalar("5", ScalarStyle.QUOTED, 1)),
        ("!!int '5'", YamlScalar("5", ScalarStyle.PLAIN, 1)),
        ("!!float 5", YamlScalar("5", ScalarStyle.PLAIN, 1)),
        ("!!bool true", YamlScalar("true", ScalarStyle.PLAIN, 1)),
        ("!!timestamp 2026-01-02", YamlScalar("2026-01-02", ScalarStyle.PLAIN, 1)),
        ("!!null 'null'", YamlScalar("", ScalarStyle.PLAIN, 1)),
        ("!!seq [a]", YamlList((YamlScalar("a", ScalarStyle.PLAIN, 1),), 1)),
        ("!own {a: b}", YamlMap({"a": YamlScalar("b", ScalarStyle.PLAIN, 1)}, 1)),
    ],
)
def test_tags_are_read_as_upstream_reads_them(text: str, expected: YamlNode) -> None:
    """A tag decides whether a text can be a number; `!!binary` is decoded."""
    assert read_yaml(text) == expected


@pytest.mark.parametrize(
    "text",
    ["a: b\n---\n", "a: b\n---\n# end\n", "a: b\n---\nc: [\n", "a: b\n...\n", "a: b\n...\n]\n"],
)
def test_only_the_first_document_is_read(text: str) -> None:
    """As by yaml.v3, what follows is not even parsed."""
    assert plain(read_yaml(text)) == {"a": "b"}


@pytest.mark.parametrize("directive", ["%YAML 1.1", "%YAML 1.2", "%TAG ! tag:example.org,2026:"])
def test_directives_are_allowed(directive: str) -> None:
    """They have no effect."""
    assert plain(read_yaml(f"{directive}\n---\na: !x b")) == {"a": "b"}


def test_the_number_of_values_is_bounded() -> None:
    """A flat document cannot be endless."""
    with pytest.raises(YamlError, match=f"more than {MAX_NODES} values"):
        read_yaml("- x\n" * (MAX_NODES + 1))


def test_ten_mebibytes_are_refused_before_they_are_read() -> None:
    """The size is checked in bytes, first of all."""
    with pytest.raises(YamlError, match=f"has {10 << 20} bytes, and the limit is {MAX_BYTES}"):
        read_yaml("x" * (10 << 20))


yaml_values: st.SearchStrategy[object] = st.recursive(
    st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(yaml_values)
def test_what_another_writer_wrote_is_read_back(value: object) -> None:
    """Texts, lists and mappings survive a round trip through PyYAML's writer."""
    written = yaml.safe_dump(value, default_style='"', allow_unicode=True)
    assert plain(read_yaml(written)) == value


@given(st.text(st.sampled_from("-?:,[]{}#&*!|>'\"%@` \n\tab0~<")) | st.text())
def test_no_text_escapes_the_error_tree(text: str) -> None:
    """Any text is either a document or a YamlError."""
    with suppress(YamlError):
        read_yaml(text)
