"""Finds unknown fields in YAML. [pure]"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.formats.yaml_text import YamlScalar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keyferry.formats.unknown_fields import FieldTable, UnknownField
    from keyferry.formats.yaml_text import YamlMap


def find_in_yaml(
    table: FieldTable, path: str, mapping: YamlMap, text: str
) -> Iterator[UnknownField]:
    """Yield the unknown fields of a mapping, except those that only hold an anchor.

    Args:
        table: the fields of the mapping.
        path: of the mapping.
        mapping: the mapping.
        text: the YAML that it is in.
    """
    for field in table.find(path, mapping.entries):
        is_scalar = isinstance(mapping.entries[field.name], YamlScalar)
        if field.reason or is_scalar or "&" not in text:
            yield field
