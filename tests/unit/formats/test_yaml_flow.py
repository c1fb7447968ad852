"""YAML nodes written as one line."""

from __future__ import annotations

import pytest

from keyferry.formats.go_values import yaml_boolean, yaml_number, yaml_timestamp
from keyferry.formats.yaml_text import (
    ScalarStyle,
    YamlList,
    YamlMap,
    YamlNode,
    YamlScalar,
    read_yaml,
    write_flow,
)

TEXTS = [
    "a: 1",
    "- plain\n- 'quoted'\n- \"a\\nb\"",
    "a: {b: [1, 0755, 1e3, true, 2020-01-01T00:00:00Z]}",
    "a: ~\nb:\nc: ''",
    "a: |\n  line 1\n  line 2\n",
    "a: '1'\nb: \"true\"\nc: 'null'",
    "a: '-'\nb: '#x'\nc: 'x: y'\nd: '[1]'",
    "a: x y\nb: https://h:8200/p\nc: -5\nd: +.inf\ne: '{{ x }}'",
    "'a b': \u00fc\u20ac\U0001f512",
    'a: "\\x7f\\x00\\n\\t\\\\ \\"q\\" \\u2028"',
    "a: [0x1f, 1_000, 0b1, .5, 12:30:45, 1.5e-3]",
    "x: &anchor {a: 1}\ny: *anchor\nz: {<<: *anchor, b: 2}",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_node_is_read_again_as_it_was(text: str) -> None:
    """Texts, and whether they may be numbers, booleans or null."""
    node = read_yaml(text)
    assert node is not None
    line = write_flow(node)
    assert "\n" not in line
    again = read_yaml(line)
    assert again is not None
    assert shape(node) == shape(again)


def shape(node: YamlNode) -> object:
    """What matters of a node: not its lines, nor how a text is quoted."""
    match node:
        case YamlMap(entries):
            return {key: shape(each) for key, each in entries.items()}
        case YamlList(items):
            return [shape(each) for each in items]
        case YamlScalar(text):
            reads = (yaml_number, yaml_boolean, yaml_timestamp)
            values = [read(text) for read in reads if node.style is ScalarStyle.PLAIN]
            return text, node.is_null, [each for each in values if each is not None]
