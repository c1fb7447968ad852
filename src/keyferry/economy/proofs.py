"""Lists of vaults that spare refreshes their content, for every kind of vault."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Protocol

from keyferry.contract import Purpose
from keyferry.errors import (
    IdentityError,
    KeyferryError,
    VaultThrottledError,
    VaultUnavailableError,
)
from keyferry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.economy.errand import Errand
    from keyferry.economy.hub import Economy
    from keyferry.economy.key import FetchKey
    from keyferry.economy.metrics import Listed

_LIST_SECONDS = 1.0
"""The pods that are due together share one list; what it proves is fresh for the others."""
_KEY_BYTES = 512
"""What a key takes, roughly."""
_LEARNT_SECONDS = 3600.0
"""So long it counts that a list was refused, or is too long."""
_FAILED_SECONDS = 300.0
"""So long a list that has failed is left alone."""
_MET_BY_ALL = (IdentityError, VaultThrottledError, VaultUnavailableError)
"""Errors that are not of a list: who asks for the objects meets them too."""
_MOST = 1000

_log = get_logger("economy")

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
            KeyferryError: it cannot be asked now, or the list cannot be used.
        """


class Proofs:
    """Proves with one list that the objects of an identity have not changed.

    A list only spares calls: where it fails, the objects are asked for, as without lists.

    Args:
        economy: holds the contents, and shares the lists.
    """

    def __init__(self, economy: Economy) -> None:
        self._economy = economy
        self._learnt: OrderedDict[FetchKey, Learnt] = OrderedDict()

    async def has_not_changed(self, collection: Collection) -> bool:
        """Whether the object of `collection.key` is as it was; others are proven along with it.

        Raises:
            IdentityError: there is no token to be had.
            VaultThrottledError: the vault cannot be asked now.
            VaultUnavailableError: likewise.
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
            proven = await collection.unchanged(held, errand.briefly(), most=most)
        except ListRefusedError:
            return self._without(key, "refused", float("inf"), now + _LEARNT_SECONDS)
        except _MET_BY_ALL:
            self._count(key, "failed")
            raise
        except KeyferryError as error:
            _log.warning(
                "a list that would spare calls failed; the objects are read instead",
                vault=key.vault,
                **error.log_pairs(),
            )
            return self._without(key, "failed", float("inf"), now + _FAILED_SECONDS)
        if proven is None:
            return self._without(key, "too_long", most + 1, now + _LEARNT_SECONDS)
        self._count(key, "read")
        self._economy.prove(proven, since=now)
        return proven

    def _without(
        self, key: FetchKey, outcome: Listed, length: float, until: float
    ) -> frozenset[FetchKey]:
        """Nothing is proven, and nobody asks again before `until` where so long a list pays."""
        self._count(key, outcome)
        self._learnt[key] = (length, until)
        self._learnt.move_to_end(key)
        while len(self._learnt) > _MOST:
            self._learnt.popitem(last=False)
        return frozenset()

    def _count(self, key: FetchKey, outcome: Listed) -> None:
        self._economy.metrics.listed(key.vault, key.identity.mode, outcome)
