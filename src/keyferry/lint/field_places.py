"""Finds the line of an unknown field. [pure]"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyferry.formats.kubernetes_yaml import FieldPath
    from keyferry.formats.unknown_fields import UnknownField
    from keyferry.lint.finding import Place
    from keyferry.lint.manifests import Manifest

_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def parse_path(text: str) -> FieldPath:
    """Return the path of a field in the notation of Kubernetes: `spec.secretObjects[0].data`."""
    return tuple(int(index) if index else name for name, index in _STEP.findall(text))


def field_place(manifest: Manifest, field: UnknownField, *, prefix: FieldPath = ()) -> Place:
    """Return where an unknown field is; where its mapping is, if the field is not found.

    Args:
        manifest: the object.
        field: the field. Its path may continue into the text of a parameter: `objects[2]`.
        prefix: the path of the mapping that `field.path` begins in.
    """
    path = (*prefix, *parse_path(field.path))
    for end in range(len(path), 0, -1):
        text = manifest.text(*path[:end])
        if text:
            rest = path[end:]
            index = next((step for step in rest if isinstance(step, int)), None)
            start = manifest.place(*path[:end])
            return start.below(_line_in(text, index, field.name))
    return manifest.place(*path, field.name)


def _line_in(text: str, index: int | None, name: str) -> int:
    """Return the line, from 1, of the key `name` in YAML text; 0 if it is not found.

    Args:
        text: YAML whose list has one item per `-` of the smallest indentation.
        index: the item; None for the whole text.
        name: the key.
    """
    lines = text.splitlines()
    dashes = [len(line) - len(line.lstrip()) for line in lines if line.lstrip().startswith("-")]
    item, key = -1, re.compile(rf"\s*(-\s+)*[\"']?{re.escape(name)}[\"']?\s*:")
    for number, line in enumerate(lines, start=1):
        if dashes and line.lstrip().startswith("-"):
            item += len(line) - len(line.lstrip()) == min(dashes)
        if index in (None, item) and key.match(line):
            return number
    return 0
