"""Lists of Key Vault that spare refreshes their content; what they prove is in `proof`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keyferry.errors import AccessDeniedError, ObjectNotFoundError
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
"""The first word of the items whose content is held as `DatedContent`."""


@dataclass(frozen=True, slots=True)
class CollectionListing:
    """Implements `Collection`: one kind of object in one vault, as one identity sees it.

    Attributes:
        vault: reads it.
        key: of an object in it.
        type: the kind.
    """

    vault: KeyVault
    key: CacheKey
    type: ObjectType

    @property
    def list_key(self) -> CacheKey:
        """Of its list."""
        return CacheKey(self.key.vault, self.key.identity, ("list changes", self.type.value))

    def covers(self, key: CacheKey, value: Any) -> bool:
        """Whether `key` is of the current version of an object in it."""
        same = (key.vault, key.identity) == (self.key.vault, self.key.identity)
        here = key.resource[:2] == (READ_VERB, self.type.value) and key.resource[3:] == ("",)
        return same and here and isinstance(value, TimestampedContent)

    def max_length(self, cached: int) -> int:
        """In pages."""
        return max_list_pages(cached)

    async def find_unchanged(
        self, cached: Mapping[CacheKey, TimestampedContent], context: CallContext, *, limit: int
    ) -> frozenset[CacheKey] | None:
        """Which contents are those that the vault holds now."""
        try:
            updated = await self.vault.list_last_updated(self.type, context, max_pages=limit)
        except (AccessDeniedError, ObjectNotFoundError) as error:
            raise ListRefusedError from error
        if updated is None:
            return None
        same = (
            key for key, dated in cached.items() if has_not_changed(key.resource[2], dated, updated)
        )
        return frozenset(same)
