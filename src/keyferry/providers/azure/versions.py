"""Which versions of an object a history holds. [pure]

Two things differ from upstream: n gives n versions and not n + 1, and a version that is not there
is an error and not an empty result.

Source: docs/reference/upstream-azure-provider.md#file-names-and-versions
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.errors import KeyferryError, ObjectNotFoundError
from keyferry.providers.azure.responses import Content

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keyferry.providers.azure.objects import KeyVaultObject, ObjectRef
    from keyferry.providers.azure.responses import ListedVersion


def choose_versions(
    listed: Iterable[ListedVersion], *, start: str, count: int
) -> tuple[ListedVersion, ...]:
    """The newest enabled versions from `start` on, the newest first.

    Args:
        listed: all versions, in the order of the list, which decides between equally old ones.
        start: the version to begin with; "" is the newest.
        count: at most so many.

    Raises:
        ObjectNotFoundError: none is enabled, or `start` is not among those that are.
    """
    enabled = [version for version in listed if version.enabled]
    enabled.sort(key=lambda version: version.created_at, reverse=True)
    if not enabled:
        raise ObjectNotFoundError(
            "it has no enabled version", "Enable one in the vault, or make a new one."
        )
    if not start:
        return tuple(enabled[:count])
    ids = [version.version.lower() for version in enabled]
    if start.lower() not in ids:
        raise ObjectNotFoundError(
            f"version {start} is not among its {len(enabled)} enabled versions",
            "Leave objectVersion empty for the newest ones, or name one that is enabled.",
        )
    first = ids.index(start.lower())
    return tuple(enabled[first : first + count])


# --- What the entries of a class want of the vault, and what came of it ---------------------------


@dataclass(frozen=True, slots=True)
class ObjectRequest:
    """What one entry wants of the vault; equal for entries that show the same.

    Attributes:
        ref: the object, and the version to begin with.
        history: how many versions, at least 1.
    """

    ref: ObjectRef
    history: int


FetchOutcome = tuple[Content, ...] | KeyferryError
"""The versions that came, the newest first, or why there are none."""


def request_for(vault_object: KeyVaultObject) -> ObjectRequest:
    """What an entry wants."""
    return ObjectRequest(vault_object.ref, vault_object.history)
