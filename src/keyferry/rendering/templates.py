"""Templates: text with `{{ NAME | filter }}`, where NAME is a file of the volume. [pure]

There are no loops, conditions or functions, so rendering takes time in proportion to its result.
"""

from __future__ import annotations

import difflib
import re
from functools import lru_cache
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.errors import ClassInvalidError, ObjectUnusableError, excerpt
from keyferry.rendering.template_filters import FILTERS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

MAX_TEMPLATE = 64 * 1024
"""Characters of a template."""
MAX_EXPRESSIONS = 1000
MAX_FILTERS = 10
MAX_RESULT_BYTES = 1024 * 1024
_MAX_LISTED = 20
_SPACE = re.compile(r"\s*")
_NAME = re.compile(r"[-._/A-Za-z0-9]+")
_QUOTED = re.compile(r'"([^"\n]*)"')
_FILTER = re.compile(r"\|\s*([A-Za-z0-9_-]*)")
_ARGUMENT = re.compile(r"\(([^()\n]*)\)")
_FOREIGN = re.compile(r"\{\{(-\s|-?\s*([.$%]|(if|else|range|with|end|include|template)\b))")


class Call(Struct, frozen=True):
    """A filter with its argument, which is "" without one."""

    name: str
    argument: str = ""


class Expression(Struct, frozen=True):
    """A file, and the filters that its content passes.

    Attributes:
        name: the path of the file.
        filters: in order.
        place: where the expression is, for messages.
    """

    name: str
    filters: tuple[Call, ...]
    place: str


Part = bytes | Expression


class Template(Struct, frozen=True):
    """A parsed template."""

    parts: tuple[Part, ...]

    @property
    def names(self) -> frozenset[str]:
        """The paths of the files that it uses."""
        return frozenset(part.name for part in self.parts if isinstance(part, Expression))


@lru_cache(maxsize=256)
def parse_template(text: str) -> Template:
    r"""Parse a template; `\{{` is a literal `{{`, and `\\{{` a backslash before an expression.

    Raises:
        ClassInvalidError: it is not a template. The message names line and column.
    """
    if len(text) > MAX_TEMPLATE:
        problem = f"the template has {len(text)} characters; at most {MAX_TEMPLATE} are allowed"
        raise ClassInvalidError(problem, "Split it into several files.")
    parts: list[Part] = []
    position = count = 0
    while (start := text.find("{{", position)) >= 0:
        before = text[position:start]
        escapes, is_literal = divmod(len(before) - len(before.rstrip("\\")), 2)
        kept = len(before) - escapes - is_literal
        parts.append(before[:kept].encode(errors="replace"))
        if is_literal:
            parts.append(b"{{")
            position = start + 2
            continue
        count += 1
        if count > MAX_EXPRESSIONS:
            problem = f"the template has more than {MAX_EXPRESSIONS} expressions"
            raise ClassInvalidError(problem, "Split it into several files.")
        expression, position = _expression(text, start)
        parts.append(expression)
    parts.append(text[position:].encode(errors="replace"))
    return Template(tuple(part for part in parts if part))


def render_template(template: Template, contents: Mapping[str, bytes]) -> bytes:
    """Return the text of a template.

    Args:
        template: the template.
        contents: of the files, by path; all that the template names.

    Raises:
        ObjectUnusableError: a filter cannot be applied to the content of a file, or the content is
            not text and the template has more than this one expression.
    """
    rendered: list[bytes] = []
    room = MAX_RESULT_BYTES
    for part in template.parts:
        made = part if isinstance(part, bytes) else _filtered(part, contents[part.name])
        if isinstance(part, Expression) and len(template.parts) > 1:
            _check_is_text(part, made)
        room -= len(made)
        if room < 0:
            raise ObjectUnusableError(
                f"the file would have more than {MAX_RESULT_BYTES} bytes", "Use smaller objects."
            )
        rendered.append(made)
    return b"".join(rendered)


def missing_name_error(expression: Expression, paths: Collection[str]) -> ClassInvalidError:
    """Return the error for a name that is no file of the volume."""
    close = difflib.get_close_matches(expression.name, paths, n=1)
    question = f"Did you mean '{excerpt(close[0])}'? " if close else ""
    listed = sorted(map(excerpt, paths))
    more = f" and {len(listed) - _MAX_LISTED} more" if len(listed) > _MAX_LISTED else ""
    return ClassInvalidError(
        f"there is no file '{excerpt(expression.name)}' ({expression.place}); the files are:"
        f" {', '.join(listed[:_MAX_LISTED]) or 'none'}{more}",
        f"{question}Write the path of a file: the objectAlias or objectName.",
    )


def expression_of(template: Template, name: str) -> Expression:
    """Return the first expression that uses a file."""
    return next(
        part for part in template.parts if isinstance(part, Expression) and part.name == name
    )


def _expression(text: str, start: int) -> tuple[Expression, int]:
    """Parse the expression at `start`; return it and the position behind it."""
    place = _place(text, start)
    position = _skip(text, start + 2)
    if found := _QUOTED.match(text, position):
        name, position = found[1], found.end()
    elif found := _NAME.match(text, position):
        name, position = found[0], found.end()
    else:
        name = ""
    if not name or (name.startswith(".") and text[position - 1] != '"'):
        raise _syntax_error(text, start, place, name)
    calls: list[Call] = []
    position = _skip(text, position)
    while found := _FILTER.match(text, position):
        call, position = _call(text, found, place)
        calls.append(call)
        position = _skip(text, position)
        if len(calls) > MAX_FILTERS:
            problem = f"more than {MAX_FILTERS} filters follow each other ({place})"
            raise ClassInvalidError(problem, "Use fewer filters.")
    if not text.startswith("}}", position):
        raise _syntax_error(text, start, place, name)
    return Expression(name, tuple(calls), place), position + 2


def _call(text: str, found: re.Match[str], place: str) -> tuple[Call, int]:
    name, position = found[1], found.end()
    if not name:
        problem = f"there is no filter behind '|' ({place})"
        raise ClassInvalidError(problem, f"The filters are: {', '.join(FILTERS)}.")
    known = FILTERS.get(name)
    if known is None:
        close = difflib.get_close_matches(name, FILTERS, n=1)
        question = f"Did you mean {close[0]}? " if close else ""
        raise ClassInvalidError(
            f"there is no filter '{excerpt(name)}' ({place})",
            f"{question}The filters are: {', '.join(FILTERS)}.",
        )
    argument = _ARGUMENT.match(text, position)
    if bool(argument) != bool(known.argument):
        if known.argument:
            problem = f"the filter {name} needs {known.argument} ({place})"
            raise ClassInvalidError(problem, f"Write {known.example}.")
        raise ClassInvalidError(f"the filter {name} has no argument ({place})", f"Write {name}.")
    if argument is None:
        return Call(name), position
    call = Call(name, argument[1].strip().strip('"'))
    try:
        known.apply(b"", call.argument)
    except ClassInvalidError as error:
        raise ClassInvalidError(f"{error.problem} ({place})", error.remedy) from None
    return call, argument.end()


def _filtered(expression: Expression, content: bytes) -> bytes:
    for call in expression.filters:
        about = f"filter {call.name} of '{excerpt(expression.name)}' ({expression.place})"
        try:
            content = FILTERS[call.name].apply(content, call.argument)
        except ObjectUnusableError as error:
            raise ObjectUnusableError(f"{about}: {error.problem}", error.remedy) from None
        if len(content) > MAX_RESULT_BYTES:
            raise ObjectUnusableError(
                f"{about}: the result has more than {MAX_RESULT_BYTES} bytes",
                "Use a smaller object.",
            )
    return content


def _check_is_text(expression: Expression, content: bytes) -> None:
    try:
        content.decode()
    except UnicodeDecodeError:
        raise ObjectUnusableError(
            f"'{excerpt(expression.name)}' is not UTF-8 text, and the template has more than it"
            f" ({expression.place})",
            "Add the filter b64, or use 'template: \"{{ FILE }}\"' to copy the file alone.",
        ) from None


def _syntax_error(text: str, start: int, place: str, name: str) -> ClassInvalidError:
    """Return the error for an expression that ends before its `}}`; `name` is "" without a name."""
    is_closed = "}}" in text[start:]
    remedy = r"Write {{ FILE }} or {{ FILE | filter }}; a literal {{ is \{{."
    if _FOREIGN.match(text, start):
        remedy = (
            "Only {{ FILE | filter }} is possible, without conditions, loops and values of Helm."
            r" In a Helm chart, write {{ `{{ FILE }}` }}; a literal {{ is \{{."
        )
    elif name and is_closed:
        remedy += ' A path with blanks or other special characters needs quotes: {{ "a b" }}.'
    if name.startswith("."):
        remedy += f" The path of a file '{excerpt(name)}' needs quotes."
    problem = "is not possible" if is_closed else "has no }}"
    return ClassInvalidError(f"the expression at {place} {problem}", remedy)


def _skip(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


def _place(text: str, position: int) -> str:
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    return f"line {line}, column {column} of template"
