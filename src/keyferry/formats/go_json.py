"""Reads and writes JSON as Go programs do: numbers keep their text, output is canonical. [pure]

Vaults hold numbers that do not fit into a float, and the bytes of a file must not depend on its
writer. So a number stays the text that it was read as, objects have sorted keys, no whitespace
is between values, and `<`, `>`, `&`, U+2028 and U+2029 are escaped, as `encoding/json` does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from math import isfinite
from typing import TypeAlias

Json: TypeAlias = (
    "bool | int | float | str | JsonNumber | Sequence[Json] | Mapping[str, Json] | None"
)

_SURROGATES = re.compile("[\ud800-\udfff]")
_ESCAPED = re.compile("[<>&\u2028\u2029]")


class JsonNumber(str):
    """The text of a number in JSON."""

    __slots__ = ()


MAX_VALUES = 20_000
"""Values of one document. A megabyte may hold half a million, which take seconds to process."""
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


class NotJsonError(ValueError):
    """The bytes are not JSON; the error does not quote them."""


class TooManyValuesError(NotJsonError):
    """The document has more than `MAX_VALUES` values."""


def read_json(body: bytes) -> Json:
    """Return the value in `body`; lone surrogates become U+FFFD.

    Raises:
        NotJsonError: the text is not JSON, or is nested too deeply.
        TooManyValuesError: it has too many values.
    """
    if count_values(body) > MAX_VALUES:
        raise TooManyValuesError
    try:
        value: Json = json.loads(
            body.decode(),
            parse_int=JsonNumber,
            parse_float=JsonNumber,
            parse_constant=_reject_constant,
        )
    except (ValueError, RecursionError):
        raise NotJsonError from None
    return value


def write_json(value: Json) -> bytes:
    """Return the canonical JSON of `value`.

    Raises:
        NotJsonError: a number is not finite, or it is nested too deeply.
    """
    try:
        return _write(value).encode()
    except RecursionError:
        raise NotJsonError from None


def text_bytes(text: str) -> bytes:
    """Return the text in UTF-8; lone surrogates become U+FFFD."""
    return _SURROGATES.sub("\ufffd", text).encode()


def count_values(body: bytes) -> int:
    """Return about how many values a JSON text has, and rather too many up to `MAX_VALUES`."""
    # Most documents, however large their strings are, need no second look.
    count = _separators(body)
    return count if count <= MAX_VALUES else _separators(_STRING.sub(b"", body))


def _separators(body: bytes) -> int:
    return body.count(b",") + body.count(b"[") + body.count(b"{")


def _reject_constant(_: str) -> Json:
    raise NotJsonError


def _write(value: Json) -> str:  # noqa: PLR0911 - one per kind of value
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case JsonNumber():
            return str(value)
        case str():
            return _write_text(value)
        case int():
            return str(value)
        case float():
            return _write_float(value)
        case Mapping():
            pairs = (f"{_write_text(key)}:{_write(value[key])}" for key in sorted(value))
            return "{" + ",".join(pairs) + "}"
        case _:
            return "[" + ",".join(map(_write, value)) + "]"


def _write_text(text: str) -> str:
    quoted = json.dumps(_SURROGATES.sub("\ufffd", text), ensure_ascii=False)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)


def _write_float(number: float) -> str:
    """Return plain digits from 1e-6 to 1e21, else an exponent."""
    if not isfinite(number):
        raise NotJsonError
    shortest = Decimal(repr(number))
    if number == 0 or 1e-6 <= abs(number) < 1e21:
        plain = f"{shortest:f}"
        return plain.rstrip("0").rstrip(".") if "." in plain else plain
    digits = "".join(map(str, shortest.as_tuple().digits)).rstrip("0")
    exponent = shortest.adjusted()
    mantissa = digits[0] + (f".{digits[1:]}" if digits[1:] else "")
    sign = "-" if number < 0 else ""
    # Go writes e-07 as e-7, and e+21 with its sign.
    return f"{sign}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}".replace(
        "e-0", "e-"
    )
