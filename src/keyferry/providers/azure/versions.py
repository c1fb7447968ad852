"""Selects the versions of an object for its history. [pure]

Differences from upstream: a history of n has n versions, not n + 1, and a missing version is an
error, not an empty result.

Source: docs/reference/upstream-azure-provider.md#file-names-and-versions
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.errors import KeyferryError, ObjectMissingError
from keyferry.providers.azure.responses import Content

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keyferry.providers.azure.objects import KeyVaultObject, ObjectRef
    from keyferry.providers.azure.responses import ListedVersion


def choose_versions(
    listed: Iterable[ListedVersion], *, start: str, count: int
) -> tuple[ListedVersion, ...]:
    """Return the enabled versions from `start` on, newest first.

    Args:
        listed: all versions in the order of the list, which breaks ties of equal age.
        start: the first version; "" means the newest.
        count: the maximum number of versions.

    Raises:
        ObjectMissingError: no version is enabled, or `start` is not an enabled version.
    """
    enabled = [version for version in listed if version.enabled]
    enabled.sort(key=lambda version: version.created_at, reverse=True)
    if not enabled:
        raise ObjectMissingError(
            "it has no enabled version", "Enable a version in the vault, or create a new one."
        )
    if not start:
        return tuple(enabled[:count])
    ids = [version.version.lower() for version in enabled]
    if start.lower() not in ids:
        raise ObjectMissingError(
            f"version {start} is not among its {len(enabled)} enabled versions",
            "Leave objectVersion empty for the newest versions, or set it to an enabled one.",
        )
    first = ids.index(start.lower())
    return tuple(enabled[first : first + count])


class ObjectDisabledError(ObjectMissingError):
    """The requested version of an object, or its current one, is disabled."""


def disabled_error(
    error: ObjectDisabledError, listed: Iterable[ListedVersion] | None
) -> ObjectDisabledError:
    """Return the error for a current version that is disabled, with the version to use instead.

    Args:
        error: the error for the current version.
        listed: all versions; None if the vault does not permit to list them.
    """
    enable = error.remedy.rstrip(".")
    if listed is None:
        return ObjectDisabledError(
            error.problem, f"{enable}; or set objectVersion to an enabled version."
        )
    try:
        (newest,) = choose_versions(listed, start="", count=1)
    except ObjectMissingError as none:
        return ObjectDisabledError(f"{error.problem}; {none.problem}", f"{enable}.")
    problem = f"{error.problem}; its newest enabled version is {newest.version}"
    return ObjectDisabledError(problem, f"{enable}; or set objectVersion: {newest.version}.")


# --- Requests to the vault, and their outcomes ----------------------------------------------------


class ObjectRequest(Struct, frozen=True):
    """A request for versions of an object; equal for entries that deliver the same content.

    Attributes:
        ref: the object with its first version.
        history: the number of versions, at least 1.
        source: the index of the source that has the object.
    """

    ref: ObjectRef
    history: int
    source: int = 0


FetchOutcome = tuple[Content, ...] | KeyferryError
"""The fetched versions, newest first, or the error."""


def request_for(vault_object: KeyVaultObject) -> ObjectRequest:
    """Return the request for an entry."""
    return ObjectRequest(vault_object.ref, vault_object.history, vault_object.source)
