"""Resolves plain YAML scalars to typed values, by the rules of Go's yaml.v3. [pure]

`yes`, `no`, `on`, `off` and base-60 numbers are texts. A date becomes a text in RFC 3339. A number
in quotes is a text.

Source: docs/reference/upstream-vault-provider.md#yaml-scalars
"""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import TYPE_CHECKING, assert_never

from keyferry.formats.yaml_text import ScalarStyle, YamlList, YamlMap, YamlNode, YamlScalar

if TYPE_CHECKING:
    from keyferry.formats.go_json import Json

_BOOLEANS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_BASES = {"0b": 2, "0o": 8, "0x": 16}
_INTEGER = re.compile(r"[-+]?(0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_DATE = re.compile(r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})")
_TIMESTAMP = re.compile(
    _DATE.pattern + r"(?:[Tt]|[ ]+)([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(\.[0-9]{1,9})?"
    r"[ ]*(Z|[-+][0-9]{2}:[0-9]{2})?"
)
_MAX_INTEGER = 2**64 - 1
_MIN_INTEGER = -(2**63)


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
    """Return the integer of a plain scalar, or None. A leading 0 or 0o means octal."""
    if scalar.style is not ScalarStyle.PLAIN or not _INTEGER.fullmatch(scalar.text):
        return None
    sign = -1 if scalar.text.startswith("-") else 1
    digits = scalar.text.lstrip("+-").replace("_", "")
    try:
        base = _BASES.get(digits[:2])
        if base is not None:
            return sign * int(digits[2:], base)
        return sign * int(digits, 8 if len(digits) > 1 and digits.startswith("0") else 10)
    except ValueError:
        return None  # 0899, 0x_, or too many digits


def _scalar(scalar: YamlScalar) -> Json:
    text = scalar.text
    if scalar.style is not ScalarStyle.PLAIN:
        return text
    if not text:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    number = parse_integer(scalar)
    if number is not None and _MIN_INTEGER <= number <= _MAX_INTEGER:
        return number
    if _FLOAT.fullmatch(text.replace("_", "")) and not text.startswith("_"):
        return float(text.replace("_", ""))
    return _timestamp(text) or text


def _timestamp(text: str) -> str | None:
    """Return a date or timestamp in RFC 3339; None for any other text."""
    if found := _DATE.fullmatch(text):
        year, month, day = map(int, found.groups())
        return f"{_date_text(year, month, day)}T00:00:00Z" if _is_date(year, month, day) else None
    found = _TIMESTAMP.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = map(int, found.groups()[:6])
    try:
        datetime(year, month, day, hour, minute, second)  # noqa: DTZ001 - only whether it exists
    except ValueError:
        return None
    fraction = (found[7] or "").rstrip("0").rstrip(".")
    zone = found[8] or "Z"
    zone = "Z" if zone in ("+00:00", "-00:00") else zone
    clock = f"{hour:02d}:{minute:02d}:{second:02d}{fraction}"
    return f"{_date_text(year, month, day)}T{clock}{zone}"


def _date_text(year: int, month: int, day: int) -> str:
    """`2026-01-02`."""
    return f"{year:04d}-{month:02d}-{day:02d}"


def _is_date(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True
