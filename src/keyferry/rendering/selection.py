"""Selects objects of a vault by name and tags: `find`, `rewrite` and `maxObjects`. [pure]

Patterns have the syntax of Go (RE2), as in the External Secrets Operator. RE2 matches in linear
time, so that no pattern can block the process.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from keyferry.errors import ClassInvalidError, ObjectMissingError, excerpt
from keyferry.formats.volume_paths import path_problem
from keyferry.formats.yaml_text import YamlList, YamlMap, YamlScalar
from keyferry.formats.yaml_values import parse_integer
from keyferry.rendering.fields import scalar_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from keyferry.formats.yaml_text import YamlNode

FIND = "find"
DEFAULT_MAX_OBJECTS = 50
MAX_OBJECTS = 1000
"""The largest value of `maxObjects`."""
MAX_PATTERN = 1000
"""The maximum length of a pattern, in characters."""
MAX_REWRITES = 20
_MAX_PROGRAM_BYTES = 1 << 20
_REFERENCE = re.compile(r"\$(?:\$|\{([A-Za-z0-9_]+)\}|([A-Za-z0-9_]+))")
_PATTERN_REMEDY = "Write an expression of RE2, without lookaround and backreferences."
_DOES_NOT_APPLY = ("objectVersion", "objectAlias", "default", "jmesPath")
_SELECTION_FIELDS = ("rewrite", "maxObjects")


class Rewrite(Struct, frozen=True):
    """Replaces what matches `source` in the name of a file by `target`."""

    source: str
    target: str


class Selection(Struct, frozen=True):
    """Which objects of a vault an entry selects.

    Attributes:
        pattern: the name contains a match of it; "" for all names.
        tags: the object has all of them, with these values.
        folder: the folder of Vault or OpenBao that is listed; "" for Azure.
        rewrites: how the path of a file is made from the name of its object, in order.
        max_objects: the maximum number of objects.
    """

    pattern: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    folder: str = ""
    rewrites: tuple[Rewrite, ...] = ()
    max_objects: int = DEFAULT_MAX_OBJECTS

    def matches_name(self, name: str) -> bool:
        """Return whether the name of an object matches; a text that is not Unicode never does."""
        try:
            name.encode()
        except UnicodeEncodeError:
            return False  # it can be neither searched nor requested
        return not self.pattern or compile_pattern(self.pattern).search(name) is not None

    def matches_tags(self, tags: Mapping[str, str]) -> bool:
        """Return whether an object with these tags matches."""
        return all(tags.get(key) == value for key, value in self.tags)

    def path_for(self, name: str) -> str:
        """Return the path of the file of the object `name`."""
        for each in self.rewrites:
            if len(name) > MAX_PATTERN:
                break  # too long for a path, and further steps could multiply it
            name = _replaced(name, each)
        return name

    def __str__(self) -> str:
        """Return the criteria for messages."""
        criteria = [f"name '{excerpt(self.pattern)}'"] if self.pattern else []
        criteria += [f"tag {excerpt(key)}={excerpt(value)}" for key, value in self.tags]
        return f"find ({', '.join(criteria)})"


def selects_objects(parameters: Mapping[str, str]) -> bool:
    """Return whether a SecretProviderClass may select objects."""
    return FIND in parameters.get("objects", "")


def choose(
    selection: Selection, names: Iterable[str], *, place: str
) -> tuple[tuple[str, str], ...]:
    """Return the name and the path of each selected object, sorted by name.

    Args:
        selection: of the entry; its folder and tags are not compared again.
        names: the objects that it selects.
        place: the vault or folder in messages.

    Raises:
        ClassInvalidError: there are too many, or a path is not valid.
        ObjectMissingError: no object is selected.
    """
    found = sorted(set(names))
    if not found:
        raise ObjectMissingError(
            f"{selection} matches no object in {place}",
            "Correct find, create an object that it matches, or set optional: true.",
        )
    if len(found) > selection.max_objects:
        raise ClassInvalidError(
            f"{selection} matches {len(found)} objects in {place};"
            f" maxObjects is {selection.max_objects}",
            f"Make find more specific, or set maxObjects, up to {MAX_OBJECTS}.",
        )
    chosen = tuple((name, selection.path_for(name)) for name in found)
    owners: dict[str, str] = {}
    for name, path in chosen:
        if problem := path_problem(path):
            raise ClassInvalidError(
                f"{selection} selects '{excerpt(name)}', whose file path '{excerpt(path)}'"
                f" {problem}",
                "Correct rewrite.",
            )
        if path in owners:
            raise ClassInvalidError(
                f"{selection} selects '{excerpt(owners[path])}' and '{excerpt(name)}', which have"
                f" the same file path '{excerpt(path)}'",
                "Correct rewrite, so that each name has a path of its own.",
            )
        owners[path] = name
    return chosen


def parse_selection(
    fields: Mapping[str, YamlNode], *, has_folder: bool, refused: Iterable[str] = ()
) -> Selection | None:
    """Return what an entry of `objects` selects; None if it names one object.

    Args:
        fields: of the entry.
        has_folder: whether `find.path` names the folder to list (Vault and OpenBao).
        refused: fields that may not be set beside `find`.

    Raises:
        ClassInvalidError: a field is malformed. The message names no place.
    """
    node = fields.get(FIND)
    if node is None or (isinstance(node, YamlScalar) and node.is_null):
        for name in _SELECTION_FIELDS:
            if name in fields:
                problem = f"{name} has no effect without find"
                raise ClassInvalidError(problem, f"Remove {name}, or add find.")
        return None
    if not isinstance(node, YamlMap):
        raise ClassInvalidError(
            "find is not a mapping", "Write name: {regexp: PATTERN} or tags: below find:."
        )
    for name in (*refused, *_DOES_NOT_APPLY):
        if name in fields:
            raise ClassInvalidError(f"find and {name} are both set", _conflict_remedy(name))
    pattern, tags = _pattern(node.entries), _tags(node.entries.get("tags"))
    folder = (scalar_text(node.entries, "path") or "").strip().strip("/")
    if folder and not has_folder:
        raise ClassInvalidError("find.path is only for Vault and OpenBao", "Remove path.")
    if has_folder and not folder:
        raise ClassInvalidError(
            "find.path is missing",
            "Set it to the folder to list, written like secretPath, such as secret/data/shop.",
        )
    if not pattern and not tags:
        raise ClassInvalidError(
            "find has neither name nor tags",
            "Write name: {regexp: PATTERN} or tags: below find:; the pattern .* means all.",
        )
    return Selection(pattern, tags, folder, _rewrites(fields.get("rewrite")), _max_objects(fields))


def _conflict_remedy(name: str) -> str:
    match name:
        case "objectName" | "secretPath":
            return f"Remove {name}, or remove find to deliver only this object."
        case "objectAlias":
            return "Remove objectAlias; rewrite changes the paths of the files."
        case "jmesPath":
            return "Remove jmesPath; expandKeys: true delivers each key of each object as a file."
        case "default":
            return "Remove default; optional: true lets the volume start without an object."
        case _:
            return f"Remove {name}: find reads the current version of each object."


def _pattern(fields: Mapping[str, YamlNode]) -> str:
    node = fields.get("name")
    if node is None or (isinstance(node, YamlScalar) and node.is_null):
        return ""
    if not isinstance(node, YamlMap):
        raise ClassInvalidError("find.name is not a mapping", "Write name: {regexp: PATTERN}.")
    pattern = scalar_text(node.entries, "regexp")
    if not pattern:
        raise ClassInvalidError("find.name.regexp is missing", "Set it to a pattern, such as ^a-.")
    _check_pattern("find.name.regexp", pattern)
    return pattern


def _tags(node: YamlNode | None) -> tuple[tuple[str, str], ...]:
    if node is None or (isinstance(node, YamlScalar) and node.is_null):
        return ()
    remedy = "Write one 'KEY: VALUE' per tag below tags:."
    if not isinstance(node, YamlMap):
        raise ClassInvalidError("find.tags is not a mapping", remedy)
    tags = []
    for key in node.entries:
        try:
            tags.append((key, scalar_text(node.entries, key) or ""))
        except ClassInvalidError:
            problem = f"find.tags: {excerpt(key)} is a list or a mapping"
            raise ClassInvalidError(problem, remedy) from None
    return tuple(sorted(tags))


def _rewrites(node: YamlNode | None) -> tuple[Rewrite, ...]:
    if node is None or (isinstance(node, YamlScalar) and node.is_null):
        return ()
    remedy = "Write one '- regexp: {source: PATTERN, target: TEXT}' per step below rewrite:."
    if not isinstance(node, YamlList):
        raise ClassInvalidError("rewrite is not a list", remedy)
    if len(node.present) > MAX_REWRITES:
        problem = f"rewrite has {len(node.present)} steps; at most {MAX_REWRITES} are allowed"
        raise ClassInvalidError(problem, "Combine some of them.")
    return tuple(_rewrite(item, index, remedy) for index, item in enumerate(node.present))


def _rewrite(item: YamlNode, index: int, remedy: str) -> Rewrite:
    place = f"rewrite[{index}]"
    inner = item.entries.get("regexp") if isinstance(item, YamlMap) else None
    if not isinstance(inner, YamlMap):
        raise ClassInvalidError(f"{place} has no mapping regexp", remedy)
    try:
        source = scalar_text(inner.entries, "source")
        target = scalar_text(inner.entries, "target") or ""
    except ClassInvalidError as error:
        raise ClassInvalidError(f"{place}.regexp: {error.problem}", error.remedy) from None
    if not source:
        raise ClassInvalidError(f"{place}.regexp.source is missing", remedy)
    if len(target) > MAX_PATTERN:
        problem = f"{place}.regexp.target has more than {MAX_PATTERN} characters"
        raise ClassInvalidError(problem, "Shorten it.")
    _check_pattern(f"{place}.regexp.source", source)
    return Rewrite(source, target)


def _max_objects(fields: Mapping[str, YamlNode]) -> int:
    node = fields.get("maxObjects")
    if node is None or (isinstance(node, YamlScalar) and node.is_null):
        return DEFAULT_MAX_OBJECTS
    text = scalar_text(fields, "maxObjects") or ""
    number = parse_integer(node) if isinstance(node, YamlScalar) else None
    if number is None and text.isascii() and text.isdigit() and len(text) <= 4:
        number = int(text)
    if number is None or not 1 <= number <= MAX_OBJECTS:
        problem = f"maxObjects '{excerpt(text)}' is not a number from 1 to {MAX_OBJECTS}"
        raise ClassInvalidError(problem, f"Write a number, such as {DEFAULT_MAX_OBJECTS}.")
    return number


# --- Patterns -------------------------------------------------------------------------------------


def _check_pattern(field: str, pattern: str) -> None:
    if len(pattern) > MAX_PATTERN:
        problem = f"{field} has more than {MAX_PATTERN} characters"
        raise ClassInvalidError(problem, "Shorten it.")
    try:
        compile_pattern(pattern)
    except ValueError as error:
        raise ClassInvalidError(f"{field} '{excerpt(pattern)}' {error}", _PATTERN_REMEDY) from None


@lru_cache(maxsize=256)
def compile_pattern(pattern: str) -> Any:
    """Return the compiled pattern.

    Raises:
        ValueError: it is invalid; the text completes "the pattern ...".
    """
    import re2  # type: ignore[import-untyped]  # only for SecretProviderClasses that select objects

    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MAX_PROGRAM_BYTES
    try:
        return re2.compile(pattern, options)
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode") from None
    except re2.error as error:
        raise ValueError(f"is not a valid pattern: {_explained(error, pattern)}") from None


def _explained(error: Exception, pattern: str) -> str:
    """Return why RE2 rejects a pattern, with the position of the text that it names."""
    detail = error.args[0] if error.args else ""
    text = detail.decode(errors="replace") if isinstance(detail, bytes) else str(detail)
    reason, separator, fragment = text.partition(": ")
    if reason in ("missing )", "unexpected )"):
        return f"{reason} for position {_unmatched_parenthesis(pattern) + 1}"
    position = pattern.find(fragment) if separator and fragment else -1
    if position < 0:
        return excerpt(reason)
    return f"{reason} at position {position + 1}: '{excerpt(fragment)}'"


def _unmatched_parenthesis(pattern: str) -> int:
    """Return the index of a parenthesis of a pattern that has no counterpart."""
    opened: list[int] = []
    # Escapes and character classes contain no parenthesis that groups.
    for token in re.finditer(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|[()]", pattern, re.DOTALL):
        if token[0] == "(":
            opened.append(token.start())
        elif token[0] == ")":
            if not opened:
                return token.start()
            opened.pop()
    return opened[-1] if opened else 0


def _replaced(name: str, rewrite: Rewrite) -> str:
    """Return `name` with each match replaced, as `ReplaceAllString` of Go does."""

    def expand(match: Any) -> str:
        def group(reference: re.Match[str]) -> str:
            if reference[0] == "$$":
                return "$"
            name = reference[1] or reference[2]
            key = int(name) if name.isdigit() and len(name) < 4 else name
            try:
                return match.group(key) or ""
            except (IndexError, KeyError):
                return ""

        return _REFERENCE.sub(group, rewrite.target)

    result: str = compile_pattern(rewrite.source).sub(expand, name)
    return result
