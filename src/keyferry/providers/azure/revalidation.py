"""Revalidates cached objects with list requests, by the rules of `revalidation_rules`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from keyferry.errors import AccessDeniedError, ObjectNotFoundError
from keyferry.providers.azure.keyvault import MAX_PAGES
from keyferry.providers.azure.revalidation_rules import (
    TimestampedContent,
    has_not_changed,
    max_list_pages,
)
from keyferry.resilience.cache_key import CacheKey
from keyferry.resilience.revalidation import ListRefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.providers.azure.keyvault import KeyVault
    from keyferry.providers.azure.objects import ObjectType
    from keyferry.resilience.call_context import CallContext

READ_VERB = "read"
"""The first part of the cache key of a `TimestampedContent`."""


class CollectionListing(Struct, frozen=True):
    """Implements `RevalidationList` for the objects of one type in one vault, for one identity.

    Attributes:
        vault: sends the list requests.
        key: the cache key of any object in the list.
        type: the type of the objects.
        known: the last updates by name in lower case, if the mount has just listed the objects;
            None to list them.
    """

    vault: KeyVault
    key: CacheKey
    type: ObjectType
    known: Mapping[str, int] | None = None

    @property
    def list_key(self) -> CacheKey:
        """The cache key of the list itself."""
        return CacheKey(self.key.vault, self.key.identity, ("list changes", self.type.value))

    def covers(self, key: CacheKey, value: Any) -> bool:
        """Return whether `key` is the current version of an object in the list."""
        same_vault = (key.vault, key.identity) == (self.key.vault, self.key.identity)
        in_list = key.resource[:2] == (READ_VERB, self.type.value) and key.resource[3:] == ("",)
        return same_vault and in_list and isinstance(value, TimestampedContent)

    def max_length(self, cached: int) -> int:
        """Return the maximum length in pages."""
        return MAX_PAGES if self.known is not None else max_list_pages(cached)

    async def find_unchanged(
        self, cached: Mapping[CacheKey, TimestampedContent], context: CallContext, *, limit: int
    ) -> frozenset[CacheKey] | None:
        """Return the keys whose cached content is unchanged; None if the list is too long.

        Raises:
            ListRefusedError: the identity may not list these objects.
        """
        updated: Mapping[str, int] | None = self.known
        try:
            if updated is None:
                updated = await self.vault.list_last_updated(self.type, context, max_pages=limit)
        except (AccessDeniedError, ObjectNotFoundError) as error:
            raise ListRefusedError from error
        if updated is None:
            return None
        return frozenset(
            key
            for key, content in cached.items()
            if has_not_changed(key.resource[2], content, updated)
        )
