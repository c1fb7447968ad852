"""Walks the events of a YAML text within limits and hands complete nodes to a builder. [pure]

The text may be hostile. Depth, number of nodes and aliases are checked while reading, with every
alias at the size of what it stands for, so neither an alias bomb nor deep nesting costs memory or
stack. The two builders are `yaml_text`, which keeps every scalar as text, and `kubernetes_yaml`.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import yaml
from msgspec import Struct, field

if TYPE_CHECKING:
    from collections.abc import Iterator

N = TypeVar("N")


class YamlFault(Enum):
    """Why a text is refused."""

    SYNTAX = "syntax"
    DEPTH = "depth"
    NODES = "nodes"
    ANCHOR = "anchor"
    """An alias has no complete anchor before it."""


class YamlWalkError(Exception):
    """The text is not YAML, or exceeds a limit.

    Attributes:
        fault: which rule it breaks.
        detail: what the parser says about a syntax error; "" if it names no place.
        line: where, counted from 1; None if unknown.
    """

    def __init__(self, fault: YamlFault, line: int | None, detail: str = "") -> None:
        super().__init__(fault, line, detail)
        self.fault = fault
        self.line = line
        self.detail = detail


class YamlLimits(Struct, frozen=True):
    """How large a text may be.

    Attributes:
        depth: levels of lists and mappings, the scalar in the innermost included.
        nodes: scalars, lists and mappings, aliases expanded.
        first_document: whether to stop at the end of the first document, as Go's yaml.v3 does.
    """

    depth: int
    nodes: int
    first_document: bool = False


class NodeBuilder(Protocol[N]):
    """Makes nodes of type N; may raise errors of its own."""

    def scalar(self, event: yaml.ScalarEvent, line: int) -> N:
        """Return the node of a scalar on `line`."""

    def start(self, event: yaml.CollectionStartEvent, line: int) -> None:
        """Check the start of a list or mapping on `line`."""

    def collection(self, event: yaml.CollectionStartEvent, line: int, children: list[N]) -> N:
        """Return the node of a list, or of a mapping whose keys and values alternate."""


def walk_yaml(text: str | bytes, builder: NodeBuilder[N], limits: YamlLimits) -> list[N]:
    """Return the root node of each document in `text` that is not empty.

    Raises:
        YamlWalkError: the text is not YAML, or exceeds a limit.
    """
    walker = _Walker(builder, limits)
    for event in _events(text):
        walker.handle(event)
        if limits.first_document and isinstance(event, yaml.DocumentEndEvent):
            break
    return walker.roots


def line_of(event: yaml.Event) -> int:
    """Return the line of an event, counted from 1."""
    return event.start_mark.line + 1 if event.start_mark else 1


_NO_BLANK_AFTER_COLON = re.compile(r"\s*(- )?[A-Za-z][\w.-]*:(?!//)[^\s\"']")
_NO_BLANK_BEFORE_COMMENT = re.compile(r"[^#]*[^\s#]#.*: ")


_RESERVED_START = re.compile(r"\s*(?:- )?[\w.-]+:\s+([@`%])")
_SECOND_COLON = re.compile(r"\s*(- )?[\w.-]+:\s+[^\s\"'|>#{\[&*!][^#]*:(\s|$)")
_OPEN_QUOTE = re.compile(r"\s*(- )?[\w.-]+:\s+\"[^\"]*")
_FIELD = re.compile(r"\s*(- )?[\w.-]+:(\s|$)")
_ODD_BLANK = re.compile(r"[\u00a0\u1680\u2000-\u200f\u2028\u2029\u202f\u205f\u2060\u3000\ufeff]")
_BLOCK_START = re.compile(r"\s*- [|>][-+0-9]*\s*")


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def syntax_hint(text: str, line: int | None) -> str:
    """Return what to do about a frequent mistake on or above a line that is not YAML; "" if none.

    Args:
        text: the whole text.
        line: the line of the error, from 1.
    """
    lines = text.splitlines()[max((line or 1) - 2, 0) : line or 1]
    return next(_hints(text, lines, line or 1), "")


def _hints(text: str, lines: list[str], number: int) -> Iterator[str]:
    """Yield what may help, the most certain first.

    Args:
        text: the whole text.
        lines: the line of the error and the one above.
        number: the number of the line of the error, from 1.
    """
    if "{{" in text:
        yield "Render the template first, for example with 'helm template'."
    if any("\t" in line[: len(line) - len(line.lstrip())] for line in lines):
        yield "Indent with spaces instead of tabs."
    if found := _ODD_BLANK.search("".join(lines)):
        yield f"Replace the character U+{ord(found[0]):04X} by an ordinary blank, or remove it."
    if (
        len(lines) > 1
        and _BLOCK_START.fullmatch(lines[0])
        and _indent(lines[1]) <= _indent(lines[0])
    ):
        yield "Indent the lines below '- |' by more blanks than the '-'."
    yield from _line_hints(lines)
    if opened := _unclosed_quote(text):
        yield f"Close the quote that begins on line {opened}."
    if len(lines) > 1 and all(map(_FIELD.match, lines)):
        yield f"Align lines {number - 1} and {number}: the fields of a mapping begin in one column."


def _line_hints(lines: list[str]) -> Iterator[str]:
    if any(map(_NO_BLANK_AFTER_COLON.match, lines)):
        yield "Write a blank after ':'."
    if any(map(_NO_BLANK_BEFORE_COMMENT.match, lines)):
        yield "Write a blank before '#', which otherwise begins no comment."
    if start := next(filter(None, map(_RESERVED_START.match, lines)), None):
        yield f"Put the value in quotes: a plain value may not begin with '{start[1]}'."
    if any(map(_SECOND_COLON.match, lines)):
        yield "Put a value that contains ': ' in quotes."


def _unclosed_quote(text: str) -> int | None:
    """Return the last line with a value whose double quote is not closed, from 1."""
    numbered = enumerate(text.splitlines(), start=1)
    return max((n for n, line in numbered if _OPEN_QUOTE.fullmatch(line)), default=None)


def _events(text: str | bytes) -> Iterator[yaml.Event]:
    try:
        yield from yaml.parse(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        detail = error.problem or error.context or ""
        if mark and _is_indented_with_tab(text, mark.line):
            detail = "tabs are not allowed for indentation; use spaces"
        fault = YamlFault.DEPTH if _is_depth_problem(detail) else YamlFault.SYNTAX
        raise YamlWalkError(fault, mark.line + 1 if mark else None, detail) from None
    except RecursionError:
        raise YamlWalkError(YamlFault.DEPTH, None) from None
    except (yaml.YAMLError, UnicodeError):
        # A forbidden character. The parser's message would quote the text around it.
        raise YamlWalkError(YamlFault.SYNTAX, None) from None


def _is_indented_with_tab(text: str | bytes, line: int) -> bool:
    """Return whether line number `line`, from 0, begins with a tab or with spaces and a tab."""
    lines = (text if isinstance(text, str) else text.decode(errors="replace")).splitlines()
    found = lines[line] if line < len(lines) else ""
    return "\t" in found[: len(found) - len(found.lstrip())]


def _is_depth_problem(detail: str) -> bool:
    """Whether the library met a depth limit of its own; PyYAML has one since version 6.0.4.

    It may meet the limit before the first event of a long line.
    """
    return any(word in detail.casefold() for word in ("nest", "depth", "recurs"))


class _CompleteNode(Struct, Generic[N]):
    """A node with the number of its nodes and its height, aliases expanded."""

    node: N
    nodes: int
    height: int


class _OpenNode(Struct, Generic[N]):
    """A list or mapping whose end was not read yet; a scalar in it makes its height 2."""

    event: yaml.CollectionStartEvent
    line: int
    children: list[N] = field(default_factory=list)
    nodes: int = 1
    height: int = 1


class _Walker(Generic[N]):
    def __init__(self, builder: NodeBuilder[N], limits: YamlLimits) -> None:
        self.roots: list[N] = []
        self._builder = builder
        self._limits = limits
        self._open: list[_OpenNode[N]] = []
        self._anchors: dict[str, _CompleteNode[N]] = {}
        self._nodes = 0

    def handle(self, event: yaml.Event) -> None:
        # The most frequent first.
        line = line_of(event)
        match event:
            case yaml.ScalarEvent():
                self._nodes += 1
                self._add(
                    _CompleteNode(self._builder.scalar(event, line), 1, 1), event.anchor, line
                )
            case yaml.CollectionStartEvent():
                self._builder.start(event, line)
                self._open.append(_OpenNode(event, line))
                self._nodes += 1
                self._check_depth(0, line)
            case yaml.CollectionEndEvent():
                done = self._open.pop()
                node = self._builder.collection(done.event, done.line, done.children)
                complete = _CompleteNode(node, done.nodes, done.height)
                self._add(complete, done.event.anchor, done.line)
            case yaml.AliasEvent():
                self._add_alias(event.anchor, line)
            case yaml.DocumentStartEvent():
                self._anchors = {}
            case _:
                pass

    def _add_alias(self, anchor: str | None, line: int) -> None:
        if anchor is None or anchor not in self._anchors:
            raise YamlWalkError(YamlFault.ANCHOR, line)
        complete = self._anchors[anchor]
        self._nodes += complete.nodes
        self._add(complete, None, line)

    def _add(self, complete: _CompleteNode[N], anchor: str | None, line: int) -> None:
        """Put a complete node into the innermost open one, or make it a root."""
        self._check_depth(complete.height, line)
        if self._nodes > self._limits.nodes:
            raise YamlWalkError(YamlFault.NODES, line)
        if anchor is not None:
            self._anchors[anchor] = complete
        if not self._open:
            self.roots.append(complete.node)
            return
        parent = self._open[-1]
        parent.nodes += complete.nodes
        parent.height = max(parent.height, complete.height + 1)
        parent.children.append(complete.node)

    def _check_depth(self, height: int, line: int) -> None:
        if len(self._open) + height > self._limits.depth:
            raise YamlWalkError(YamlFault.DEPTH, line)
