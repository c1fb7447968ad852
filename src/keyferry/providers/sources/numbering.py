"""Numbers the sources of a mount, and names them in errors. [pure]"""

from __future__ import annotations

from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, Protocol, TypeVar

from keyferry.errors import ClassInvalidError, IdentityError, prefixed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from keyferry.errors import KeyferryError

S = TypeVar("S")

MAX_SOURCES = 10
"""The maximum number of sources of one SecretProviderClass: each needs a login of its own."""


class EntryVault(Protocol):
    """The vault and identity that an entry of `objects` names."""

    @property
    def location(self) -> str:
        """The place of the entry, for messages."""

    @property
    def is_inherited(self) -> bool:
        """Whether the entry names nothing."""


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


@contextmanager
def naming_entry(entry_vault: EntryVault, *, alone: bool) -> Iterator[None]:
    """Add the entry that names a source to its errors, unless the SecretProviderClass does.

    Args:
        entry_vault: the vault and identity that the entry names.
        alone: whether all entries have the same source.
    """
    try:
        yield
    except (ClassInvalidError, IdentityError) as error:
        if alone and entry_vault.is_inherited:
            raise
        placed = copy(error)
        placed.problem = f"{error.problem} ({entry_vault.location})"
        raise placed from error.__cause__


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
