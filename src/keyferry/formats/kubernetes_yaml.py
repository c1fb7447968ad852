"""Reads Kubernetes YAML as plain values, within limits, and writes it. [pure]

The values are built here instead of by PyYAML, whose constructors raise arbitrary exceptions for
odd scalars and silently keep the last of two equal keys.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, cast

import yaml

from keyferry.formats.yaml_events import YamlFault, YamlLimits, YamlWalkError, walk_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_DEPTH = 32
MAX_NODES = 100_000
"""Of one text, aliases expanded."""

_TAG_PREFIX = "tag:yaml.org,2002:"
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_PLAIN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9./-]*")
_AMBIGUOUS_WORDS = frozenset({"y", "yes", "n", "no", "true", "false", "on", "off", "null"})
"""Words that some YAML parsers, such as that of kubectl, do not read as text."""


@dataclass(frozen=True, slots=True)
class UnsupportedScalar:
    """A scalar that no supported field can contain.

    Attributes:
        kind: with its article, for messages: `a number`, `a timestamp`.
    """

    kind: str


Value: TypeAlias = "bool | int | str | UnsupportedScalar | list[Value] | dict[str, Value] | None"
FieldPath: TypeAlias = tuple[str | int, ...]
"""Path from the root of a document to a value: keys of mappings and positions in lists."""


class KubernetesYamlError(Exception):
    """The text is not YAML, or exceeds a limit.

    Attributes:
        problem: what is wrong, without a value of the text.
        line: counted from 1; None if the whole text is meant.
    """

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem, line)
        self.problem = problem
        self.line = line

    def __str__(self) -> str:
        """Return line and problem, to follow the name of the file."""
        return f"line {self.line} {self.problem}" if self.line else self.problem


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a text.

    Attributes:
        value: its parsed content.
    """

    value: Value
    _root: yaml.Node = field(repr=False, compare=False)

    def line_of(self, path: FieldPath) -> int:
        """Return the line, from 1, of the value at `path`, or of its last existing parent."""
        node = self._root
        line = node.start_mark.line
        for step in path:
            child = _child(node, step)
            if child is None:
                break
            line, node = child
        return line + 1


def parse_documents(text: bytes, *, max_bytes: int) -> list[Document]:
    """Return all documents of `text` that are not empty.

    Raises:
        KubernetesYamlError: it is not YAML, a mapping repeats a key, or it exceeds a limit.
    """
    if len(text) > max_bytes:
        raise KubernetesYamlError(f"is larger than {max_bytes} bytes")
    try:
        roots = walk_yaml(text, _NodeBuilder(), YamlLimits(MAX_DEPTH, MAX_NODES))
    except YamlWalkError as error:
        raise _yaml_error(error) from None
    return [Document(_build_value(root), root) for root in roots]


def dump_document(value: Mapping[str, object] | Sequence[object]) -> bytes:
    """Return `value` as one YAML document; ambiguous texts are quoted."""
    return yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**20, encoding="utf-8"
    )


class _NodeBuilder:
    """Builds the nodes of PyYAML, with resolved tags, as its composer does."""

    def scalar(self, event: yaml.ScalarEvent, line: int) -> yaml.Node:
        del line
        tag = event.tag
        if tag is None or tag == "!":
            tag = _RESOLVER.resolve(yaml.ScalarNode, event.value, event.implicit)  # type: ignore[no-untyped-call]
        return yaml.ScalarNode(tag, event.value, cast("yaml.Mark", event.start_mark))

    def start(self, event: yaml.CollectionStartEvent, line: int) -> None:
        del event, line

    def collection(
        self, event: yaml.CollectionStartEvent, line: int, children: list[yaml.Node]
    ) -> yaml.Node:
        del line
        tag = None if event.tag == "!" else event.tag
        mark = cast("yaml.Mark", event.start_mark)
        if isinstance(event, yaml.MappingStartEvent):
            pairs = list(zip(children[::2], children[1::2], strict=True))
            return yaml.MappingNode(tag or f"{_TAG_PREFIX}map", pairs, mark)
        return yaml.SequenceNode(tag or f"{_TAG_PREFIX}seq", children, mark)


_RESOLVER = yaml.resolver.Resolver()


def _yaml_error(error: YamlWalkError) -> KubernetesYamlError:
    detail = error.detail or "it contains bytes that are not text"
    problem = {
        YamlFault.SYNTAX: f"is not YAML: {detail}",
        YamlFault.DEPTH: f"is nested deeper than {MAX_DEPTH} levels",
        YamlFault.NODES: f"has more than {MAX_NODES} values, aliases expanded",
        YamlFault.ANCHOR: "has an alias to an anchor that is not complete before it",
    }[error.fault]
    return KubernetesYamlError(problem, error.line)


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
    """Return line and node one step below `node`, or None."""
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step].start_mark.line, node.value[step]
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.value == step:
                return key_node.start_mark.line, value_node
    return None


# --- text -----------------------------------------------------------------------------------------


class _Dumper(yaml.CSafeDumper):
    """Uses no aliases, and quotes every text that a parser could read as something else."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_text(dumper: yaml.CSafeDumper, text: str) -> yaml.ScalarNode:
    plain = _PLAIN_TEXT.fullmatch(text) and text.lower() not in _AMBIGUOUS_WORDS
    return dumper.represent_scalar(f"{_TAG_PREFIX}str", text, style=None if plain else '"')


_Dumper.add_representer(str, _represent_text)
