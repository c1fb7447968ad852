"""The answers that are held in memory for a while, and who uses them. [pure]

An answer is held as long as somebody may still profit from it: without a user for the short time in
which first mounts share it, with a user for as long as a refresh may share or prove it. All of them
together are bounded in bytes; the longest unused go first.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet

    from keyferry.resilience.cache_key import CacheKey

_REVALIDATABLE_SECONDS = 3600.0
"""A proof tells that a content is the same, not that its reader may still read it: a permission
that is taken away counts after so long, even where what proves is still allowed."""


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """How long and how much. Times in seconds."""

    unretained_ttl: float
    """An answer that no volume uses is held so long."""
    retained_ttl: float
    """One that a volume uses."""
    max_bytes: int
    """All of them together."""


@dataclass(slots=True)
class CacheEntry:
    """An answer of a vault.

    Attributes:
        value: it.
        size: in bytes.
        validated_at: when the vault was asked, or last proved that nothing has changed.
        fetched_at: when it was asked.
    """

    value: Any = field(repr=False)
    size: int
    validated_at: float
    fetched_at: float


class ResponseCache:
    """The answers that are held. Times are seconds from an arbitrary start."""

    def __init__(self, limits: CacheLimits) -> None:
        self._limits = limits
        self._entries: OrderedDict[CacheKey, CacheEntry] = OrderedDict()
        self._bytes = 0
        self._volumes: dict[CacheKey, set[str]] = {}
        self._retained: dict[str, dict[CacheKey, float]] = {}

    @property
    def total_bytes(self) -> int:
        """The bytes that are held."""
        return self._bytes

    def get(self, key: CacheKey) -> CacheEntry | None:
        """The answer, however old; it goes later than those that nobody got since."""
        answer = self._entries.get(key)
        if answer is not None:
            self._entries.move_to_end(key)
        return answer

    def put(self, key: CacheKey, entry: CacheEntry) -> None:
        """Cache an entry, unless it alone is larger than the cache."""
        self.drop(key)
        if entry.size > self._limits.max_bytes:
            return
        self._entries[key] = entry
        self._bytes += entry.size
        while self._bytes > self._limits.max_bytes:
            self.drop(next(iter(self._entries)))

    def mark_validated(self, key: CacheKey, *, validated_at: float) -> None:
        """The vault proved at `validated_at` that nothing has changed."""
        if answer := self._entries.get(key):
            answer.validated_at = max(answer.validated_at, validated_at)

    def drop(self, key: CacheKey) -> None:
        """Hold it no longer."""
        if answer := self._entries.pop(key, None):
            self._bytes -= answer.size

    def clear(self) -> None:
        """Hold nothing, for nobody."""
        self._entries.clear()
        self._bytes = 0
        self._volumes.clear()
        self._retained.clear()

    def retain(self, key: CacheKey, volume: str, *, validated_at: float) -> None:
        """`volume` has got the answer that the vault gave or proved at `validated_at`."""
        self._volumes.setdefault(key, set()).add(volume)
        self._retained.setdefault(volume, {})[key] = validated_at

    def retain_only(self, volume: str, keys: AbstractSet[CacheKey]) -> None:
        """Of all that `volume` ever got it uses these alone."""
        used = self._retained.pop(volume, {})
        for key in used.keys() - keys:
            users = self._volumes[key]
            users.discard(volume)
            if not users:
                del self._volumes[key]
        if kept := {key: since for key, since in used.items() if key in keys}:
            self._retained[volume] = kept

    def release(self, volume: str) -> None:
        """`volume` needs nothing any more."""
        self.retain_only(volume, frozenset())

    def retained_by(self, volume: str) -> Mapping[CacheKey, float]:
        """When the vault gave or proved what `volume` has got."""
        return self._retained.get(volume, {})

    def oldest_retained(self) -> float | None:
        """When the oldest of what users have got was given or proved; None without users."""
        return min(
            (since for used in self._retained.values() for since in used.values()), default=None
        )

    def revalidatable(self, key: CacheKey, *, now: float) -> CacheEntry | None:
        """The answer, however old, unless the vault is to decide about it anew."""
        answer = self._entries.get(key)
        return answer if answer and now - answer.fetched_at < _REVALIDATABLE_SECONDS else None

    def select_revalidatable(
        self, predicate: Callable[[CacheKey, Any], bool], *, now: float
    ) -> dict[CacheKey, Any]:
        """The values of the provable answers that are wanted."""
        return {
            key: answer.value
            for key, answer in self._entries.items()
            if self.revalidatable(key, now=now) and predicate(key, answer.value)
        }

    def sweep(self, now: float) -> float | None:
        """Drop what is too old; returns when the next one is, or None when nothing is held."""
        ends = {key: answer.validated_at + self._ttl(key) for key, answer in self._entries.items()}
        for key in [key for key, end in ends.items() if end <= now]:
            self.drop(key)
            del ends[key]
        return min(ends.values(), default=None)

    def _ttl(self, key: CacheKey) -> float:
        return self._limits.retained_ttl if key in self._volumes else self._limits.unretained_ttl
