"""The list of one folder of KV version 2, as one identity sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keyferry.economy.key import FetchKey
from keyferry.economy.proofs import ListRefusedError
from keyferry.vault.kv_list import KvSecret, entries_of, is_provable, still_holds, worth
from keyferry.vault.lease import Issued

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from keyferry.economy.errand import Errand
    from keyferry.vault.client import VaultClient


@dataclass(frozen=True, slots=True)
class FolderList:
    """Implements `Collection`.

    Attributes:
        client: reads with an errand.
        key: of a secret in the folder.
        secret: the same.
    """

    client: Callable[[Errand], VaultClient]
    key: FetchKey
    secret: KvSecret

    @property
    def list_key(self) -> FetchKey:
        """Of the list."""
        item = ("LIST", self.secret.data_prefix)
        return FetchKey(self.key.vault, self.key.identity, item)

    def has(self, key: FetchKey, value: Any) -> bool:
        """Whether `key` is of the current version of a secret in the folder itself."""
        if (key.vault, key.identity) != (self.key.vault, self.key.identity):
            return False
        if key.item != ("GET", self.secret.data_prefix + self._name(key), ""):
            return False
        return isinstance(value, Issued) and is_provable(value.answer)

    def worth(self, held: int) -> int:
        """In entries."""
        return worth(held)

    async def unchanged(
        self, held: Mapping[FetchKey, Issued], errand: Errand, *, most: int
    ) -> frozenset[FetchKey] | None:
        """Which secrets are those that the vault holds now."""
        answer = await self.client(errand).list_folder(self.secret.list_path(most))
        entries = entries_of(answer) if answer else None
        if entries is None:
            raise ListRefusedError
        if len(entries) > most:
            return None
        return frozenset(
            key
            for key, issued in held.items()
            if still_holds(issued.answer, entries.get(self._name(key)))
        )

    @staticmethod
    def _name(key: FetchKey) -> str:
        return key.item[1].rpartition("/")[2]
