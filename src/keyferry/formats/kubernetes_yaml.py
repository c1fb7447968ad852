"""Kubernetes YAML as plain values, within limits, and back. [pure]

The text is hostile: before anything is built, its events are counted, with every alias at the size
of what it stands for, so that neither an alias bomb nor deep nesting costs memory or the stack. The
values are built here rather than by PyYAML, whose constructors raise what they like on an odd
scalar and keep the last of two equal keys in silence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_DEPTH = 32
MAX_NODES = 100_000
"""Of one text, aliases expanded."""

_TAG_PREFIX = "tag:yaml.org,2002:"
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_PLAIN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9./-]*")
_AMBIGUOUS_WORDS = frozenset({"y", "yes", "n", "no", "true", "false", "on", "off", "null"})
"""Texts that some YAML readers, kubectl's among them, do not take for text."""


@dataclass(frozen=True, slots=True)
class UnsupportedScalar:
    """A scalar that no field of ours can hold.

    Attributes:
        kind: with its article, for messages: `a number`, `a timestamp`.
    """

    kind: str


Value: TypeAlias = "bool | int | str | UnsupportedScalar | list[Value] | dict[str, Value] | None"
FieldPath: TypeAlias = tuple[str | int, ...]
"""The way from the root of a document to a value: keys of mappings and positions in lists."""


class KubernetesYamlError(Exception):
    """The text is not YAML, or beyond the limits.

    Attributes:
        problem: what is wrong, without a value of the text.
        line: where, from 1; None when it concerns the whole text.
    """

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem, line)
        self.problem = problem
        self.line = line

    def __str__(self) -> str:
        """Place and problem, to follow the name of the file."""
        return f"line {self.line} {self.problem}" if self.line else self.problem


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a text.

    Attributes:
        value: what it says.
    """

    value: Value
    _root: yaml.Node = field(repr=False, compare=False)

    def line_of(self, path: FieldPath) -> int:
        """The line, from 1, of the value at `path`, or of the last thing on the way to it."""
        node = self._root
        line = node.start_mark.line
        for step in path:
            found = _child(node, step)
            if found is None:
                break
            line, node = found
        return line + 1


def parse_documents(text: bytes, *, max_bytes: int) -> list[Document]:
    """All documents of `text` that say anything.

    Raises:
        YamlTextError: it is not YAML, a mapping repeats a key, or it is beyond the limits.
    """
    if len(text) > max_bytes:
        raise KubernetesYamlError(f"is larger than {max_bytes} bytes")
    try:
        _check_events(text)
        roots = list(yaml.compose_all(text, Loader=yaml.CSafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise KubernetesYamlError(
            f"is not YAML: {error.problem or error.context}", mark.line + 1 if mark else None
        ) from None
    except (yaml.YAMLError, UnicodeError):
        raise KubernetesYamlError("is not YAML: it holds bytes that are no text") from None
    return [Document(_build_value(root), root) for root in roots]


def dump_document(value: Mapping[str, object]) -> bytes:
    """`value` as one YAML document; what some reader could take for no text is quoted."""
    return yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**20, encoding="utf-8"
    )


@dataclass(slots=True)
class _NodeSize:
    """How large a node is, aliases expanded."""

    anchor: str | None = None
    nodes: int = 1
    height: int = 1

    def add(self, child: _NodeSize) -> None:
        self.nodes += child.nodes
        self.height = max(self.height, child.height + 1)


def _check_events(text: bytes) -> None:
    """Raise on a text that is beyond the limits; costs no more than the text is long."""
    anchors: dict[str, _NodeSize] = {}
    whole = _NodeSize(height=0)
    stack = [whole]
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        match event:
            case yaml.DocumentStartEvent():
                anchors = {}
                continue
            case yaml.CollectionStartEvent():
                stack.append(_NodeSize(event.anchor))
                _check_limits(stack, line)
                continue
            case yaml.CollectionEndEvent():
                done = stack.pop()
            case yaml.ScalarEvent():
                done = _NodeSize(event.anchor)
            case yaml.AliasEvent():
                if event.anchor not in anchors:
                    problem = "has an alias to an anchor that does not stand whole before it"
                    raise KubernetesYamlError(problem, line)
                done = anchors[event.anchor]
            case _:
                continue
        if done.anchor:
            anchors[done.anchor] = done
        stack[-1].add(done)
        _check_limits(stack, line)


def _check_limits(stack: list[_NodeSize], line: int) -> None:
    # The sum over the stack is taken over at most MAX_DEPTH entries.
    if len(stack) - 1 + stack[-1].height > MAX_DEPTH + 1:
        raise KubernetesYamlError(f"is nested deeper than {MAX_DEPTH} levels", line)
    if sum(extent.nodes for extent in stack) > MAX_NODES:
        raise KubernetesYamlError(f"has more than {MAX_NODES} values, aliases expanded", line)


# --- values ---------------------------------------------------------------------------------------


def _build_value(node: yaml.Node) -> Value:
    kind = node.tag.removeprefix(_TAG_PREFIX)
    match node:
        case yaml.ScalarNode():
            return _build_scalar(kind, node.value)
        case yaml.SequenceNode() if kind == "seq":
            return [_build_value(item) for item in node.value]
        case yaml.MappingNode() if kind == "map":
            return _build_mapping(node)
        case _:
            return UnsupportedScalar("a value with a tag")


_KIND_NAMES = {"int": "a number", "float": "a number", "timestamp": "a timestamp"}


def _build_scalar(kind: str, text: str) -> Value:
    match kind:
        case "str":
            return text
        case "null":
            return None
        case "bool":
            return text.lower() in {"true", "yes", "on"}
        case "int" if _DECIMAL.fullmatch(text):
            return int(text)
        case _:
            return UnsupportedScalar(_KIND_NAMES.get(kind, "a value with a tag"))


def _build_mapping(node: yaml.MappingNode) -> dict[str, Value]:
    merged: dict[str, Value] = {}
    own: dict[str, Value] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise KubernetesYamlError("has a key that is itself a list or a mapping", line)
        if key_node.tag == f"{_TAG_PREFIX}merge":
            for source in _merge_sources(value_node, line):
                merged = _build_mapping(source) | merged
        elif key_node.value in own:
            raise KubernetesYamlError(
                f"has the key {key_node.value[:60]!r} twice in one mapping", line
            )
        else:
            own[key_node.value] = _build_value(value_node)
    return merged | own


def _merge_sources(node: yaml.Node, line: int) -> list[yaml.MappingNode]:
    nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
    sources = [source for source in nodes if isinstance(source, yaml.MappingNode)]
    if len(sources) < len(nodes):
        raise KubernetesYamlError("merges ('<<') something that is not a mapping", line)
    return sources


def _child(node: yaml.Node, step: str | int) -> tuple[int, yaml.Node] | None:
    """The line and the node one step below `node`; None when it has no such child."""
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step].start_mark.line, node.value[step]
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.value == step:
                return key_node.start_mark.line, value_node
    return None


# --- text -----------------------------------------------------------------------------------------


class _Dumper(yaml.CSafeDumper):
    """Writes every repeated value out, and quotes every text that is not plainly one."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_text(dumper: yaml.CSafeDumper, text: str) -> yaml.ScalarNode:
    plain = _PLAIN_TEXT.fullmatch(text) and text.lower() not in _AMBIGUOUS_WORDS
    return dumper.represent_scalar(f"{_TAG_PREFIX}str", text, style=None if plain else '"')


_Dumper.add_representer(str, _represent_text)
