"""JSON and YAML whose numbers can be calculated with, and keep their spelling. [pure]

`1.10` stays `1.10`, and a number with thirty digits keeps all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from keyferry.formats.go_json import (
    NotJsonError,
    TooManyValuesError,
    count_values,
    text_bytes,
)
from keyferry.formats.go_values import yaml_boolean, yaml_number
from keyferry.formats.yaml_text import (
    ScalarStyle,
    YamlList,
    YamlMap,
    YamlNode,
    YamlScalar,
    read_yaml,
)

Spelled: TypeAlias = "bool | int | float | str | Sequence[Spelled] | Mapping[str, Spelled] | None"

MAX_VALUES = 20_000
"""Values of one document."""


MAX_NESTING = 200
"""Lists and objects in each other; JMESPath calls itself for each."""


class BadJsonError(NotJsonError):
    """The bytes are not JSON or YAML.

    Attributes:
        detail: the problem, as the end of "not JSON: ...". It quotes no value.
        is_syntax: whether they may be in another language.
    """

    def __init__(self, detail: str, *, is_syntax: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        self.is_syntax = is_syntax


class NotFiniteError(NotJsonError):
    """A number has no spelling in JSON."""


class SpelledInt(int):
    """A whole number with its spelling. The class is called `int`, which JMESPath asks for."""

    spelling: str


class SpelledFloat(float):
    """Any other number with its spelling. The class is called `float`."""

    spelling: str


SpelledInt.__name__ = "int"
SpelledFloat.__name__ = "float"


def read_spelled_json(text: bytes) -> Spelled:
    """Return the value in `text`.

    Raises:
        BadJsonError: the text is not JSON, or is nested too deeply.
        TooManyValuesError: it has too many values.
    """
    if count_values(text) > MAX_VALUES:
        raise TooManyValuesError
    if not text.strip():
        raise BadJsonError("it is empty")
    try:
        value: Spelled = json.loads(
            text.decode("utf-8-sig"),
            parse_int=_int,
            parse_float=_float,
            parse_constant=_reject,
        )
    except UnicodeDecodeError:
        raise BadJsonError("it is not UTF-8") from None
    except RecursionError:
        raise BadJsonError(_NESTED) from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno} of the value"
        raise BadJsonError(f"syntax error ({place})", is_syntax=True) from None
    if _is_deeper(value, MAX_NESTING):
        raise BadJsonError(_NESTED)
    return value


def read_spelled_yaml(text: bytes) -> Spelled:
    """Return the value of the first document in `text`.

    Raises:
        YamlError: the text is not YAML, or exceeds a limit; the message quotes no value.
        BadJsonError: it is not UTF-8.
    """
    try:
        return _of_yaml(read_yaml(text.decode("utf-8-sig")))
    except UnicodeDecodeError:
        raise BadJsonError("it is not UTF-8") from None


def write_spelled(value: Spelled, *, max_bytes: int) -> bytes:
    """Return compact JSON; keys keep their order.

    Values may occur in several places, so a small one can have a long text.

    Raises:
        NotJsonError: the text has more than `max_bytes`.
        NotFiniteError: a number is not finite, or has too many digits.
    """
    parts: list[str] = []
    room = max_bytes
    stack: list[Spelled | _Raw] = [value]
    while stack:
        part = _write_part(stack.pop(), stack)
        room -= len(part)
        if room < 0 or len(stack) > max_bytes:
            raise NotJsonError
        parts.append(part)
    encoded = text_bytes("".join(parts))
    if len(encoded) > max_bytes:
        raise NotJsonError
    return encoded


class _Raw(str):
    """Text that is written as it is."""

    __slots__ = ()


def _write_part(value: Spelled | _Raw, stack: list[Spelled | _Raw]) -> str:
    """Return the text of a scalar; of a list or a mapping its beginning, and push the rest."""
    match value:
        case _Raw():
            return str(value)
        case SpelledInt() | SpelledFloat():
            return value.spelling
        case Mapping():
            rest: list[Spelled | _Raw] = [_Raw("}")]
            for index, (key, item) in enumerate(reversed(list(value.items()))):
                comma = "," if index < len(value) - 1 else ""
                rest += [item, _Raw(f"{comma}{json.dumps(key, ensure_ascii=False)}:")]
            stack += rest
            return "{"
        case str() | bool() | None | int() | float():
            try:
                return json.dumps(value, ensure_ascii=False, allow_nan=False)
            except ValueError:
                raise NotFiniteError from None
        case _:
            rest = [_Raw("]")]
            for index, item in enumerate(reversed(value)):
                rest.append(item)
                if index < len(value) - 1:
                    rest.append(_Raw(","))
            stack += rest
            return "["


def _int(text: str) -> int:
    try:
        number = SpelledInt(text)
    except ValueError:  # more digits than Python converts
        return _float(text)  # type: ignore[return-value]
    number.spelling = text
    return number


def _float(text: str) -> float:
    number = SpelledFloat(text)
    number.spelling = text
    return number


def _reject(_: str) -> Spelled:
    raise BadJsonError("it contains NaN or Infinity, which JSON does not have")


_NESTED = f"it is nested more than {MAX_NESTING} levels deep"


def _is_deeper(value: Spelled, levels: int) -> bool:
    """Return whether lists and objects are nested more than `levels` deep."""
    level: list[Spelled] = [value]
    for _ in range(levels + 1):
        inner: list[Spelled] = []
        for each in level:
            if isinstance(each, dict):
                inner += each.values()
            elif isinstance(each, list):
                inner += each
        if not inner:
            return False
        level = inner
    return True


def kind_of(value: Spelled) -> str:
    """Return the type of a value, for messages."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a text"
        case int() | float():
            return "a number"
        case dict():
            return "an object"
        case _:
            return "a list"


def _of_yaml(node: YamlNode | None) -> Spelled:
    match node:
        case None:
            return None
        case YamlMap(entries):
            return {key: _of_yaml(entry) for key, entry in entries.items()}
        case YamlList(items):
            return [_of_yaml(item) for item in items]
        case YamlScalar():
            return _scalar(node)


def _scalar(node: YamlScalar) -> Spelled:
    if node.style is not ScalarStyle.PLAIN:
        return node.text
    if not node.text:
        return None
    if (boolean := yaml_boolean(node.text)) is not None:
        return boolean
    number = yaml_number(node.text)
    if number is None:
        return node.text
    try:
        json.loads(node.text)
    except ValueError:
        # 0x1f, 0755 and .5 are no numbers in JSON; their spelling is kept as a text.
        return node.text
    return _int(node.text) if isinstance(number, int) else _float(node.text)
