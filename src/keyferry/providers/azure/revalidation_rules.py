"""Decides whether a list shows that cached objects are unchanged, and when a list pays. [pure]

The list of a collection (secrets, keys or certificates) contains the time of the last update of
each object, 25 objects a page, without values. Cached content is unchanged if both hold:

1. The update time in the list equals the one that came with the content.
2. The content was requested long enough after that update. Vaults round to whole seconds and their
   clocks may differ from this machine's, so a later update within the tolerance could have the same
   time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.providers.azure.responses import Content

CLOCK_TOLERANCE_SECONDS = 300.0
"""The assumed maximum difference between the clocks of a vault and this machine."""


@dataclass(frozen=True, slots=True)
class TimestampedContent:
    """Content with the time of its request.

    Attributes:
        content: the content.
        requested_at: when it was requested, in seconds since 1970 by the clock of this machine.
    """

    content: Content = field(repr=False)
    requested_at: float


def max_list_pages(cached: int) -> int:
    """Return the maximum number of pages that is cheaper than one request per cached object."""
    return max(cached - 1, 0)


def has_not_changed(name: str, cached: TimestampedContent, last_updated: Mapping[str, int]) -> bool:
    """Return whether a list shows that `cached` is still the content of the object `name`.

    Args:
        name: the name of the object.
        cached: its cached content.
        last_updated: the time of the last update of each listed object, by name in lower case, in
            seconds since 1970 by the vault's clock.
    """
    updated = cached.content.properties.updated_at
    if updated is None or last_updated.get(name.lower()) != updated:
        return False
    return cached.requested_at - updated >= CLOCK_TOLERANCE_SECONDS
