"""Finds fields of a mapping that have no effect, and what their author probably meant. [pure]

Mappings of SecretProviderClasses are read leniently, as upstream does: an unknown field is no
error. It is reported, so that a misspelled field does not vanish without a message.
"""

from __future__ import annotations

from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.errors import excerpt

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

MAX_UNKNOWN_FIELDS = 20
"""Unknown fields of one SecretProviderClass that are reported."""
_HOLDER_PREFIXES = ("x-", ".")
"""By convention, fields with these prefixes hold anchors of YAML; they may have no effect."""
_SIMILARITY = 0.8
"""The least `difflib` ratio of a misspelling and the field that was meant."""
_MIN_EDITED = 4
"""The shortest name in which one wrong letter is recognized."""
_MAX_MISSPELLED = 64
"""Longer names are not compared; the comparison takes quadratic time."""
_MAX_COMPARED = 200
"""Names that are compared with a required one."""


class UnknownField(Struct, frozen=True):
    """A field that has no effect.

    Attributes:
        path: of its mapping: `spec.parameters.objects[2]`.
        name: as it is written.
        suggestion: the field that was probably meant; "" without one.
        note: why it has no effect and what to do instead, a clause; "" for a misspelling.
    """

    path: str
    name: str
    suggestion: str = ""
    note: str = ""

    @property
    def field(self) -> str:
        """The path of the field itself."""
        return ".".join(filter(None, (self.path, excerpt(self.name))))

    @property
    def reason(self) -> str:
        """The note and the suggestion; "" if neither is known."""
        question = f"did you mean {self.suggestion}?" if self.suggestion else ""
        return "; ".join(filter(None, (self.note, question)))

    def __str__(self) -> str:
        """Return a sentence without its period: `unknown field spec.x: did you mean y?`."""
        if self.note:
            return f"{self.field} has no effect: {self.reason}"
        return f"unknown field {self.field}" + (f": {self.reason}" if self.reason else "")


def describe_unknown_fields(fields: Collection[UnknownField]) -> str:
    """Return one line that names all `fields`; it is the same for equal fields."""
    named = (f"{item.field} ({item.reason})" if item.reason else item.field for item in fields)
    return f"fields that have no effect: {', '.join(named)}"


class FieldTable:
    """The fields of one kind of mapping.

    Names are compared without case, `-`, `_` and `.` when a suggestion is looked for.

    Args:
        known: the fields that have an effect.
        synonyms: fields that other tools or older versions use, and the known ones.
        notes: fields of other places, providers or versions, and what to say about them.
        default_note: what to say about a field that is not in the table and resembles none.
    """

    def __init__(
        self,
        known: Iterable[str],
        *,
        synonyms: Mapping[str, str] | None = None,
        notes: Mapping[str, str] | None = None,
        default_note: str = "",
    ) -> None:
        self.known = tuple(known)
        self._names = frozenset(self.known)
        self._synonyms = {_normal(name): meant for name, meant in (synonyms or {}).items()}
        self._notes = {_normal(name): note for name, note in (notes or {}).items()}
        self._default_note = default_note
        self._by_normal: dict[str, list[str]] = {}
        for name in self.known:
            self._by_normal.setdefault(_normal(name), []).append(name)

    def find(self, path: str, names: Collection[str]) -> Iterator[UnknownField]:
        """Yield the fields of one mapping that are not known, in their order.

        Args:
            path: of the mapping.
            names: its keys.
        """
        for name in names:
            if name not in self._names and not name.startswith(_HOLDER_PREFIXES):
                yield self._describe(path, name, names)

    def find_misspelled(self, path: str, names: Collection[str]) -> Iterator[UnknownField]:
        """Yield only the fields that resemble a known one, for mappings with foreign keys."""
        return (field for field in self.find(path, names) if field.suggestion)

    def misspelling_of(
        self, required: Collection[str], names: Collection[str]
    ) -> tuple[str, str] | None:
        """Return the key of a mapping that was probably meant as a required one, and that one.

        Args:
            required: spellings of the required field, which is missing or empty.
            names: the keys of the mapping.
        """
        unknown = (name for name in names if name not in self._names)
        present = frozenset(names).difference(required)
        for name in islice(unknown, _MAX_COMPARED):
            if (meant := self.suggest(name, present)) in required:
                return name, meant
        return None

    def _describe(self, path: str, name: str, names: Collection[str]) -> UnknownField:
        suggestion = self.suggest(name, names)
        note = self._notes.get(_normal(name), "")
        if not suggestion and not note:
            note = self._default_note
        return UnknownField(path, name, suggestion, note)

    def suggest(self, name: str, present: Collection[str]) -> str:
        """Return the field that was probably meant; never one that is `present` in any spelling.

        1. a known field that differs only in case or punctuation,
        2. a synonym,
        3. a similar name, unless there is a note about the field.
        """
        normal = _normal(name)
        candidates = [normal]
        if normal in self._synonyms:
            candidates.append(_normal(self._synonyms[normal]))
        if normal not in self._notes and len(normal) <= _MAX_MISSPELLED:
            candidates += [name for name in self._by_normal if _is_one_edit(normal, name)]
            candidates += get_close_matches(normal, self._by_normal, cutoff=_SIMILARITY)
        for candidate in candidates:
            spellings = self._by_normal.get(candidate, ())
            if spellings and not any(spelling in present for spelling in spellings):
                return spellings[0]
        return ""


def _normal(name: str) -> str:
    """Return `name` without case and punctuation, cut to what is compared."""
    shown = name[: 2 * _MAX_MISSPELLED]
    return "".join(char for char in shown if char not in "-_. ").casefold()


def _is_one_edit(written: str, name: str) -> bool:
    """Return whether one letter is wrong, missing or too many, or two letters are exchanged.

    Short names are not compared: too many words resemble them.
    """
    longer, shorter = sorted((written, name), key=len, reverse=True)
    if len(shorter) < _MIN_EDITED or len(longer) - len(shorter) > 1:
        return False
    pairs = zip(longer, shorter, strict=False)
    at = next((at for at, (one, other) in enumerate(pairs) if one != other), len(shorter))
    if len(longer) > len(shorter):
        return longer[at + 1 :] == shorter[at:]
    exchanged = longer[at : at + 2] == shorter[at : at + 2][::-1]
    return longer[at + 1 :] == shorter[at + 1 :] or (
        exchanged and longer[at + 2 :] == shorter[at + 2 :]
    )


def limited(fields: Iterable[UnknownField]) -> tuple[UnknownField, ...]:
    """Return at most `MAX_UNKNOWN_FIELDS` of `fields`, which are computed only so far."""
    return tuple(islice(fields, MAX_UNKNOWN_FIELDS))


def correct_missing(
    table: FieldTable, required: tuple[str, ...], names: Collection[str], remedy: str
) -> tuple[str, str]:
    """Return how the error about a missing field continues, and its remedy.

    Args:
        table: the fields of the mapping.
        required: the missing field, or several of which one is required.
        names: the keys of the mapping.
        remedy: if no key resembles the missing field.

    Returns:
        `; you wrote vaultRole` and `Rename vaultRole to roleName.`, or "" and `remedy`.
    """
    found = table.misspelling_of(required, names)
    if found is None:
        return "", remedy
    written, meant = excerpt(found[0]), found[1]
    return f"; you wrote {written}", f"Rename {written} to {meant}."
