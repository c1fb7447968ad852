"""Reads Kubernetes YAML as plain values, within limits, and writes it. [pure]

Scalars have the types that kubectl gives them: `on` and `y` are booleans, dates and clock times
are texts. One difference: a key that occurs twice is an error, where kubectl uses the last one.

The values are built here instead of by PyYAML, whose constructors raise arbitrary exceptions for
odd scalars.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, cast

import yaml
from msgspec import Struct

from keyferry.formats.go_values import YAML_NULLS, yaml_number
from keyferry.formats.yaml_events import (
    YamlFault,
    YamlLimits,
    YamlWalkError,
    syntax_hint,
    walk_yaml,
)

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


class UnsupportedScalar(Struct, frozen=True):
    """A scalar that no supported field can contain.

    Attributes:
        kind: with its article, for messages: `a number`.
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
        remedy: what to change.
    """

    def __init__(self, problem: str, line: int | None = None, *, remedy: str) -> None:
        super().__init__(problem, line)
        self.problem = problem
        self.line = line
        self.remedy = remedy

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

    def text_of(self, path: FieldPath) -> str:
        """Return the scalar at `path` as it is written; "" if it has none."""
        node: yaml.Node | None = self._root
        for step in path:
            child = _child(node, step) if node is not None else None
            node = child[1] if child else None
        return str(node.value) if isinstance(node, yaml.ScalarNode) else ""

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
        raise KubernetesYamlError(f"is larger than {max_bytes} bytes", remedy=_SPLIT_REMEDY)
    try:
        roots = walk_yaml(text, _NodeBuilder(), YamlLimits(MAX_DEPTH, MAX_NODES))
        return [Document(_build_value(root), root) for root in roots]
    except YamlWalkError as error:
        raise _yaml_error(error, text) from None
    except KubernetesYamlError as error:
        remedy = _template_remedy(text) or error.remedy
        raise KubernetesYamlError(error.problem, error.line, remedy=remedy) from None


_SPLIT_REMEDY = "Split it over several files."


def _template_remedy(text: bytes) -> str:
    """Return what to do with text that a program should have rendered first; "" for other text."""
    for number, line in enumerate(text.splitlines(), start=1):
        if b"{{" in line.partition(b"#")[0]:
            return (
                f"Line {number} contains '{{{{': render the template first, "
                "for example with 'helm template'."
            )
    return ""


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
        if tag is None:
            kind = "str" if event.style else _plain_kind(event.value)
            tag = f"{_TAG_PREFIX}{kind}"
        return yaml.ScalarNode(tag, event.value, cast("yaml.Mark", event.start_mark))

    def start(self, event: yaml.CollectionStartEvent, line: int) -> None:
        del event, line

    def collection(
        self, event: yaml.CollectionStartEvent, line: int, children: list[yaml.Node]
    ) -> yaml.Node:
        del line
        # A tag of a list or mapping has no effect, as in kubectl.
        mark = cast("yaml.Mark", event.start_mark)
        if isinstance(event, yaml.MappingStartEvent):
            pairs = list(zip(children[::2], children[1::2], strict=True))
            return yaml.MappingNode(f"{_TAG_PREFIX}map", pairs, mark)
        return yaml.SequenceNode(f"{_TAG_PREFIX}seq", children, mark)


def _yaml_error(error: YamlWalkError, text: bytes) -> KubernetesYamlError:
    detail = error.detail or "it contains bytes that are not text"
    problem, remedy = {
        YamlFault.SYNTAX: (
            f"is not YAML: {detail}",
            syntax_hint(text.decode(errors="replace"), error.line)
            or ("Check indentation and quotes." if error.detail else "Write it in UTF-8."),
        ),
        YamlFault.DEPTH: (f"is nested deeper than {MAX_DEPTH} levels", "Flatten it."),
        YamlFault.NODES: (f"has more than {MAX_NODES} values, aliases expanded", _SPLIT_REMEDY),
        YamlFault.ANCHOR: (
            "has an alias to an anchor that is not complete before it",
            "Define the anchor with '&' before it, or put a value that begins with '*' in quotes.",
        ),
    }[error.fault]
    return KubernetesYamlError(problem, error.line, remedy=_template_remedy(text) or remedy)


# --- values ---------------------------------------------------------------------------------------


_NULLS = dict.fromkeys(YAML_NULLS)
_BOOLEANS = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "off", "Off", "OFF"), False),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def _plain_kind(text: str) -> str:
    """Return the kind of a plain scalar, by the rules of yaml.v2, which kubectl uses."""
    if text in YAML_NULLS:
        return "null"
    if text in _BOOLEANS:
        return "bool"
    if text == "<<":
        return "merge"
    return "str" if yaml_number(text) is None else "number"


def _build_value(node: yaml.Node) -> Value:
    match node:
        case yaml.ScalarNode():
            return _build_scalar(node)
        case yaml.SequenceNode():
            return [_build_value(item) for item in node.value]
        case yaml.MappingNode():
            return _build_mapping(node)
        case _:
            raise AssertionError(node)


def _build_scalar(node: yaml.ScalarNode) -> Value:
    text = str(node.value)
    kind = node.tag.removeprefix(_TAG_PREFIX)
    match kind:
        case "null" | "bool":
            misfit = UnsupportedScalar("a value that does not fit its tag")
            values: Mapping[str, Value] = _NULLS if kind == "null" else _BOOLEANS
            return values.get(text, misfit)
        case "number" | "int" | "float":
            is_simple = kind != "float" and _DECIMAL.fullmatch(text)
            return int(text) if is_simple else UnsupportedScalar("a number")
        case "binary":
            return _decode_binary(text)
        case _:
            return text


def _decode_binary(text: str) -> Value:
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode()
    except (binascii.Error, ValueError):
        return UnsupportedScalar("a value that does not fit its tag")


def _build_mapping(node: yaml.MappingNode) -> dict[str, Value]:
    merged: dict[str, Value] = {}
    own: dict[str, Value] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise KubernetesYamlError(
                "has a key that is itself a list or a mapping",
                line,
                remedy="Put a value that begins with '{' or '[' in quotes.",
            )
        key = key_node.value
        if key_node.tag == f"{_TAG_PREFIX}merge":
            for source in _merge_sources(value_node, line):
                merged = _build_mapping(source) | merged
        elif key in own:
            raise KubernetesYamlError(
                f"has the key {key[:60]!r} twice in one mapping", line, remedy="Remove one of them."
            )
        else:
            own[key] = _build_value(value_node)
    return merged | own


def _merge_sources(node: yaml.Node, line: int) -> list[yaml.MappingNode]:
    nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
    sources = [source for source in nodes if isinstance(source, yaml.MappingNode)]
    if len(sources) < len(nodes):
        raise KubernetesYamlError(
            "merges ('<<') something that is not a mapping",
            line,
            remedy="Merge a mapping, or write out its fields.",
        )
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
