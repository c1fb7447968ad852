"""Lists of vaults that spare refreshes their content, for every kind of vault."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Protocol

from keyferry.contract import Purpose

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.economy.errand import Errand
    from keyferry.economy.hub import Economy
    from keyferry.economy.key import FetchKey

_LIST_SECONDS = 1.0
"""The pods that are due together share one list; what it proves is fresh for the others."""
_KEY_BYTES = 512
"""What a key takes, roughly."""
_LEARNT_SECONDS = 3600.0
"""So long it counts that a list was refused, or is too long."""
_MOST = 1000

Learnt = tuple[float, float]
"""How long a list is at least, and until when that counts."""


class ListRefusedError(Exception):
    """The vault gives this identity no such list."""


class Collection(Protocol):
    """The objects that one list of a vault tells of, as one identity sees them."""

    @property
    def key(self) -> FetchKey:
        """Of the object that is to be proven."""

    @property
    def list_key(self) -> FetchKey:
        """Of the list."""

    def has(self, key: FetchKey, value: Any) -> bool:
        """Whether the list can prove the answer `value` that is held under `key`."""

    def worth(self, held: int) -> int:
        """How long a list may be that spares the calls for so many answers; 0: it spares none."""

    async def unchanged(
        self, held: Mapping[FetchKey, Any], errand: Errand, *, most: int
    ) -> frozenset[FetchKey] | None:
        """Which answers still hold; None for a list that is longer than `most`.

        Raises:
            ListRefusedError: the vault gives no such list.
            KeyferryError: it cannot be asked now.
        """


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
        held = self._economy.provable(collection.has)
        most = collection.worth(len(held))
        shortest, until = self._learnt.get(key, (0.0, 0.0))
        if most < 1 or (now < until and most < shortest):
            return frozenset()
        try:
            proven = await collection.unchanged(held, errand, most=most)
        except ListRefusedError:
            self._learn(key, float("inf"), now)
            return frozenset()
        if proven is None:
            self._learn(key, most + 1, now)
            return frozenset()
        self._economy.prove(proven, since=now)
        return proven

    def _learn(self, key: FetchKey, length: float, now: float) -> None:
        self._learnt[key] = (length, now + _LEARNT_SECONDS)
        self._learnt.move_to_end(key)
        while len(self._learnt) > _MOST:
            self._learnt.popitem(last=False)
