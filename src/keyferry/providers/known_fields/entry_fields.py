"""The fields inside of an entry of `objects` that all built-in providers share. [pure]"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.formats.unknown_fields import FieldTable
from keyferry.formats.yaml_text import YamlList, YamlMap
from keyferry.providers.known_fields.yaml_fields import find_in_yaml
from keyferry.rendering.object_options import JMES_PATH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keyferry.formats.unknown_fields import UnknownField
    from keyferry.formats.yaml_text import YamlNode

_NO_CONVERSION = "names and values are delivered as they are; remove it"
FIND = FieldTable(
    ("name", "path", "tags"),
    synonyms={
        **dict.fromkeys(("names", "regexp", "regex", "pattern"), "name"),
        **dict.fromkeys(("tag", "labels", "metadata"), "tags"),
        **dict.fromkeys(("folder", "secretPath", "prefix"), "path"),
    },
    notes=dict.fromkeys(("conversionStrategy", "decodingStrategy"), _NO_CONVERSION),
)
FIND_NAME = FieldTable(("regexp",), synonyms=dict.fromkeys(("regex", "pattern"), "regexp"))
REWRITE = FieldTable(("regexp",), synonyms=dict.fromkeys(("regex", "pattern"), "regexp"))
REWRITE_REGEXP = FieldTable(
    ("source", "target"),
    synonyms={
        **dict.fromkeys(("from", "match", "pattern"), "source"),
        **dict.fromkeys(("to", "replace", "replacement"), "target"),
    },
)


def unknown_entry_fields(
    table: FieldTable, path: str, entry: YamlMap, text: str
) -> Iterator[UnknownField]:
    """Yield the fields of an entry that have no effect, and those inside of its options.

    Args:
        table: the fields of the entry.
        path: of the entry, for messages.
        entry: the entry.
        text: the YAML that it is in.
    """
    yield from find_in_yaml(table, path, entry, text)
    fields = entry.entries
    for place, item in _items(f"{path}.jmesPath", fields.get("jmesPath")):
        yield from find_in_yaml(JMES_PATH, place, item, text)
    yield from _inside(FIND, f"{path}.find", fields.get("find"), text, name=FIND_NAME)
    for place, item in _items(f"{path}.rewrite", fields.get("rewrite")):
        yield from _inside(REWRITE, place, item, text, regexp=REWRITE_REGEXP)


def _inside(
    table: FieldTable, path: str, node: YamlNode | None, text: str, **inner: FieldTable
) -> Iterator[UnknownField]:
    """Yield the unknown fields of a mapping, and of the mappings at the names in `inner`."""
    if not isinstance(node, YamlMap):
        return
    yield from find_in_yaml(table, path, node, text)
    for name, below in inner.items():
        yield from _inside(below, f"{path}.{name}", node.entries.get(name), text)


def _items(path: str, node: YamlNode | None) -> Iterator[tuple[str, YamlMap]]:
    for index, item in enumerate(node.present if isinstance(node, YamlList) else ()):
        if isinstance(item, YamlMap):
            yield f"{path}[{index}]", item
