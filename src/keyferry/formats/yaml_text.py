"""Reads YAML without resolving scalars: each one stays the text that it is written as. [pure]

The objects of a SecretProviderClass are YAML text in YAML text, and its formats take scalars
literally: `filePermission: 0755` is the text `0755`, not the number 493. A repeated key is an
error, because one of its two values would be lost.

As in Go's yaml.v3, which upstream uses, only the first document is read, merge keys are resolved,
and tags are permitted: `!!binary` is decoded, and other tags do not change a text.

Source: docs/reference/upstream-vault-provider.md#yaml-scalars
"""

from __future__ import annotations

import base64
import binascii
import re
from enum import Enum
from typing import TYPE_CHECKING

import yaml
from msgspec import Struct

from keyferry.errors import ClassInvalidError
from keyferry.formats.go_values import YAML_NULLS, yaml_boolean, yaml_number, yaml_timestamp
from keyferry.formats.yaml_events import (
    YamlFault,
    YamlLimits,
    YamlWalkError,
    syntax_hint,
    walk_yaml,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_NODES = 10_000
"""Scalars, lists and mappings together, aliases expanded."""

_TAG_PREFIX = "tag:yaml.org,2002:"


class YamlError(ClassInvalidError):
    """The text is not YAML, or exceeds a limit.

    Attributes:
        detail: the problem, without the line.
        line: counted from 1.
    """

    def __init__(self, problem: str, remedy: str = "", *, line: int = 1) -> None:
        super().__init__(f"{problem} (line {line})", remedy)
        self.detail = problem
        self.line = line


class ScalarStyle(Enum):
    """How a scalar is written; only a plain one can be a number, only a literal one keeps lines."""

    PLAIN = "plain"
    QUOTED = "quoted"
    LITERAL = "literal"
    FOLDED = "folded"


_STYLES = {
    "'": ScalarStyle.QUOTED,
    '"': ScalarStyle.QUOTED,
    "|": ScalarStyle.LITERAL,
    ">": ScalarStyle.FOLDED,
}


class YamlScalar(Struct, frozen=True):
    """A text; a null is the empty plain text.

    Attributes:
        text: as written, after quotes, escapes and indentation.
        style: how it is written. A tag overrides it: with `!!str` a plain text counts as quoted.
        line: its first line, counted from 1; of a literal scalar the line of its `|`.
    """

    text: str
    style: ScalarStyle
    line: int

    @property
    def is_null(self) -> bool:
        """Whether nothing is written, or a word for null."""
        return not self.text and self.style is ScalarStyle.PLAIN


class YamlList(Struct, frozen=True):
    """A sequence of nodes, beginning at `line`."""

    items: tuple[YamlNode, ...]
    line: int

    @property
    def present(self) -> tuple[YamlNode, ...]:
        """The items without nulls, which templates often leave behind and upstream drops."""
        return tuple(
            item for item in self.items if not (isinstance(item, YamlScalar) and item.is_null)
        )


class YamlMap(Struct, frozen=True):
    """A mapping from texts to nodes, beginning at `line`."""

    entries: Mapping[str, YamlNode]
    line: int


YamlNode = YamlScalar | YamlList | YamlMap


def read_yaml(text: str) -> YamlNode | None:
    """Parse the first document in `text`; return None for empty text.

    Raises:
        YamlError: not YAML, a repeated key, a limit exceeded, a value that does not fit its tag, a
            merge of something else than mappings, a key that is not a text, an alias within its
            own anchor.
    """
    if (simple := _read_simple(text)) is not None:
        return simple
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise YamlError("the text is not valid Unicode", "Write it in UTF-8.") from None
    if size > MAX_BYTES:
        raise YamlError(f"the text has {size} bytes, and the limit is {MAX_BYTES}", _SPLIT_REMEDY)
    try:
        roots = walk_yaml(text, _TextBuilder(), _LIMITS)
    except YamlWalkError as error:
        raise _yaml_error(error, text) from None
    except YamlError as error:
        if "{{" in text:
            remedy = syntax_hint(text, error.line)
            raise YamlError(error.detail, remedy, line=error.line) from None
        raise
    return roots[0] if roots else None


_MAX_SIMPLE_LENGTH = 4096
_KEY, _QUOTED = r"[A-Za-z][A-Za-z0-9_]{0,99}", r'"[A-Za-z0-9_./ -]*"'
_LINE = rf"{_KEY}: (?:[A-Za-z0-9_/][A-Za-z0-9_./-]*|{_QUOTED})"
_PAIR = rf'"{_KEY}": {_QUOTED}'
_SIMPLE = re.compile(rf"(?:{_LINE}\n)*{_LINE}\n?|\{{(?:{_PAIR}, )*{_PAIR}\}}")
_SIMPLE_PAIR = re.compile(rf'"?({_KEY})"?: ("?)([A-Za-z0-9_./ -]*)')


def _read_simple(text: str) -> YamlMap | None:
    """Return what `read_yaml` returns for a flat mapping of short texts; None for other texts.

    Most entries of `objects` are of that form, in lines or as JSON on one line. The parser takes
    five times as long for them.
    """
    if len(text) > _MAX_SIMPLE_LENGTH or not _SIMPLE.fullmatch(text):
        return None
    entries: dict[str, YamlNode] = {}
    in_lines = text[0] != "{"
    pairs = _SIMPLE_PAIR.findall(text)
    for number, (key, quote, value) in enumerate(pairs, 1):
        line = number if in_lines else 1
        if quote:
            entries[key] = YamlScalar(value, ScalarStyle.QUOTED, line)
        else:
            entries[key] = YamlScalar("" if value in YAML_NULLS else value, ScalarStyle.PLAIN, line)
    # The parser reports a repeated key, and reads `null` as a key without text.
    is_unusual = len(entries) < len(pairs) or not YAML_NULLS.isdisjoint(entries)
    return None if is_unusual else YamlMap(entries, 1)


_UNQUOTED = re.compile(r"[+-]?[A-Za-z0-9_.][A-Za-z0-9_.+-]*(?::[A-Za-z0-9_.+-]+)*")


def write_flow(node: YamlNode) -> str:
    """Return a node as one line of YAML that `read_yaml` reads as an equal node.

    A plain scalar stays plain if it can be anything but a text.
    """
    match node:
        case YamlMap(entries):
            pairs = (f"{_quoted(key)}: {write_flow(each)}" for key, each in entries.items())
            return f"{{{', '.join(pairs)}}}"
        case YamlList(items):
            return f"[{', '.join(map(write_flow, items))}]"
        case YamlScalar(is_null=True):
            return "null"
        case YamlScalar(text, ScalarStyle.PLAIN) if _UNQUOTED.fullmatch(text):
            return text
        case YamlScalar(text):
            return _quoted(text)


def _quoted(text: str) -> str:
    """Return a text in double quotes, on one line."""
    escaped = text.replace("\\", r"\\").replace('"', r"\"")
    shown = (each if each.isprintable() else f"\\U{ord(each):08x}" for each in escaped)
    return f'"{"".join(shown)}"'


_LIMITS = YamlLimits(MAX_DEPTH, MAX_NODES, first_document=True)
_SPLIT_REMEDY = "Split it over several SecretProviderClasses."
_SYNTAX_REMEDY = "Fix the YAML on this line; check indentation and quotes."


def _yaml_error(error: YamlWalkError, text: str) -> YamlError:
    detail = error.detail or "it contains a control character"
    syntax_remedy = syntax_hint(text, error.line) or _SYNTAX_REMEDY
    problem, remedy = {
        YamlFault.SYNTAX: (f"not YAML: {detail}", syntax_remedy),
        YamlFault.DEPTH: (f"nested deeper than {MAX_DEPTH} levels", "Flatten it."),
        YamlFault.NODES: (f"more than {MAX_NODES} values, aliases expanded", _SPLIT_REMEDY),
        YamlFault.ANCHOR: (
            "an alias has no anchor before it, or is within its own anchor",
            "Write out the value that it stands for.",
        ),
    }[error.fault]
    return YamlError(problem, remedy, line=error.line or 1)


class _TextBuilder:
    """Builds YamlNode values."""

    def scalar(self, event: yaml.ScalarEvent, line: int) -> YamlNode:
        style = _STYLES.get(event.style or "", ScalarStyle.PLAIN)
        if event.tag is not None:
            return _tagged_scalar(event.tag, YamlScalar(event.value, style, line))
        is_null = style is ScalarStyle.PLAIN and event.value in YAML_NULLS
        return YamlScalar("" if is_null else event.value, style, line)

    def start(self, event: yaml.CollectionStartEvent, line: int) -> None:
        del event, line

    def collection(
        self, event: yaml.CollectionStartEvent, line: int, children: list[YamlNode]
    ) -> YamlNode:
        if isinstance(event, yaml.MappingStartEvent):
            return YamlMap(_entries(children), line)
        return YamlList(tuple(children), line)


def _entries(children: list[YamlNode]) -> dict[str, YamlNode]:
    """Return the entries of a mapping; its own override the merged ones."""
    own: dict[str, YamlNode] = {}
    merged: dict[str, YamlNode] | None = None
    for key, value in zip(children[::2], children[1::2], strict=True):
        if not isinstance(key, YamlScalar):
            raise YamlError("a key is a list or a mapping", "Use a text as key.", line=key.line)
        is_merge = key.text == "<<" and key.style is ScalarStyle.PLAIN
        if key.text in own or (is_merge and merged is not None):
            problem = f"the key {key.text[:100]!r} occurs twice in one mapping"
            raise YamlError(problem, "Remove one of the two.", line=key.line)
        if is_merge:
            # The first of several sources wins.
            sources = reversed(list(_merge_sources(key, value)))
            merged = {name: node for source in sources for name, node in source.entries.items()}
        else:
            own[key.text] = value
    return {**merged, **own} if merged else own


def _merge_sources(key: YamlScalar, value: YamlNode) -> Iterator[YamlMap]:
    for source in value.items if isinstance(value, YamlList) else (value,):
        if not isinstance(source, YamlMap):
            problem = "a merge key (<<) has a value that is not a mapping"
            raise YamlError(problem, "Merge a mapping, or a list of mappings.", line=key.line)
        yield source


def _tagged_scalar(tag: str, scalar: YamlScalar) -> YamlScalar:
    """Return a scalar as its tag says."""
    text, line = scalar.text, scalar.line
    fits = {
        "null": lambda: text in YAML_NULLS,
        "bool": lambda: yaml_boolean(text) is not None,
        "int": lambda: isinstance(yaml_number(text), int),
        "float": lambda: yaml_number(text) is not None,
        "timestamp": lambda: yaml_timestamp(text) is not None,
    }.get(tag.removeprefix(_TAG_PREFIX) if tag.startswith(_TAG_PREFIX) else "")
    if fits is not None:
        if not fits():
            problem = f"a value is not what its tag !!{tag.removeprefix(_TAG_PREFIX)} says"
            raise YamlError(problem, "Remove the tag.", line=line)
        text = "" if tag == f"{_TAG_PREFIX}null" else text
        return YamlScalar(text, ScalarStyle.PLAIN, line)
    if tag == f"{_TAG_PREFIX}binary":
        return YamlScalar(_decode_binary(scalar), ScalarStyle.QUOTED, line)
    if tag == f"{_TAG_PREFIX}merge":
        return scalar
    style = ScalarStyle.QUOTED if scalar.style is ScalarStyle.PLAIN else scalar.style
    return YamlScalar(text, style, line)


def _decode_binary(scalar: YamlScalar) -> str:
    try:
        compact = scalar.text.replace("\r", "").replace("\n", "")
        return base64.b64decode(compact, validate=True).decode()
    except (binascii.Error, ValueError):
        problem = "a value with the tag !!binary is not the base64 text of UTF-8"
        raise YamlError(
            problem, "Write the text itself, without the tag.", line=scalar.line
        ) from None
