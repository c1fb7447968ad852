"""JMESPath with limits: reads expressions, and applies them to a value. [pure]

Import this module on use: most SecretProviderClasses have no expression.

What an expression can cost is limited in four ways: its length and depth, how often it may repeat
parts of the value, the steps of one search, and the length of a text that a function makes.

Source: https://jmespath.org/specification.html
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jmespath import Options
from jmespath import compile as compile_expression
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions, signature
from jmespath.visitor import TreeInterpreter

from keyferry.errors import ClassInvalidError, ObjectUnusableError, excerpt
from keyferry.formats.go_json import NotJsonError
from keyferry.rendering.spelled_json import kind_of, write_spelled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyferry.rendering.spelled_json import Spelled

MAX_EXPRESSION = 1000
"""Characters of an expression."""
MAX_GROWTH = 100
"""How often an expression may repeat a value: the product of the sizes of its lists `[a, b]` and
mappings `{a: b}`."""
MAX_DEPTH = 50
MAX_STEPS = 300_000
"""Steps of all expressions of one object; they take about 0.2 s."""
MAX_TEXT = 1024 * 1024
"""Characters of a text that a function makes."""
_MAX_NAMED = 20
_MAX_COMPARED = 100
_LANGUAGE = "See https://jmespath.org/tutorial.html for the language."
_QUOTES = (
    'Put a key with other characters than letters, digits and _ in double quotes: "a-b".c. '
    + _LANGUAGE
)


@lru_cache(maxsize=512)
def parse_expression(expression: str) -> Any:
    """Return the syntax tree of an expression.

    Raises:
        ClassInvalidError: it is not JMESPath, or could take too long.
    """
    shown = excerpt(expression)
    if len(expression) > MAX_EXPRESSION:
        problem = f"the expression has {len(expression)} characters; at most {MAX_EXPRESSION}"
        raise ClassInvalidError(f"{problem} are allowed", "Write several shorter ones.")
    try:
        tree = compile_expression(expression).parsed
        growth, depth = _growth(tree)
        unknown = _unknown_function(tree)
        has_reference = _has_stray_reference(tree)
    except (JMESPathError, ValueError, RecursionError) as error:
        place = getattr(error, "lex_position", None)
        where = "" if place is None else f" at character {place + 1}"
        needs_quotes = '"' not in expression and re.search(r"\w[-/:$+]\w", expression)
        remedy = _QUOTES if needs_quotes else _LANGUAGE
        raise ClassInvalidError(f"'{shown}' is not JMESPath{where}", remedy) from None
    if unknown:
        close = get_close_matches(unknown[:_MAX_COMPARED], list(_Functions.FUNCTION_TABLE), n=1)
        question = f"Did you mean {close[0]}? " if close else ""
        problem = f"'{shown}': there is no function {excerpt(unknown)}"
        raise ClassInvalidError(problem, question + _LANGUAGE)
    if has_reference:
        raise ClassInvalidError(
            f"'{shown}' has an expression with & where a value is needed",
            f"Only these functions take one: {', '.join(sorted(_TAKE_REFERENCES))}. {_LANGUAGE}",
        )
    if depth > MAX_DEPTH:
        raise ClassInvalidError(f"'{shown}' is nested too deeply", "Write a shorter expression.")
    if growth > MAX_GROWTH:
        raise ClassInvalidError(
            f"'{shown}' repeats parts of the value too often",
            f"The sizes of its lists and mappings, multiplied, may be {MAX_GROWTH} at most.",
        )
    return tree


class Searcher:
    """Applies expressions to one value; they share a number of steps.

    Args:
        root: the value.
    """

    def __init__(self, root: Spelled) -> None:
        self._root = root
        self._interpreter = _Interpreter()

    def search(self, expression: str) -> Spelled:
        """Return what an expression finds, which is not null.

        Raises:
            ClassInvalidError: it is not JMESPath.
            ObjectUnusableError: it finds nothing, or cannot be applied to the value. The message
                names keys, but no value.
        """
        tree = parse_expression(expression)
        about = f"jmesPath '{excerpt(expression)}'"
        try:
            found: Spelled = self._interpreter.visit(tree, self._root)
            if found is None:
                problem, remedy = self._explain(tree, self._root)
                raise ObjectUnusableError(f"{about} finds nothing: {problem}", remedy)
        except _TooManyStepsError:
            raise ObjectUnusableError(
                f"{about} takes more than {MAX_STEPS} steps, with those before it",
                "Write a simpler expression, or store the value as several objects.",
            ) from None
        except _TextTooLongError:
            raise ObjectUnusableError(
                f"{about} makes a text of more than {MAX_TEXT} characters",
                "Select a smaller part.",
            ) from None
        except (JMESPathError, ArithmeticError, RecursionError, TypeError, ValueError) as error:
            # Their texts quote values.
            raise ObjectUnusableError(
                f"{about} cannot be applied to the value ({type(error).__name__})",
                "Check the types of the arguments of functions and comparisons.",
            ) from None
        return found

    def _explain(  # noqa: PLR0911 - one per kind of node
        self, node: Any, value: Spelled
    ) -> tuple[str, str]:
        """Return why `node` finds nothing in `value`, which keys exist there, and a remedy."""
        remedy = "Correct the path of jmesPath, or the value in the vault."
        kind = kind_of(value)
        match node["type"]:
            case "subexpression" | "pipe" | "index_expression":
                for child in node["children"]:
                    found = self._interpreter.visit(child, value)
                    if found is None:
                        return self._explain(child, value)
                    value = found
            case "field":
                name = str(node["value"])
                if not isinstance(value, dict):
                    return f"'{excerpt(name)}' is a key, and the value there is {kind}", remedy
                if name in value:
                    return f"the value of '{excerpt(name)}' is null", remedy
                keys = f"the keys there are: {_listed(list(value))}"
                return f"there is no key '{excerpt(name)}'; {keys}", _suggest(name, value) + remedy
            case "index" if isinstance(value, list):
                return f"the list there has {_counted(len(value))}", remedy
            case "index":
                problem = f"[{node['value']}] selects from a list, and the value there is {kind}"
                return problem, remedy
        keys = f" with the keys: {_listed(list(value))}" if isinstance(value, dict) else ""
        return f"the value that it reads is {kind}{keys}", remedy


class _TooManyStepsError(Exception):
    """The expressions take more than `MAX_STEPS`."""


class _TextTooLongError(Exception):
    """A function would make a text of more than `MAX_TEXT` characters."""


class _Functions(Functions):
    """The functions of JMESPath. Those that make texts have a limit, and keep numbers' spelling."""

    @signature({"types": ["string"]}, {"types": ["array-string"]})
    def _func_join(self, separator: str, texts: Sequence[str]) -> str:
        size = sum(map(len, texts)) + len(separator) * len(texts)
        if size > MAX_TEXT:
            raise _TextTooLongError
        return separator.join(texts)

    @signature({"types": []})
    def _func_to_string(self, value: Spelled) -> str:
        if isinstance(value, str):
            return value
        try:
            return write_spelled(value, max_bytes=MAX_TEXT).decode()
        except NotJsonError:
            raise _TextTooLongError from None


class _Interpreter(TreeInterpreter):
    """Counts steps: one for each visit of a node, and one for each item that it works on."""

    def __init__(self) -> None:
        functions = _Functions()
        super().__init__(Options(custom_functions=functions))
        self._limited = functions
        self._steps = MAX_STEPS

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        self._spend(1)
        return super().visit(node, *args, **kwargs)

    def visit_function_expression(self, node: Any, value: Any) -> Any:
        arguments = [self.visit(child, value) for child in node["children"]]
        self._spend(sum(map(_size, arguments)))
        found = self._limited.call_function(node["value"], arguments)
        if node["value"] == "to_string" and found is not arguments[0]:
            # What is written may be nested: the text shows how much it is.
            self._spend(len(found) // 4)
        return found

    def visit_flatten(self, node: Any, value: Any) -> Any:
        found = super().visit_flatten(node, value)
        self._spend(_size(found))
        return found

    def visit_slice(self, node: Any, value: Any) -> Any:
        self._spend(_size(value))
        return super().visit_slice(node, value)

    def visit_comparator(self, node: Any, value: Any) -> Any:
        self._spend(_size(value))
        return super().visit_comparator(node, value)

    def _spend(self, steps: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise _TooManyStepsError


def _size(value: Any) -> int:
    """Return about how many items an operation on `value` works on."""
    if isinstance(value, str):
        return len(value) // 100
    return len(value) if isinstance(value, (list, dict)) else 0


def _growth(node: Any) -> tuple[int, int]:
    """Return by how much an expression can enlarge a value, and how deep it is nested."""
    children = _children(node)
    growth, depth = 1, 0
    for child in children:
        inner, below = _growth(child)
        growth, depth = growth * inner, max(depth, below)
    if node["type"] in ("multi_select_list", "multi_select_dict"):
        growth *= max(len(children), 1)
    return growth, depth + 1


def _unknown_function(node: Any) -> str:
    """Return the name of a function that does not exist, or ""."""
    if node["type"] == "function_expression" and node["value"] not in _Functions.FUNCTION_TABLE:
        return str(node["value"])
    return next(filter(None, map(_unknown_function, _children(node))), "")


_TAKE_REFERENCES = frozenset({"map", "max_by", "min_by", "sort_by"})


def _has_stray_reference(node: Any, *, is_allowed: bool = False) -> bool:
    """Return whether `&expression` occurs elsewhere than as an argument of these functions."""
    if node["type"] == "expref" and not is_allowed:
        return True
    takes = node["type"] == "function_expression" and node["value"] in _TAKE_REFERENCES
    return any(_has_stray_reference(child, is_allowed=takes) for child in _children(node))


def _children(node: Any) -> list[Any]:
    # The children of a slice are numbers.
    return [child for child in node.get("children", ()) if isinstance(child, dict)]


def _suggest(name: str, value: dict[str, Spelled]) -> str:
    names = [key for key in list(value)[:_MAX_COMPARED] if len(key) <= _MAX_COMPARED]
    close = get_close_matches(name[:_MAX_COMPARED], names, n=1)
    return f"Did you mean '{excerpt(close[0])}'? " if close else ""


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(excerpt(name) for name in names[:_MAX_NAMED]) or "none"
    more = len(names) - _MAX_NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def _counted(count: int) -> str:
    return "1 item" if count == 1 else f"{count} items"
