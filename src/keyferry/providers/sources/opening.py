"""Opens the sources of a mount concurrently."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from keyferry.aio.tasks import map_concurrently
from keyferry.errors import KeyferryError, MountLimitError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

S = TypeVar("S")
T = TypeVar("T")


async def open_all(
    sources: Sequence[S], open_source: Callable[[int, S], Awaitable[T]]
) -> tuple[T | KeyferryError, ...]:
    """Open all sources concurrently; one that fails stops no other.

    Args:
        sources: at least one.
        open_source: logs in to a source, which it gets with its index.

    Returns:
        What `open_source` returned for each source, or its error.

    Raises:
        KeyferryError: the only source failed.
        MountLimitError: a source exceeded the limits of the mount.
    """

    async def attempt(numbered: tuple[int, S]) -> T | KeyferryError:
        try:
            return await open_source(*numbered)
        except MountLimitError:
            raise
        except KeyferryError as error:
            return error

    if len(sources) == 1:
        return (await open_source(0, sources[0]),)
    numbered = tuple(enumerate(sources))
    return tuple(await map_concurrently(attempt, numbered, limit=len(numbered)))
