"""Lists of Key Vault that spare refreshes their content; what they prove is in `proof`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keyferry.azure.proof import DatedContent, has_not_changed, pages_worth
from keyferry.economy.key import FetchKey
from keyferry.economy.proofs import ListRefusedError
from keyferry.errors import AccessDeniedError, ObjectNotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.azure.keyvault import KeyVault
    from keyferry.azure.objects import ObjectType
    from keyferry.economy.errand import Errand

READ = "read"
"""The first word of the items whose content is held as `DatedContent`."""


@dataclass(frozen=True, slots=True)
class VaultList:
    """Implements `Collection`: one kind of object in one vault, as one identity sees it.

    Attributes:
        vault: reads it.
        key: of an object in it.
        type: the kind.
    """

    vault: KeyVault
    key: FetchKey
    type: ObjectType

    @property
    def list_key(self) -> FetchKey:
        """Of its list."""
        return FetchKey(self.key.vault, self.key.identity, ("list changes", self.type.value))

    def has(self, key: FetchKey, value: Any) -> bool:
        """Whether `key` is of the current version of an object in it."""
        same = (key.vault, key.identity) == (self.key.vault, self.key.identity)
        here = key.item[:2] == (READ, self.type.value) and key.item[3:] == ("",)
        return same and here and isinstance(value, DatedContent)

    def worth(self, held: int) -> int:
        """In pages."""
        return pages_worth(held)

    async def unchanged(
        self, held: Mapping[FetchKey, DatedContent], errand: Errand, *, most: int
    ) -> frozenset[FetchKey] | None:
        """Which contents are those that the vault holds now."""
        try:
            updated = await self.vault.changes(self.type, errand, pages=most)
        except (AccessDeniedError, ObjectNotFoundError) as error:
            raise ListRefusedError from error
        if updated is None:
            return None
        same = (key for key, dated in held.items() if has_not_changed(key.item[2], dated, updated))
        return frozenset(same)
