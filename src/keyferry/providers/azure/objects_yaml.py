"""Parses the parameter `objects`: YAML whose `array` lists strings that are YAML. [pure]

Scalars remain text, so `0755`, `12e34` and `true` keep their spelling. Messages count entries
from 0, as upstream does, and lines of `objects` from 1.

Source: docs/reference/upstream-azure-provider.md#encoding-of-objects
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.errors import ClassInvalidError, excerpt, with_upstream_prefix
from keyferry.formats.go_values import parse_duration
from keyferry.formats.unknown_fields import correct_missing
from keyferry.formats.yaml_text import (
    ScalarStyle,
    YamlError,
    YamlList,
    YamlMap,
    YamlNode,
    YamlScalar,
    read_yaml,
)
from keyferry.formats.yaml_values import parse_integer
from keyferry.providers.known_fields.azure import OBJECTS

if TYPE_CHECKING:
    from collections.abc import Collection

_INT32 = range(-(2**31), 2**31)


class Entry(Struct, frozen=True):
    """One item of `array`, with unchecked fields.

    Attributes:
        index: its index in the list, from 0.
        item: the scalar in the outer document.
        fields: its mapping; None if it is empty.
    """

    index: int
    item: YamlScalar
    fields: YamlMap | None

    def string(self, field: str) -> str:
        """Return a field as trimmed text; "" if it is absent.

        Raises:
            ClassInvalidError: the field is a list or a mapping.
        """
        scalar = self._scalar(field)
        return scalar.text.strip() if scalar else ""

    def integer(self, field: str) -> int:
        """Return a field as a 32-bit integer; 0 if it is absent or null.

        Raises:
            ClassInvalidError: it is anything else, including a number in quotes.
        """
        scalar = self._scalar(field)
        if scalar is None or scalar.is_null:
            return 0
        number = parse_integer(scalar)
        if number is None or number not in _INT32:
            problem = f"{field} is not an integer{self._line_note(scalar.line)}"
            raise self._error(problem, "Write a number without quotes, such as 5.")
        return number

    @property
    def names(self) -> Collection[str]:
        """The names of its fields."""
        return self.fields.entries if self.fields else ()

    @property
    def location(self) -> str:
        """The index and line of the entry, for messages."""
        return f"entry at index {self.index}, line {self.item.line} of objects"

    def _scalar(self, field: str) -> YamlScalar | None:
        node = self.fields.entries.get(field) if self.fields else None
        if node is None or isinstance(node, YamlScalar):
            return node
        problem = f"{field} is a list or a mapping{self._line_note(node.line)}"
        raise self._error(problem, "Write a single value.")

    def _line_note(self, entry_line: int) -> str:
        return _line_note(self.item, entry_line)

    def _error(self, problem: str, remedy: str) -> ClassInvalidError:
        return _entry_error(self.index, problem, remedy)


def read_entries(text: str) -> tuple[Entry, ...]:
    """Return the items of `array` in `text`, in order; empty if `array` is absent or empty.

    Null items, which templates often leave behind, are dropped as upstream does; the index of an
    entry does not count them.

    Raises:
        ClassInvalidError: the text, or the text of an item, is not YAML of that shape.
    """
    return tuple(_parse_entry(item, index) for index, item in enumerate(_array_items(text)))


def _array_items(text: str) -> tuple[YamlNode, ...]:
    try:
        root = read_yaml(text)
    except YamlError as error:
        raise _document_error(error.detail, line=error.line or 1, remedy=error.remedy) from error
    if root is None or (isinstance(root, YamlScalar) and root.is_null):
        return ()
    if not isinstance(root, YamlMap):
        raise _document_error("objects is not a mapping with the key array", line=root.line)
    array = root.entries.get("array")
    match array:
        case YamlList():
            return array.present
        case None:
            written, remedy = correct_missing(OBJECTS, ("array",), root.entries, "")
            if written:
                raise _document_error(f"array is missing{written}", line=root.line, remedy=remedy)
            return ()
        case YamlScalar(text=""):
            return ()
        case _:
            if isinstance(array, YamlScalar) and array.style is not ScalarStyle.PLAIN:
                raise _array_text_error(array.line)
            raise _document_error("array is not a list", line=array.line)


def _array_text_error(line: int) -> ClassInvalidError:
    remedy = "Write array: without '|' or quotes, so that it is a list."
    return _document_error("array is a text", line=line, remedy=remedy)


def _document_error(problem: str, *, line: int, remedy: str = "") -> ClassInvalidError:
    error = ClassInvalidError(
        f"{problem} (line {line} of objects)",
        remedy or "Write array: followed by one '- |' per object with its indented fields.",
    )
    return with_upstream_prefix("failed to yaml unmarshal objects, error", error)


def _parse_entry(item: YamlNode, index: int) -> Entry:
    if not isinstance(item, YamlScalar):
        problem = f"the entry at index {index} is not a string; is the '|' after its '-' missing?"
        raise _document_error(problem, line=item.line)
    try:
        root = read_yaml(item.text)
    except YamlError as error:
        problem = f"{error.detail}{_line_note(item, error.line)}"
        folded = item.style is ScalarStyle.FOLDED
        remedy = _FOLDED_REMEDY if folded else error.remedy
        raise _entry_error(index, problem, remedy) from error
    if isinstance(root, YamlMap):
        return Entry(index, item, root)
    if root is None or (isinstance(root, YamlScalar) and root.is_null):
        return Entry(index, item, None)
    problem = f"the entry is not a mapping{_line_note(item, root.line)}"
    raise _entry_error(index, problem, "Write lines of the form field: value.")


_FOLDED_REMEDY = "Write '- |' instead of '- >': a '>' joins the lines of the entry."


def _entry_error(index: int, problem: str, remedy: str) -> ClassInvalidError:
    prefix = f"unmarshal failed for keyVaultObjects at index {index}, error"
    return with_upstream_prefix(prefix, ClassInvalidError(problem, remedy))


def _line_note(item: YamlScalar, entry_line: int) -> str:
    """Return ` (line N of objects)` for line `entry_line` (from 1) of an entry.

    In other than literal block scalars the lines of the content cannot be located, so N is the line
    of the entry.
    """
    line = item.line + entry_line if item.style is ScalarStyle.LITERAL else item.line
    return f" (line {line} of objects)"


# --- The parameter and field `expiryWarning`: how long before an object expires to warn -----------

EXPIRY_WARNING_KEY = "expiryWarning"
_DAY_SECONDS = 86_400.0
_DAYS_PATTERN = re.compile(r"([0-9]{1,6})d")
_MAX_WARNING_SECONDS = 3650 * _DAY_SECONDS
_DURATION_REMEDY = "Write a duration such as 720h or 30d; 0 means no warning."


def parse_expiry_warning(text: str, *, default: float = 0.0) -> float:
    """Return how many seconds before the expiry to warn; 0 for no warning.

    Args:
        text: a duration such as `720h` or `30d`; `0` for no warning, "" for the default.
        default: the result for "", in seconds.

    Raises:
        ClassInvalidError: the text is not a duration, or not between 0 and 3650 days.
    """
    text = text.strip()
    if not text:
        return default
    try:
        days = _DAYS_PATTERN.fullmatch(text)
        seconds = int(days[1]) * _DAY_SECONDS if days else parse_duration(text)
    except ValueError:
        problem = f"{EXPIRY_WARNING_KEY} is not a duration: {excerpt(text)}"
        raise ClassInvalidError(problem, _DURATION_REMEDY) from None
    if not 0 <= seconds <= _MAX_WARNING_SECONDS:
        problem = f"{EXPIRY_WARNING_KEY} is not between 0 and 3650d: {excerpt(text)}"
        raise ClassInvalidError(problem, _DURATION_REMEDY)
    return seconds
