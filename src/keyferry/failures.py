"""One error for all the objects of a mount that failed. [pure]"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyferry.errors import KeyferryError

E = TypeVar("E", bound="KeyferryError")

_MAX_NAMES = 10
"""So many further failures a message names before it only counts."""


def prefixed(prefix: str, error: E) -> E:
    """A copy of `error` that begins with `prefix`; mounts may share the error itself."""
    copied = copy(error)
    copied.problem = f"{prefix}: {error.problem}"
    return copied


def combined(failures: Sequence[tuple[str, KeyferryError]], prefix: str = "") -> KeyferryError:
    """The first failure, with the names of the others.

    Args:
        failures: object and error, at least one.
        prefix: what precedes the problem of the first one; "" for nothing.
    """
    (about, first), others = failures[0], failures[1:]
    error = prefixed(prefix, first) if prefix else copy(first)
    names = [name for name in dict.fromkeys(name for name, _ in others) if name != about]
    if names:
        more = len(names) - _MAX_NAMES
        tail = f" and {more} more" if more > 0 else ""
        error.problem += f"; also failed: {', '.join(names[:_MAX_NAMES])}{tail}"
    error.object_name = about
    error.__cause__ = first.__cause__
    return error
