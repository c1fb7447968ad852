"""Reads typed fields of a manifest. [pure]

As in Kubernetes, a missing or null field is empty. For `Field`, a field of the wrong type is an
error with its path; for `get`, `items` and `text`, it is empty, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from keyferry.formats.kubernetes_yaml import FieldPath, UnsupportedScalar, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_MAX_SHOWN = 60
"""Characters of a key in a message; in a damaged manifest a value may be at its place."""


class FieldTypeError(Exception):
    """A field has the wrong type.

    Attributes:
        path: of the field.
        problem: the path in the notation of Kubernetes and the error, without the value.
        remedy: how to fix it, a sentence.
    """

    def __init__(self, path: FieldPath, problem: str, remedy: str) -> None:
        super().__init__(path, problem, remedy)
        self.path = path
        self.problem = problem
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Field:
    """A value of a manifest with its path. Every method may raise `FieldTypeError`.

    Attributes:
        value: the value.
        path: its path in the manifest.
        spelling: returns the scalar at a path as it is written; "" if unknown.
    """

    value: Value = field(repr=False)
    path: FieldPath = ()
    spelling: Callable[[FieldPath], str] = field(default=lambda _: "", repr=False, compare=False)

    def __getitem__(self, key: str) -> Field:
        """Return the field `key` of this mapping; an empty one if it is missing."""
        return Field(self.mapping().get(key), (*self.path, key), self.spelling)

    def text(self) -> str:
        """Return the text of this field; "" if it is empty."""
        match self.value:
            case None:
                return ""
            case str(text):
                return text
            case _:
                raise self._type_error("text", self._quoting_hint())

    def number(self) -> int:
        """Return the whole number of this field; 0 if it is empty."""
        match self.value:
            case None:
                return 0
            case int(number) if not isinstance(number, bool):
                return number
            case _:
                raise self._type_error("a number", "Write a whole number.")

    def text_mapping(self) -> dict[str, str]:
        """Return a mapping of texts; a null value is an error, as for the API server."""
        texts = {}
        for key in self.mapping():
            if self[key].value is None:
                raise self[key]._type_error("text", f'Write a text, as in {key[:_MAX_SHOWN]}: "".')
            texts[key] = self[key].text()
        return texts

    def items(self) -> tuple[Field, ...]:
        """Return the items of the list in this field."""
        match self.value:
            case None:
                return ()
            case list(items):
                return tuple(
                    Field(item, (*self.path, at), self.spelling) for at, item in enumerate(items)
                )
            case _:
                raise self._type_error("a list", "Begin each item on a line of its own with '- '.")

    def mapping(self) -> dict[str, Value]:
        """Return the mapping in this field."""
        match self.value:
            case None:
                return {}
            case dict(mapping):
                return mapping
            case _:
                raise self._type_error("a mapping", "Indent its fields below it, as 'name: value'.")

    def _type_error(self, expected: str, remedy: str) -> FieldTypeError:
        return FieldTypeError(
            self.path,
            f"{format_path(self.path)} is {_kind_name(self.value)}, not {expected}",
            remedy,
        )

    def _quoting_hint(self) -> str:
        name = str(self.path[-1])[:_MAX_SHOWN] if self.path else ""
        match self.value:
            case bool(value):
                written = self.spelling(self.path) or str(value).lower()
                return f'Put it in quotes: {name}: "{written}".'
            case int() | UnsupportedScalar():
                return f'Put it in quotes: {name}: "...".'
            case _:
                return "Write a text; several lines follow a '|'."


def format_path(path: FieldPath) -> str:
    """Return a path in the notation of Kubernetes: `spec.secretObjects[0].data`."""
    name = "".join(
        f"[{step}]" if isinstance(step, int) else f".{step[:_MAX_SHOWN]}" for step in path
    )
    return name.removeprefix(".") or "the document"


_KIND_NAMES: dict[type, str] = {
    bool: "a boolean",
    int: "a number",
    str: "text",
    list: "a list",
    dict: "a mapping",
}


def _kind_name(value: Value) -> str:
    return (
        value.kind if isinstance(value, UnsupportedScalar) else _KIND_NAMES.get(type(value), "null")
    )


# --- Manifests of which only the fields with the right types matter -------------------------------


def get(value: Value | Mapping[str, Value], *path: str) -> Value:
    """Return the field at `path`; None if it is missing or a parent has another type."""
    found: Value = value  # type: ignore[assignment]
    for step in path:
        found = found.get(step) if isinstance(found, dict) else None
    return found


def items(value: Value) -> Sequence[Value]:
    """Return a list; an empty one for another value."""
    return value if isinstance(value, list) else ()


def text(value: Value) -> str:
    """Return a text; "" for another value."""
    return value if isinstance(value, str) else ""


def parse_time(moment: str) -> datetime | None:
    """Return the time that the Kubernetes API writes, in UTC; None for any other text."""
    try:
        parsed = datetime.fromisoformat(moment)
        return parsed.astimezone(UTC) if parsed.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
