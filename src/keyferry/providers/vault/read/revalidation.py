"""The list of one folder of KV version 2, as one identity sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keyferry.providers.vault.leases.lease import ReadResult
from keyferry.providers.vault.read.kv_list import (
    KvSecret,
    is_revalidatable,
    is_unchanged,
    listed_entries,
    max_list_entries,
)
from keyferry.resilience.cache_key import CacheKey
from keyferry.resilience.revalidation import ListRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from keyferry.providers.vault.read.client import VaultClient
    from keyferry.resilience.call_context import CallContext


@dataclass(frozen=True, slots=True)
class KvListing:
    """Implements `Collection`.

    Attributes:
        client_for: returns a client for a call.
        key: of a secret in the folder.
        secret: the same.
    """

    client_for: Callable[[CallContext], VaultClient]
    key: CacheKey
    secret: KvSecret

    @property
    def list_key(self) -> CacheKey:
        """Of the list."""
        item = ("LIST", self.secret.data_prefix)
        return CacheKey(self.key.vault, self.key.identity, item)

    def covers(self, key: CacheKey, value: Any) -> bool:
        """Whether `key` is of the current version of a secret in the folder itself."""
        if (key.vault, key.identity) != (self.key.vault, self.key.identity):
            return False
        if key.resource != ("GET", self.secret.data_prefix + self._secret_name(key), ""):
            return False
        return isinstance(value, ReadResult) and is_revalidatable(value.response)

    def max_length(self, cached: int) -> int:
        """In entries."""
        return max_list_entries(cached)

    async def find_unchanged(
        self, cached: Mapping[CacheKey, ReadResult], context: CallContext, *, limit: int
    ) -> frozenset[CacheKey] | None:
        """Which secrets are those that the vault holds now."""
        answer = await self.client_for(context).list_folder(self.secret.list_path(limit))
        entries = listed_entries(answer) if answer else None
        if entries is None:
            raise ListRefusedError
        if len(entries) > limit:
            return None
        return frozenset(
            key
            for key, issued in cached.items()
            if is_unchanged(issued.response, entries.get(self._secret_name(key)))
        )

    @staticmethod
    def _secret_name(key: CacheKey) -> str:
        return key.resource[1].rpartition("/")[2]
