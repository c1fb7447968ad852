"""One error for all the objects of a mount that failed. [pure]"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyferry.errors import KeyferryError

E = TypeVar("E", bound="KeyferryError")

_NAMED = 10
"""So many further failures a message names before it only counts."""


def within(context: str, error: E) -> E:
    """A copy of `error` that begins with `context`; mounts may share the error itself."""
    copied = copy(error)
    copied.problem = f"{context}: {error.problem}"
    return copied


def first_of(failures: Sequence[tuple[str, KeyferryError]], context: str = "") -> KeyferryError:
    """The first failure, with the names of the others.

    Args:
        failures: object and error, at least one.
        context: what precedes the problem of the first one; "" for nothing.
    """
    (about, first), others = failures[0], failures[1:]
    error = within(context, first) if context else copy(first)
    names = [name for name in dict.fromkeys(name for name, _ in others) if name != about]
    if names:
        more = len(names) - _NAMED
        tail = f" and {more} more" if more > 0 else ""
        error.problem += f"; also failed: {', '.join(names[:_NAMED])}{tail}"
    error.about = about
    error.__cause__ = first.__cause__
    return error
