"""YAML read as it is written: every scalar stays text, and nothing hostile gets far. [pure]

A class is YAML text in YAML text, and its formats take scalars literally: `filePermission: 0755`
means the text `0755`, not the number 493. So this reader builds texts, lists and mappings from
the events of the parser, without recursion and without resolving any scalar. Size, depth, number
of nodes and the expansion of aliases are bounded while reading, so that no document can cost more
than its limits; a repeated key is an error, because one of its two values would be lost.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

import yaml

from keyferry.errors import ClassInvalidError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_NODES = 10_000
"""Scalars, lists and mappings together, with every alias counted as all that it stands for."""
MAX_ALIASES = 100

_STRING_TAGS = frozenset({None, "!", "tag:yaml.org,2002:str"})
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})


class YamlError(ClassInvalidError):
    """The text is not YAML, or more than the limits allow.

    Attributes:
        detail: what is wrong, without the line.
        line: where, counted from 1.
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
    """A text; what YAML calls null is the empty text.

    Attributes:
        text: as written, after quotes, escapes and indentation.
        style: how it is written.
        line: where it begins, counted from 1; of a literal scalar the line of its `|`.
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
    """The one document in `text`; None when there is none.

    Raises:
        YamlError: not YAML, a repeated key, a limit exceeded, a second document, a tag other than
            `!!str`, a merge key, a key that is no text, an alias within its own anchor.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise YamlError("the text is not valid Unicode", "Write it in UTF-8.") from None
    if size > MAX_BYTES:
        raise YamlError(f"the text has {size} bytes, and the limit is {MAX_BYTES}", _SPLIT_REMEDY)
    builder = _Builder()
    for event in _events(text):
        builder.handle(event)
    return builder.root


_SPLIT_REMEDY = "Split it over several classes."


def _events(text: str) -> Iterator[yaml.Event]:
    try:
        yield from yaml.parse(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise YamlError(
            f"not YAML: {error.problem or error.context}", _SYNTAX_REMEDY, line=line
        ) from None
    except yaml.YAMLError:
        # A character that YAML forbids; the parser's own text would quote what stands around it.
        raise YamlError("not YAML: it holds a control character", _SYNTAX_REMEDY) from None


_SYNTAX_REMEDY = "Mend the YAML; mind its indentation and quotes."


@dataclass(slots=True)
class _OpenNode:
    """A list or mapping whose end has not come yet.

    Attributes:
        mapping: whether it is a mapping.
        anchor: its name for aliases.
        line: where it begins.
        items: what it holds so far, the values of a mapping included.
        keys: the keys of a mapping so far; one more than items while a value is due.
        nodes: how many nodes it holds, itself included, aliases expanded.
        height: the depth of the deepest node in it, itself being 1.
    """

    mapping: bool
    anchor: str | None
    line: int
    items: list[YamlNode] = field(default_factory=list)
    keys: dict[str, None] = field(default_factory=dict)
    nodes: int = 1
    height: int = 1

    def finish(self) -> YamlNode:
        """The node, once its end has come."""
        if self.mapping:
            return YamlMap(dict(zip(self.keys, self.items, strict=True)), self.line)
        return YamlList(tuple(self.items), self.line)


@dataclass(slots=True)
class _CompleteNode:
    """A whole node with what the limits need to know of it."""

    node: YamlNode
    nodes: int
    height: int


class _Builder:
    """Takes the events of one document in order; `root` is what they build."""

    def __init__(self) -> None:
        self.root: YamlNode | None = None
        self._open: list[_OpenNode] = []
        self._anchors: dict[str, _CompleteNode] = {}
        self._documents = 0
        self._aliases = 0
        self._nodes = 0

    def handle(self, event: yaml.Event) -> None:
        # The most frequent first: a class has a few hundred of them.
        match event:
            case yaml.ScalarEvent():
                line = _line(event)
                style = _STYLES.get(event.style or "", ScalarStyle.PLAIN)
                scalar = YamlScalar(_text(event, style, line), style, line)
                self._nodes += 1
                self._add(_CompleteNode(scalar, 1, 1), event.anchor, line)
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                self._begin(event, _line(event))
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                done = self._open.pop()
                built = _CompleteNode(done.finish(), done.nodes, done.height)
                self._add(built, done.anchor, done.line)
            case yaml.AliasEvent():
                self._add_alias(event.anchor, _line(event))
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    problem = "a second document begins"
                    raise YamlError(problem, "Keep one document.", line=_line(event))
            case _:
                pass

    def _begin(self, event: yaml.SequenceStartEvent | yaml.MappingStartEvent, line: int) -> None:
        mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", f"tag:yaml.org,2002:{'map' if mapping else 'seq'}"):
            raise YamlError("a tag is not allowed here", "Remove it.", line=line)
        self._open.append(_OpenNode(mapping, event.anchor, line))
        self._nodes += 1
        self._check_depth(0, line)

    def _add_alias(self, anchor: str | None, line: int) -> None:
        self._aliases += 1
        if self._aliases > MAX_ALIASES:
            raise YamlError(f"more than {MAX_ALIASES} aliases", "Write them out.", line=line)
        if anchor is None or anchor not in self._anchors:
            problem = "an alias has no anchor before it, or stands within its own"
            raise YamlError(problem, "Write out what it stands for.", line=line)
        built = self._anchors[anchor]
        self._nodes += built.nodes
        self._add(built, None, line)

    def _add(self, built: _CompleteNode, anchor: str | None, line: int) -> None:
        """Put a whole node into what is open, or make it the root."""
        self._check_depth(built.height, line)
        if anchor is not None:
            self._anchors[anchor] = built
        if not self._open:
            self.root = built.node
            return
        parent = self._open[-1]
        parent.nodes += built.nodes
        parent.height = max(parent.height, built.height + 1)
        if self._nodes > MAX_NODES:
            raise YamlError(
                f"more than {MAX_NODES} values, aliases expanded", _SPLIT_REMEDY, line=line
            )
        if parent.mapping and len(parent.keys) == len(parent.items):
            self._add_key(parent, built.node, line)
        else:
            parent.items.append(built.node)

    def _add_key(self, parent: _OpenNode, node: YamlNode, line: int) -> None:
        if not isinstance(node, YamlScalar):
            raise YamlError("a key is a list or a mapping", "Use a text as key.", line=line)
        if node.text == "<<" and node.style is ScalarStyle.PLAIN:
            raise YamlError("merge keys (<<) are not supported", "Write them out.", line=line)
        if node.text in parent.keys:
            problem = f"the key {node.text[:100]!r} stands twice in one mapping"
            raise YamlError(problem, "Remove one of the two.", line=line)
        parent.keys[node.text] = None

    def _check_depth(self, height: int, line: int) -> None:
        if len(self._open) + height > MAX_DEPTH:
            raise YamlError(f"nested deeper than {MAX_DEPTH} levels", "Flatten it.", line=line)


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _text(event: yaml.ScalarEvent, style: ScalarStyle, line: int) -> str:
    if event.tag not in _STRING_TAGS:
        raise YamlError("a tag other than !!str is not allowed", "Remove it.", line=line)
    is_null = style is ScalarStyle.PLAIN and event.tag is None and event.value in _NULLS
    return "" if is_null else event.value
