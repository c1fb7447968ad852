"""Values inside of JSON and YAML, as files of their own: `jmesPath` and `expandKeys`. [pure]

An expression cannot take more time or memory than the value is large, times a constant: its length
and the growth that it can cause are limited.

Source: https://jmespath.org/specification.html
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from keyferry.errors import ClassInvalidError, ObjectUnusableError, excerpt
from keyferry.formats.go_json import NotJsonError, TooManyValuesError, text_bytes
from keyferry.formats.volume_paths import path_problem
from keyferry.formats.yaml_text import YamlError
from keyferry.rendering.spelled_json import (
    MAX_VALUES,
    Spelled,
    read_spelled_json,
    read_spelled_yaml,
    write_spelled,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_EXPRESSION = 1000
"""Characters of an expression."""
MAX_GROWTH = 100
"""How often an expression may repeat a value: the product of the sizes of its lists `[a, b]` and
mappings `{a: b}`."""
MAX_DEPTH = 50
MAX_KEYS = 1000
"""Keys that one object is expanded to."""
MAX_RESULT_BYTES = 1024 * 1024
_MAX_NAMED = 20
_LANGUAGE = "See https://jmespath.org/tutorial.html for the language."


@dataclass(frozen=True, slots=True)
class ExtractionRequest:
    """What to extract from one value.

    Attributes:
        value: the value.
        expressions: JMESPath expressions.
        expands: whether each top-level key is wanted.
        is_yaml: whether the value is YAML; otherwise it is JSON.
    """

    value: bytes = field(repr=False)
    expressions: tuple[str, ...] = ()
    expands: bool = False
    is_yaml: bool = False


@dataclass(frozen=True, slots=True)
class Extracted:
    """What was found.

    Attributes:
        values: of each expression.
        keys: the top-level keys with their values.
        problem: why nothing could be extracted; "" after success.
        remedy: what to do about it.
    """

    values: tuple[bytes, ...] = field(default=(), repr=False)
    keys: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)
    problem: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class ExtractionBatch:
    """Several values, for one parse job."""

    items: tuple[ExtractionRequest, ...]


@dataclass(frozen=True, slots=True)
class ExtractedBatch:
    """What was found in several values, in their order."""

    items: tuple[Extracted, ...]


def extract_batch(batch: ExtractionBatch) -> ExtractedBatch:
    """Return what `extract` finds; a failure is the `problem` of its item."""

    def extracted(request: ExtractionRequest) -> Extracted:
        try:
            return extract(request)
        except ObjectUnusableError as error:
            return Extracted(problem=error.problem, remedy=error.remedy)

    return ExtractedBatch(tuple(map(extracted, batch.items)))


def extract(request: ExtractionRequest) -> Extracted:
    """Return the wanted parts of a value: texts as they are, others as compact JSON.

    Raises:
        ObjectUnusableError: the value is not JSON or YAML, or does not have a part. The message
            names keys, but no value.
    """
    root = _read(request)
    keys = _expand(root, is_yaml=request.is_yaml) if request.expands else ()
    return Extracted(tuple(_search(root, each) for each in request.expressions), keys)


def check_expression(expression: str) -> None:
    """Check that an expression can be used.

    Raises:
        ClassInvalidError: it is not JMESPath, or could take too long.
    """
    _parse(expression)


def _read(request: ExtractionRequest) -> Spelled:
    kind = "YAML" if request.is_yaml else "JSON"
    try:
        if request.is_yaml:
            return read_spelled_yaml(request.value)
        return read_spelled_json(request.value)
    except TooManyValuesError:
        raise ObjectUnusableError(
            f"the value has more than {MAX_VALUES} {kind} values",
            "Store it as several objects.",
        ) from None
    except YamlError as error:
        raise ObjectUnusableError(
            f"the value is not YAML: {error.detail.removeprefix('not YAML: ')}"
            f" (line {error.line} of the value)",
            "Correct the value in the vault, or remove jmesPath and expandKeys.",
        ) from None
    except NotJsonError:
        hint = "" if request.is_yaml else " For YAML, set yaml: true."
        raise ObjectUnusableError(
            f"the value is not {kind}, which jmesPath and expandKeys read",
            f"Correct the value in the vault, or remove them.{hint}",
        ) from None


def _expand(root: Spelled, *, is_yaml: bool) -> tuple[tuple[str, bytes], ...]:
    if not isinstance(root, dict):
        kind = "YAML" if is_yaml else "JSON"
        raise ObjectUnusableError(
            f"the value is {_kind(root)} of {kind}, and only an object has keys for expandKeys",
            "Store an object, or select values with jmesPath.",
        )
    if len(root) > MAX_KEYS:
        raise ObjectUnusableError(
            f"the value has {len(root)} keys; expandKeys makes at most {MAX_KEYS} files",
            "Select values with jmesPath.",
        )
    for key in root:
        problem = path_problem(key) or ("has a '/'" if "/" in key else "")
        if problem:
            raise ObjectUnusableError(
                f"the key '{excerpt(key)}' cannot be the name of a file: it {problem}",
                "Select the values with jmesPath, which names the files.",
            )
    return tuple((key, _contents(item, f"key '{excerpt(key)}'")) for key, item in root.items())


def _search(root: Spelled, expression: str) -> bytes:
    from jmespath.exceptions import JMESPathError

    parsed = _parse(expression)
    about = f"jmesPath '{excerpt(expression)}'"
    try:
        found = parsed.search(root)
    except (JMESPathError, ArithmeticError, RecursionError, TypeError, ValueError) as error:
        # Their texts quote values.
        raise ObjectUnusableError(
            f"{about} cannot be applied to the value ({type(error).__name__})",
            "Check the types of the arguments of functions and comparisons.",
        ) from None
    if found is None:
        raise ObjectUnusableError(
            f"{about} finds nothing: {_explain(parsed.parsed, root)}", "Correct path."
        )
    return _contents(found, about)


def _contents(value: Spelled, about: str) -> bytes:
    if isinstance(value, str):
        return text_bytes(value)
    try:
        return write_spelled(value, max_bytes=MAX_RESULT_BYTES)
    except NotJsonError:
        raise ObjectUnusableError(
            f"{about} has more than {MAX_RESULT_BYTES} bytes", "Select a smaller part."
        ) from None


@lru_cache(maxsize=512)
def _parse(expression: str) -> Any:
    # Imported on use: most SecretProviderClasses have no expression.
    from jmespath import compile as compile_expression
    from jmespath.exceptions import JMESPathError

    shown = excerpt(expression)
    if len(expression) > MAX_EXPRESSION:
        problem = f"the expression has {len(expression)} characters; at most {MAX_EXPRESSION}"
        raise ClassInvalidError(f"{problem} are allowed", "Write several shorter ones.")
    try:
        parsed = compile_expression(expression)
        growth, depth = _growth(parsed.parsed)
        unknown = _unknown_function(parsed.parsed)
    except (JMESPathError, ValueError, RecursionError) as error:
        place = getattr(error, "lex_position", None)
        where = "" if place is None else f" at character {place + 1}"
        raise ClassInvalidError(f"'{shown}' is not JMESPath{where}", _LANGUAGE) from None
    if unknown:
        raise ClassInvalidError(f"'{shown}': there is no function {excerpt(unknown)}", _LANGUAGE)
    if depth > MAX_DEPTH:
        raise ClassInvalidError(f"'{shown}' is nested too deeply", "Write a shorter expression.")
    if growth > MAX_GROWTH:
        raise ClassInvalidError(
            f"'{shown}' repeats parts of the value too often",
            f"The sizes of its lists and mappings, multiplied, may be {MAX_GROWTH} at most.",
        )
    return parsed


def _growth(node: Any) -> tuple[int, int]:
    """Return by how much an expression can enlarge a value, and how deep it is nested."""
    children = [child for child in node.get("children", ()) if isinstance(child, dict)]
    growth, depth = 1, 0
    for child in children:
        inner, below = _growth(child)
        growth, depth = growth * inner, max(depth, below)
    if node["type"] in ("multi_select_list", "multi_select_dict"):
        growth *= max(len(children), 1)
    return growth, depth + 1


def _unknown_function(node: Any) -> str:
    """Return the name of a function that does not exist, or ""."""
    from jmespath.functions import Functions

    if node["type"] == "function_expression" and node["value"] not in Functions.FUNCTION_TABLE:
        return str(node["value"])
    children = (child for child in node.get("children", ()) if isinstance(child, dict))
    return next(filter(None, map(_unknown_function, children)), "")


_CHAINS = frozenset({"subexpression", "pipe", "index_expression"})


def _explain(node: Any, value: Spelled) -> str:  # noqa: PLR0911 - one per kind of node
    """Return why `node` finds nothing in `value`: which keys exist where the path ends."""
    from jmespath.visitor import TreeInterpreter

    if node["type"] in _CHAINS:
        interpreter = TreeInterpreter()
        for child in node["children"]:
            found = interpreter.visit(child, value)
            if found is None:
                return _explain(child, value)
            value = found
        return "the value is null"
    if node["type"] == "field":
        name = excerpt(str(node["value"]))
        if not isinstance(value, dict):
            return f"'{name}' is a key, and the value there is {_kind(value)}"
        if node["value"] in value:
            return f"the value of '{name}' is null"
        return f"there is no key '{name}'; the keys there are: {_listed(list(value))}"
    if node["type"] == "index":
        if isinstance(value, list):
            return f"the list there has {len(value)} items"
        return f"[{node['value']}] selects from a list, and the value there is {_kind(value)}"
    return f"the value there is {_kind(value)}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(excerpt(name) for name in names[:_MAX_NAMED]) or "none"
    more = len(names) - _MAX_NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def _kind(value: Spelled) -> str:
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
