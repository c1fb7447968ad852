"""Lists of vaults that spare refreshes their content; what is worth a list is in `proof`."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.azure.proof import DatedContent, has_not_changed, pages_worth
from keyferry.contract import Purpose
from keyferry.economy.key import FetchKey
from keyferry.errors import AccessDeniedError, ObjectNotFoundError

if TYPE_CHECKING:
    from keyferry.azure.keyvault import KeyVault
    from keyferry.azure.objects import ObjectType
    from keyferry.economy.errand import Errand
    from keyferry.economy.hub import Economy

READ = "read"
"""The first word of the items whose content is held as `DatedContent`."""
_LIST_SECONDS = 1.0
"""The pods that are due together share one list; what it proves is fresh for the others."""
_KEY_BYTES = 512
"""What a key takes, roughly."""
_LEARNT_SECONDS = 3600.0
"""So long it counts that a list was refused, or had too many pages."""
_MOST = 1000

Learnt = tuple[int, float]
"""How many pages a list has at least, and until when that counts."""


@dataclass(frozen=True, slots=True)
class Collection:
    """One kind of object in one vault, as one identity sees it.

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

    def has(self, key: FetchKey) -> bool:
        """Whether `key` is of the current version of an object in it."""
        same = (key.vault, key.identity) == (self.key.vault, self.key.identity)
        return same and key.item[:2] == (READ, self.type.value) and key.item[3:] == ("",)


class Proofs:
    """Proves with one list that the objects of an identity have not changed.

    Args:
        economy: holds the contents, and shares the lists.
    """

    def __init__(self, economy: Economy) -> None:
        self._economy = economy
        self._learnt: OrderedDict[FetchKey, Learnt] = OrderedDict()

    async def has_not_changed(self, collection: Collection) -> bool:
        """Whether the object of `collection.key` is as it was; others are proven along with it.

        Raises:
            KeyferryError: the vault cannot be asked now.
        """
        proven = await self._economy.fetch(
            collection.list_key,
            lambda errand: self._prove(collection, errand),
            purpose=Purpose.REFRESH,
            max_age=_LIST_SECONDS,
            weigh=lambda keys: _KEY_BYTES * (1 + len(keys)),
            counted=False,
        )
        return collection.key in proven

    async def _prove(self, collection: Collection, errand: Errand) -> frozenset[FetchKey]:
        """What is held and has not changed; nothing where a list is refused or does not pay."""
        now, key = self._economy.now(), collection.list_key
        held = self._held(collection)
        pages, until = self._learnt.get(key, (0, 0.0))
        worth = pages_worth(len(held), pages if now < until else None)
        if not worth:
            return frozenset()
        try:
            updated = await collection.vault.changes(collection.type, errand, pages=worth)
        except (AccessDeniedError, ObjectNotFoundError):
            self._learn(key, _MOST, now)
            return frozenset()
        if updated is None:
            self._learn(key, worth + 1, now)
            return frozenset()
        proven = frozenset(
            key for key, dated in held.items() if has_not_changed(key.item[2], dated, updated)
        )
        self._economy.prove(proven, since=now)
        return proven

    def _held(self, collection: Collection) -> dict[FetchKey, DatedContent]:
        held = self._economy.held(collection.has)
        return {key: value for key, value in held.items() if isinstance(value, DatedContent)}

    def _learn(self, key: FetchKey, pages: int, now: float) -> None:
        self._learnt[key] = (pages, now + _LEARNT_SECONDS)
        self._learnt.move_to_end(key)
        while len(self._learnt) > _MOST:
            self._learnt.popitem(last=False)
