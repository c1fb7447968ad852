"""YAML as plain values, within limits, and back."""

import string
from collections.abc import Mapping

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from keyferry.formats.kubernetes_yaml import (
    MAX_DEPTH,
    MAX_NODES,
    KubernetesYamlError,
    UnsupportedScalar,
    Value,
    dump_document,
    parse_documents,
)

LIMIT = 1024 * 1024


def parsed(text: str) -> Value:
    (document,) = parse_documents(text.encode(), max_bytes=LIMIT)
    return document.value


def problem(text: str | bytes) -> KubernetesYamlError:
    with pytest.raises(KubernetesYamlError) as caught:
        parse_documents(text if isinstance(text, bytes) else text.encode(), max_bytes=LIMIT)
    return caught.value


class TestValues:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("a", "a"),
            ('"1"', "1"),
            ("|\n  x\n  y\n", "x\ny\n"),
            ("true", True),
            ("No", False),
            ("~", None),
            ("-12", -12),
            ("0", 0),
            ("012", UnsupportedScalar("a number")),
            ("0x1f", UnsupportedScalar("a number")),
            ("9" * 50, UnsupportedScalar("a number")),
            ("9" * 5000, "9" * 5000),
            ("1.5", UnsupportedScalar("a number")),
            ("1e3", UnsupportedScalar("a number")),
            ("1_0", UnsupportedScalar("a number")),
            (".inf", UnsupportedScalar("a number")),
            ("y", True),
            ("Off", False),
            ("oN", "oN"),
            ("2024-01-01", "2024-01-01"),
            ("2024-99-99", "2024-99-99"),
            ("2024-01-01 10:00:00", "2024-01-01 10:00:00"),
            ("2024-01-01T10:00:00Z", "2024-01-01T10:00:00Z"),
            ("22:30", "22:30"),
            ("190:20:30.15", "190:20:30.15"),
            ("0b12", "0b12"),
            ("1e400", "1e400"),
            ("!!str 5", "5"),
            ("! 5", "5"),
            ("!own 5", "5"),
            ("!!timestamp 2024-01-01", "2024-01-01"),
            ("!!binary YQ==", "a"),
            ("!!binary YQ", UnsupportedScalar("a value that does not fit its tag")),
            ("!!int x", UnsupportedScalar("a number")),
            ("!!bool x", UnsupportedScalar("a value that does not fit its tag")),
            ("!!python/object:os.system x", "x"),
            ("!!set {a, b}", {"a": None, "b": None}),
            ("!own [a]", ["a"]),
            ("=", "="),
            ("<<", "<<"),
        ],
    )
    def test_scalars_keep_their_kind(self, text: str, expected: Value) -> None:
        """A text is a text; what no field can hold is only known by its kind, however odd it is."""
        value = parsed(f"a: {text}")

        assert {"a": expected} == value
        assert isinstance(value, dict)
        assert type(expected) is type(value["a"])

    def test_keys_are_texts(self) -> None:
        """A key is taken as it is written, as JSON has no other keys."""
        assert {"1": "a", "true": "b"} == parsed("1: a\ntrue: b")

    def test_aliases_and_merges_are_written_out(self) -> None:
        """What an alias stands for is repeated; own keys win over merged ones, first over last."""
        text = "x: &x {a: '1', b: '1'}\ny: &y {b: '2', c: '2'}\nz: {<<: [*x, *y], a: '3'}\nw: *x"

        assert {
            "x": {"a": "1", "b": "1"},
            "y": {"b": "2", "c": "2"},
            "z": {"a": "3", "b": "1", "c": "2"},
            "w": {"a": "1", "b": "1"},
        } == parsed(text)

    def test_every_document_is_one(self) -> None:
        """Documents are separated by '---'; empty ones are there and say nothing."""
        documents = parse_documents(b"---\na: b\n---\n---\nc\n", max_bytes=LIMIT)

        assert [{"a": "b"}, None, "c"] == [document.value for document in documents]


def test_repeated_key_is_an_error_with_its_line() -> None:
    """Kubectl would use the last one."""
    error = problem("spec:\n  provider: azure\n  provider: vault\n")

    assert ("has the key 'provider' twice in one mapping", 3) == (error.problem, error.line)


TEMPLATE = "{{': render the template first, for example with 'helm template'."


class TestProblems:
    @pytest.mark.parametrize(
        ("text", "expected", "line"),
        [
            ("a: b\nc: [canary\nd: e", "is not YAML: did not find expected ',' or ']'", 3),
            ("a: b\n\tc: d", "is not YAML: tabs are not allowed for indentation; use spaces", 2),
            ("a: canary: c", "is not YAML: mapping values are not allowed in this context", 1),
            ("a: 1\nb: 2\na: 3", "has the key 'a' twice in one mapping", 3),
            ("\n? [a, b]\n: c", "has a key that is itself a list or a mapping", 2),
            ("a: *canary", "has an alias to an anchor that is not complete before it", 1),
            ("a: &a [1, *a]", "has an alias to an anchor that is not complete before it", 1),
            ("- &a b\n---\n*a", "has an alias to an anchor that is not complete before it", 3),
            ("a:\n  <<: canary", "merges ('<<') something that is not a mapping", 2),
            (
                'a: b\nc: {{ include "x" . }}',
                "has a key that is itself a list or a mapping",
                2,
            ),
            (
                "a: {{ .Values.canary }}\nb: c",
                "has a key that is itself a list or a mapping",
                1,
            ),
            (
                "a: b\n{{- if .c }}\nd: e",
                "is not YAML: could not find expected ':'",
                3,
            ),
            (b"a: \xff", "is not YAML: it contains bytes that are not text", None),
            (b"a: \x00", "is not YAML: it contains bytes that are not text", None),
        ],
    )
    def test_are_named_with_their_line(
        self, text: str | bytes, expected: str, line: int | None
    ) -> None:
        """A problem says what is wrong and where, and repeats no value."""
        error = problem(text)

        assert (expected, line) == (error.problem, error.line)

    @pytest.mark.parametrize(
        ("text", "remedy"),
        [
            ("a: b\nc:d\ne: f", "Write a blank after ':'."),
            ("a: @b", "Put the value in quotes: a plain value may not begin with '@'."),
            ("a: b: c", "Put a value that contains ': ' in quotes."),
            ('a: "b\nc: d\n', "Close the quote that begins on line 1."),
            (
                "x:\n  a: b\n   c: d",
                "Align lines 2 and 3: the fields of a mapping begin in one column.",
            ),
            ("a:\n  b: 1\n\tc: 2\n", "Indent with spaces instead of tabs."),
            ("a: 1\nb: 2\na: 3", "Remove one of them."),
            (
                "a: b\n{{- if .c }}\nd: e",
                f"Line 2 contains '{TEMPLATE}",
            ),
            (b"a: \xff", "Write it in UTF-8."),
            ("a: [1", "Check indentation and quotes."),
        ],
    )
    def test_remedy_names_what_to_change(self, text: str | bytes, remedy: str) -> None:
        assert remedy == problem(text).remedy

    def test_size_is_limited(self) -> None:
        """A text that is too large is not even parsed."""
        error = problem(b"[" * (10 * LIMIT))

        assert "is larger than 1048576 bytes" == error.problem

    @pytest.mark.parametrize("text", ["[" * 500_000, "a: " + "{a: " * 1000, "- " * 100_000])
    def test_depth_is_limited(self, text: str) -> None:
        """Deep nesting ends before it costs the stack."""
        assert f"is nested deeper than {MAX_DEPTH} levels" == problem(text).problem

    def test_depth_through_aliases_is_limited(self) -> None:
        """A chain of aliases is as deep as what it stands for."""
        lines = ["x0: &x0 [a]"]
        lines += [f"x{n}: &x{n} [[[[*x{n - 1}]]]]" for n in range(1, 20)]

        assert f"is nested deeper than {MAX_DEPTH} levels" == problem("\n".join(lines)).problem

    def test_the_deepest_allowed_is_read(self) -> None:
        """The limit itself is within it."""
        value = parsed("[" * MAX_DEPTH + "]" * MAX_DEPTH)

        assert isinstance(value, list)
        assert problem("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)).line == 1

    @pytest.mark.parametrize(
        "link", ["[{}]", "{{<<: [{}]}}"], ids=["billion laughs", "merged laughs"]
    )
    def test_alias_bombs_are_counted_as_they_explode(self, link: str) -> None:
        """Nine levels of ten aliases stand for a billion values, and are refused as such."""
        lines = ["x0: &x0 {a: b}"]
        lines += [
            f"x{n}: &x{n} " + link.format(", ".join([f"*x{n - 1}"] * 10)) for n in range(1, 10)
        ]

        error = problem("\n".join(lines))

        assert f"has more than {MAX_NODES} values, aliases expanded" == error.problem

    @given(st.text(alphabet="ab&*:-[]{}!<>?|'\"\n #,%~01.y", max_size=60))
    def test_nothing_foreign_escapes(self, text: str) -> None:
        """Whatever the text, it is parsed or raises a KubernetesYamlError."""
        try:
            parse_documents(text.encode(), max_bytes=LIMIT)
        except KubernetesYamlError as error:
            assert error.problem  # noqa: PT017

    @given(st.binary(max_size=60))
    def test_nothing_foreign_escapes_from_bytes(self, text: bytes) -> None:
        """The same for bytes that are no text."""
        try:
            parse_documents(text, max_bytes=LIMIT)
        except KubernetesYamlError as error:
            assert error.problem  # noqa: PT017

    def test_depth_limits_of_the_library_have_the_same_message(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whether the library recurses, or has a limit of its own."""
        for raised in (
            RecursionError("maximum recursion depth exceeded"),
            yaml.parser.ParserError(problem="exceeded maximum nesting depth"),
            yaml.scanner.ScannerError(problem="too many nested flow collections"),
        ):

            def parse(*_: object, raised: Exception = raised, **__: object) -> None:
                raise raised

            monkeypatch.setattr(yaml, "parse", parse)
            assert f"is nested deeper than {MAX_DEPTH} levels" == problem("[").problem


class TestSpelling:
    def test_a_scalar_is_found_as_it_is_written(self) -> None:
        """For messages that repeat a boolean."""
        document = parse_documents(b"a: [{b: on}]\nc: {d: e}", max_bytes=LIMIT)[0]

        assert "on" == document.text_of(("a", 0, "b"))
        assert "" == document.text_of(("c",))
        assert "" == document.text_of(("c", "x", "y"))


class TestLines:
    TEXT = "---\nother\n---\nspec:\n  items:\n  - a: 1\n    b: 2\n  -\n    a: 3\n"

    @pytest.mark.parametrize(
        ("path", "line"),
        [
            ((), 4),
            (("spec",), 4),
            (("spec", "items"), 5),
            (("spec", "items", 0, "b"), 7),
            (("spec", "items", 1, "a"), 9),
            (("spec", "missing", "x"), 4),
            (("spec", "items", 7), 5),
        ],
    )
    def test_a_field_is_found_by_its_path(self, path: tuple[str | int, ...], line: int) -> None:
        """The line is that of the field's name, or of the last thing on the way that is there."""
        document = parse_documents(self.TEXT.encode(), max_bytes=LIMIT)[1]

        assert line == document.line_of(path)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ["y", "No", "on", "null", "~", "1e3", "0x1f", "012", "1_000", "1:30", ".inf", "<<", "=", ""]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


class TestDumping:
    @given(st.dictionaries(TEXTS, VALUES, max_size=4))
    @example({"a": "line\nline\n", "b": "\x85\u2028\ufeff\x7f\x00"})
    @example({"a": ["\U0001f600"]})
    def test_what_is_written_reads_back(self, value: Mapping[str, Value]) -> None:
        """Our reader and PyYAML's find again what was written."""
        text = dump_document(value)

        assert [value] == [d.value for d in parse_documents(text, max_bytes=LIMIT)]
        assert value == yaml.safe_load(text)

    @pytest.mark.parametrize("text", ["y", "N", "on", "1e3", "0x1f", "0o7", "1_0", "null", "~", ""])
    def test_quotes_what_other_readers_take_for_no_text(self, text: str) -> None:
        """The reader of kubectl knows words and numbers that PyYAML does not."""
        assert f'a: "{text}"\n'.encode() == dump_document({"a": text})

    def test_leaves_names_plain(self) -> None:
        """What is plainly a name stays readable."""
        name = f"{string.ascii_letters}.x-1/v1"

        assert f"a: {name}\n".encode() == dump_document({"a": name})

    def test_repeats_what_is_repeated(self) -> None:
        """No anchors: a list that occurs twice is written twice."""
        shared: list[Value] = ["x"]

        assert b"a:\n- x\nb:\n- x\n" == dump_document({"a": shared, "b": shared})
