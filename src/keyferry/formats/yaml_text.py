"""Reads YAML without resolving scalars: each one stays the text that it is written as. [pure]

The objects of a SecretProviderClass are YAML text in YAML text, and its formats take scalars
literally: `filePermission: 0755` is the text `0755`, not the number 493. A repeated key is an
error, because one of its two values would be lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import yaml

from keyferry.errors import ClassInvalidError
from keyferry.formats.yaml_events import YamlFault, YamlLimits, YamlWalkError, walk_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_NODES = 10_000
"""Scalars, lists and mappings together, aliases expanded."""
MAX_ALIASES = 100

_STRING_TAGS = frozenset({None, "!", "tag:yaml.org,2002:str"})
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})


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


@dataclass(frozen=True, slots=True)
class YamlScalar:
    """A text; a null is the empty text.

    Attributes:
        text: as written, after quotes, escapes and indentation.
        style: how it is written.
        line: its first line, counted from 1; of a literal scalar the line of its `|`.
    """

    text: str
    style: ScalarStyle
    line: int


@dataclass(frozen=True, slots=True)
class YamlList:
    """A sequence of nodes, beginning at `line`."""

    items: tuple[YamlNode, ...]
    line: int


@dataclass(frozen=True, slots=True)
class YamlMap:
    """A mapping from texts to nodes, beginning at `line`."""

    entries: Mapping[str, YamlNode]
    line: int


YamlNode = YamlScalar | YamlList | YamlMap


def read_yaml(text: str) -> YamlNode | None:
    """Parse the only document in `text`; return None for empty text.

    Raises:
        YamlError: not YAML, a repeated key, a limit exceeded, a second document, a tag other than
            `!!str`, a merge key, a key that is not a text, an alias within its own anchor.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise YamlError("the text is not valid Unicode", "Write it in UTF-8.") from None
    if size > MAX_BYTES:
        raise YamlError(f"the text has {size} bytes, and the limit is {MAX_BYTES}", _SPLIT_REMEDY)
    try:
        roots = walk_yaml(text, _TextBuilder(), _LIMITS)
    except YamlWalkError as error:
        raise _yaml_error(error) from None
    return roots[0] if roots else None


_LIMITS = YamlLimits(MAX_DEPTH, MAX_NODES, aliases=MAX_ALIASES, documents=1)
_SPLIT_REMEDY = "Split it over several SecretProviderClasses."
_SYNTAX_REMEDY = "Fix the YAML on this line; check indentation and quotes."


def _yaml_error(error: YamlWalkError) -> YamlError:
    detail = error.detail or "it contains a control character"
    problem, remedy = {
        YamlFault.SYNTAX: (f"not YAML: {detail}", _SYNTAX_REMEDY),
        YamlFault.DEPTH: (f"nested deeper than {MAX_DEPTH} levels", "Flatten it."),
        YamlFault.NODES: (f"more than {MAX_NODES} values, aliases expanded", _SPLIT_REMEDY),
        YamlFault.ALIASES: (f"more than {MAX_ALIASES} aliases", "Write them out."),
        YamlFault.ANCHOR: (
            "an alias has no anchor before it, or is within its own anchor",
            "Write out the value that it stands for.",
        ),
        YamlFault.DOCUMENTS: ("a second document begins", "Keep one document."),
    }[error.fault]
    return YamlError(problem, remedy, line=error.line or 1)


class _TextBuilder:
    """Builds YamlNode values."""

    def scalar(self, event: yaml.ScalarEvent, line: int) -> YamlNode:
        if event.tag not in _STRING_TAGS:
            raise YamlError("a tag other than !!str is not allowed", "Remove it.", line=line)
        style = _STYLES.get(event.style or "", ScalarStyle.PLAIN)
        is_null = style is ScalarStyle.PLAIN and event.tag is None and event.value in _NULLS
        return YamlScalar("" if is_null else event.value, style, line)

    def start(self, event: yaml.CollectionStartEvent, line: int) -> None:
        if event.tag not in (None, "!", f"tag:yaml.org,2002:{_collection_kind(event)}"):
            raise YamlError("a tag is not allowed here", "Remove it.", line=line)

    def collection(
        self, event: yaml.CollectionStartEvent, line: int, children: list[YamlNode]
    ) -> YamlNode:
        if _collection_kind(event) == "seq":
            return YamlList(tuple(children), line)
        entries: dict[str, YamlNode] = {}
        for key, value in zip(children[::2], children[1::2], strict=True):
            _check_key(key, entries)
            assert isinstance(key, YamlScalar)
            entries[key.text] = value
        return YamlMap(entries, line)


def _collection_kind(event: yaml.CollectionStartEvent) -> str:
    return "map" if isinstance(event, yaml.MappingStartEvent) else "seq"


def _check_key(key: YamlNode, entries: Mapping[str, YamlNode]) -> None:
    if not isinstance(key, YamlScalar):
        raise YamlError("a key is a list or a mapping", "Use a text as key.", line=key.line)
    if key.text == "<<" and key.style is ScalarStyle.PLAIN:
        raise YamlError("merge keys (<<) are not supported", "Write them out.", line=key.line)
    if key.text in entries:
        problem = f"the key {key.text[:100]!r} occurs twice in one mapping"
        raise YamlError(problem, "Remove one of the two.", line=key.line)
