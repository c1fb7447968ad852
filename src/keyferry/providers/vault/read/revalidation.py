"""Revalidates cached KV version 2 secrets of one folder with one list request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

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


class KvListing(Struct, frozen=True):
    """Implements `Collection` for the secrets of one folder that one identity may list.

    Attributes:
        client_for: returns a client for a call.
        key: cache key of one secret in the folder.
        secret: the path of that secret.
    """

    client_for: Callable[[CallContext], VaultClient]
    key: CacheKey
    secret: KvSecret

    @property
    def list_key(self) -> CacheKey:
        """The cache key of the list."""
        item = ("LIST", self.secret.data_prefix)
        return CacheKey(self.key.vault, self.key.identity, item)

    def covers(self, key: CacheKey, value: Any) -> bool:
        """Return whether the list can revalidate a cache entry.

        It can for the current version of a secret directly in the folder, read by this identity.

        Args:
            key: key of the entry.
            value: cached value.
        """
        if (key.vault, key.identity) != (self.key.vault, self.key.identity):
            return False
        if key.resource != ("GET", self.secret.data_prefix + self._secret_name(key), ""):
            return False
        return isinstance(value, ReadResult) and is_revalidatable(value.response)

    def max_length(self, cached: int) -> int:
        """Return the largest worthwhile list, in entries, for `cached` cached secrets."""
        return max_list_entries(cached)

    async def find_unchanged(
        self, cached: Mapping[CacheKey, ReadResult], context: CallContext, *, limit: int
    ) -> frozenset[CacheKey] | None:
        """List the folder and compare it with cached secrets.

        Args:
            cached: cached secrets by their keys.
            context: context of the call.
            limit: maximum number of entries.

        Returns:
            The keys of the secrets that have not changed; None if the list is longer than `limit`.

        Raises:
            ListRefusedError: this identity may not list the folder, or the vault cannot.
        """
        response = await self.client_for(context).list_folder(self.secret.list_path(limit))
        entries = listed_entries(response) if response else None
        if entries is None:
            raise ListRefusedError
        if len(entries) > limit:
            return None
        return frozenset(
            key
            for key, result in cached.items()
            if is_unchanged(result.response, entries.get(self._secret_name(key)))
        )

    @staticmethod
    def _secret_name(key: CacheKey) -> str:
        return key.resource[1].rpartition("/")[2]
