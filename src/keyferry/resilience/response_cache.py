"""The cached responses of vaults, and which volumes use them. [pure]

A response stays cached while it can save a request: for the cache TTL without a volume that uses
it, and for as long as a refresh may reuse or revalidate it with one. The size of all responses is
limited. At the limit, the tenant with the most bytes loses its least recently used responses, so
that a tenant with many responses evicts none of others.

Times are seconds of any monotonic clock.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from keyferry.resilience.cache_key import CacheKey, IdentityKey

_REVALIDATABLE_SECONDS = 3600.0
"""Revalidation confirms that content is current, but not that the identity may still read it. After
this time the content is requested again, so that a revoked permission takes effect."""


class CacheLimits(Struct, frozen=True):
    """The limits of the response cache."""

    unretained_ttl: float
    """Seconds for which a response is cached that no volume uses."""
    retained_ttl: float
    """Seconds for which a response is cached that a volume uses."""
    max_bytes: int
    """The size of all responses."""


@dataclass(slots=True)
class CacheEntry:
    """A response of a vault.

    Attributes:
        value: the content.
        size: in bytes.
        validated_at: when the vault was last asked whether the value is current.
        fetched_at: when the vault was asked for the value.
        tenant: the tenant that the vault was asked for.
    """

    value: Any = field(repr=False)
    size: int
    validated_at: float
    fetched_at: float
    tenant: str = ""


class _TenantShare:
    """The responses of one tenant, the least recently used first."""

    __slots__ = ("bytes", "keys")

    def __init__(self) -> None:
        self.bytes = 0
        self.keys: OrderedDict[CacheKey, None] = OrderedDict()


class ResponseCache:
    """The cached responses.

    Args:
        limits: time and size.

    Attributes:
        evictions: how many responses were dropped, or not cached, because of the limit of the size.
    """

    def __init__(self, limits: CacheLimits) -> None:
        self._limits = limits
        self.evictions = 0
        self._entries: dict[CacheKey, CacheEntry] = {}
        self._of_identity: dict[tuple[str, IdentityKey], dict[CacheKey, None]] = {}
        """The keys of each identity in each vault."""
        self._shares: dict[str, _TenantShare] = {}
        self._bytes = 0
        self._volumes: dict[CacheKey, set[str]] = {}
        self._retained: dict[str, dict[CacheKey, float]] = {}

    @property
    def max_bytes(self) -> int:
        """The limit of the size of all cached responses."""
        return self._limits.max_bytes

    @property
    def total_bytes(self) -> int:
        """The size of all cached responses."""
        return self._bytes

    def get(self, key: CacheKey) -> CacheEntry | None:
        """Return the entry, however old, and make it the most recently used."""
        entry = self._entries.get(key)
        if entry is not None:
            self._shares[entry.tenant].keys.move_to_end(key)
        return entry

    def peek(self, key: CacheKey) -> CacheEntry | None:
        """Return the entry, however old, without a use of it."""
        return self._entries.get(key)

    def put(self, key: CacheKey, entry: CacheEntry) -> None:
        """Cache an entry, unless it alone is larger than the cache."""
        self.drop(key)
        if entry.size > self._limits.max_bytes:
            self.evictions += 1
            return
        self._entries[key] = entry
        self._of_identity.setdefault((key.vault, key.identity), {})[key] = None
        self._bytes += entry.size
        share = self._shares.setdefault(entry.tenant, _TenantShare())
        share.bytes += entry.size
        share.keys[key] = None
        while self._bytes > self._limits.max_bytes:
            largest = max(self._shares.values(), key=lambda share: share.bytes)
            self.drop(next(iter(largest.keys)))
            self.evictions += 1

    def mark_validated(self, key: CacheKey, *, validated_at: float) -> None:
        """Record that the vault was asked at `validated_at` and the value is current."""
        if entry := self._entries.get(key):
            entry.validated_at = max(entry.validated_at, validated_at)

    def drop(self, key: CacheKey) -> None:
        """Remove an entry."""
        if entry := self._entries.pop(key, None):
            own = self._of_identity[key.vault, key.identity]
            del own[key]
            if not own:
                del self._of_identity[key.vault, key.identity]
            self._bytes -= entry.size
            share = self._shares[entry.tenant]
            share.bytes -= entry.size
            del share.keys[key]
            if not share.keys:
                del self._shares[entry.tenant]

    def clear(self) -> None:
        """Remove all entries and all volumes."""
        self._entries.clear()
        self._of_identity.clear()
        self._shares.clear()
        self._bytes = 0
        self._volumes.clear()
        self._retained.clear()

    def retain(self, key: CacheKey, volume: str, *, validated_at: float) -> None:
        """Record that `volume` uses the value that was validated at `validated_at`."""
        self._volumes.setdefault(key, set()).add(volume)
        self._retained.setdefault(volume, {})[key] = validated_at

    def retain_only(self, volume: str, keys: AbstractSet[CacheKey]) -> list[CacheKey]:
        """Record that `volume` uses only these keys; return those that no volume uses anymore."""
        used, unused = self._retained.pop(volume, {}), []
        for key in used.keys() - keys:
            users = self._volumes[key]
            users.discard(volume)
            if not users:
                del self._volumes[key]
                unused.append(key)
        if still_used := {key: since for key, since in used.items() if key in keys}:
            self._retained[volume] = still_used
        return unused

    def release(self, volume: str) -> list[CacheKey]:
        """Record that `volume` uses nothing anymore; return the keys that no volume uses."""
        return self.retain_only(volume, frozenset())

    def retained_by(self, volume: str) -> Mapping[CacheKey, float]:
        """Return what `volume` uses, and when each value was validated."""
        return self._retained.get(volume, {})

    def oldest_retained(self) -> float | None:
        """Return when the oldest value that a volume uses was validated; None without volumes."""
        return min(
            (since for used in self._retained.values() for since in used.values()), default=None
        )

    def revalidatable(self, key: CacheKey, *, now: float) -> CacheEntry | None:
        """Return the entry, unless it was fetched so long ago that it must be requested again."""
        entry = self._entries.get(key)
        return entry if entry and now - entry.fetched_at < _REVALIDATABLE_SECONDS else None

    def select_revalidatable(
        self,
        vault: str,
        identity: IdentityKey,
        predicate: Callable[[CacheKey, Any], bool],
        *,
        now: float,
    ) -> dict[CacheKey, Any]:
        """Return the revalidatable values of an identity for which `predicate` is true."""
        found = (
            (key, self.revalidatable(key, now=now))
            for key in self._of_identity.get((vault, identity), ())
        )
        return {key: entry.value for key, entry in found if entry and predicate(key, entry.value)}

    def sweep(self, now: float, keys: Iterable[CacheKey] | None = None) -> float | None:
        """Remove expired entries.

        Args:
            now: the time.
            keys: only of these keys; None for all.

        Returns:
            When the next one of these entries expires; None without entries.
        """
        expired, next_expiry = [], None
        for key in self._entries if keys is None else keys:
            if (entry := self._entries.get(key)) is None:
                continue
            expires_at = entry.validated_at + self._ttl(key)
            if expires_at <= now:
                expired.append(key)
            elif next_expiry is None or expires_at < next_expiry:
                next_expiry = expires_at
        for key in expired:
            self.drop(key)
        return next_expiry

    def _ttl(self, key: CacheKey) -> float:
        return self._limits.retained_ttl if key in self._volumes else self._limits.unretained_ttl
