"""Whether one list proves that many objects of a vault have not changed, and pays. [pure]

The list of a collection (secrets, keys or certificates) tells of 25 objects a page when each was
changed last, without a value. An object whose time is the one that came with the held content has
not changed, once that time is so long ago that no two changes can share it: a vault tells whole
seconds, and its clock may differ from ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.providers.azure.responses import Content

CLOCK_TOLERANCE_SECONDS = 300.0
"""A change is told from an earlier one of the same second, and clocks may differ by so much."""


@dataclass(frozen=True, slots=True)
class TimestampedContent:
    """A content, and when it was asked for.

    Attributes:
        content: it.
        requested_at: in seconds since 1970, by our clock.
    """

    content: Content = field(repr=False)
    requested_at: float


def max_list_pages(cached: int) -> int:
    """How many pages it pays to read, at the most: fewer than the objects, one call each."""
    return max(cached - 1, 0)


def has_not_changed(name: str, cached: TimestampedContent, last_updated: Mapping[str, int]) -> bool:
    """Whether a list proves that `cached` is what the vault holds under `name`.

    Args:
        name: of the object.
        cached: its content.
        last_updated: when each object of the list was changed last, by name in lower case, in
            seconds since 1970 by the vault's clock.
    """
    updated = cached.content.properties.updated_at
    if updated is None or last_updated.get(name.lower()) != updated:
        return False
    return cached.requested_at - updated >= CLOCK_TOLERANCE_SECONDS
