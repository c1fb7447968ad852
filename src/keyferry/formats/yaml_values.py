"""Resolves plain YAML scalars to typed values, by the rules of Go's yaml.v3. [pure]

`yes`, `no`, `on`, `off` and base-60 numbers are texts. A date becomes a text in RFC 3339. A number
in quotes is a text.

Source: docs/reference/upstream-vault-provider.md#yaml-scalars
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, assert_never

from keyferry.formats.go_values import yaml_boolean, yaml_number, yaml_timestamp
from keyferry.formats.yaml_text import ScalarStyle, YamlList, YamlMap, YamlNode, YamlScalar

if TYPE_CHECKING:
    from keyferry.formats.go_json import Json


def typed_value(node: YamlNode) -> Json:
    """Return the typed value of a node."""
    match node:
        case YamlScalar():
            return _scalar(node)
        case YamlList(items):
            return [typed_value(item) for item in items]
        case YamlMap(entries):
            return {key: typed_value(entry) for key, entry in entries.items()}
        case _:
            assert_never(node)


def parse_integer(scalar: YamlScalar) -> int | None:
    """Return the integer of a plain scalar, or None. A leading 0 or 0o means octal.

    A float loses its fraction, as it does in the integer fields of upstream.
    """
    number = yaml_number(scalar.text) if scalar.style is ScalarStyle.PLAIN else None
    if number is None or not math.isfinite(number):
        return None
    return int(number)


def _scalar(scalar: YamlScalar) -> Json:
    text = scalar.text
    if scalar.style is not ScalarStyle.PLAIN:
        return text
    if not text:
        return None
    if (boolean := yaml_boolean(text)) is not None:
        return boolean
    if (timestamp := yaml_timestamp(text)) is not None:
        return timestamp
    number = yaml_number(text)
    return text if number is None else number
