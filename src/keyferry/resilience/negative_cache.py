"""Negative cache: remembers for a moment that an object is missing or not permitted. [pure]"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from keyferry.errors import AccessDeniedError, ObjectNotFoundError
from keyferry.formats.bounded_dict import BoundedDict

if TYPE_CHECKING:
    from keyferry.errors import KeyferryError
    from keyferry.resilience.cache_key import CacheKey

_MAX_ENTRIES = 4096


class NegativeCache:
    """Caches "not found" and "denied" errors. Times are seconds of any monotonic clock.

    Args:
        ttl: how long an error is cached, in seconds.
    """

    def __init__(self, ttl: float) -> None:
        self._ttl = ttl
        self._entries: BoundedDict[CacheKey, _Refusal] = BoundedDict(_MAX_ENTRIES)

    def get(
        self, key: CacheKey, now: float, *, not_before: float | None = None
    ) -> KeyferryError | None:
        """Return the cached error, or None without one or if it has expired.

        Args:
            key: the object and the identity.
            now: the time.
            not_before: an error of a request before this time is too old; None without a bound.
        """
        refusal = self._entries.get(key)
        if refusal is None:
            return None
        if now - refusal.since >= self._ttl:
            self.drop(key)
            return None
        is_too_old = not_before is not None and refusal.asked_at < not_before
        return None if is_too_old else refusal.error

    def put(self, key: CacheKey, error: KeyferryError, now: float, *, asked_at: float) -> None:
        """Cache an error that says "not found" or "denied"; `asked_at` is when it was requested."""
        self._entries[key] = _Refusal(error.with_traceback(None), now, asked_at)

    def asked_at(self, key: CacheKey) -> float | None:
        """Return when the vault was asked for the cached error; None without one."""
        refusal = self._entries.get(key)
        return None if refusal is None else refusal.asked_at

    def drop(self, key: CacheKey) -> None:
        """Remove an error."""
        self._entries.pop(key, None)


class _Refusal(NamedTuple):
    """A cached error, when it was cached, and when the vault was asked."""

    error: KeyferryError
    since: float
    asked_at: float


def is_refusal(error: KeyferryError) -> bool:
    """Return whether `error` says "not found" or "denied", to everybody with the same identity."""
    return isinstance(error, AccessDeniedError | ObjectNotFoundError)
