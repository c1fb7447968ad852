"""Numbers the sources of a mount, and names them in errors. [pure]"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from keyferry.errors import ClassInvalidError, prefixed

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from keyferry.errors import KeyferryError

S = TypeVar("S")

MAX_SOURCES = 10
"""The maximum number of sources of one SecretProviderClass: each needs a login of its own."""


def check_source_count(sources: Collection[object]) -> None:
    """Check the number of different sources that a SecretProviderClass names.

    Raises:
        ClassInvalidError: there are too many.
    """
    if len(sources) > MAX_SOURCES:
        raise ClassInvalidError(
            f"objects names {len(sources)} combinations of vault and identity; at most"
            f" {MAX_SOURCES} are allowed, because each needs a login",
            "Split the SecretProviderClass.",
        )


def number_sources(sources: Sequence[S]) -> tuple[tuple[S, ...], tuple[int, ...]]:
    """Return the distinct sources in their order, and for each of `sources` its index in them."""
    distinct = list(dict.fromkeys(sources))
    indexes = {source: index for index, source in enumerate(distinct)}
    return tuple(distinct), tuple(indexes[source] for source in sources)


def naming_object(error: KeyferryError, name: str, *, shown: str) -> KeyferryError:
    """Return an error whose problem names an object of one of several vaults.

    Args:
        error: why the object is not delivered.
        name: of the object in errors about it.
        shown: its name with that of its vault.
    """
    if name in error.problem:
        return error
    named = prefixed(shown, error)
    named.__cause__ = error.__cause__
    return named
