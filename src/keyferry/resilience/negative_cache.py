"""Negative cache: remembers for a moment that an object is missing or not permitted. [pure]"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
        self._entries: BoundedDict[CacheKey, tuple[KeyferryError, float]] = BoundedDict(
            _MAX_ENTRIES
        )

    def get(self, key: CacheKey, now: float) -> KeyferryError | None:
        """Return the cached error, or None without one or if it has expired."""
        error, since = self._entries.get(key, (None, 0.0))
        if error is not None and now - since < self._ttl:
            return error
        self._entries.pop(key, None)
        return None

    def put(self, key: CacheKey, error: KeyferryError, now: float) -> bool:
        """Cache `error` if it says "not found" or "denied", and return whether it does."""
        if not is_refusal(error):
            return False
        self._entries[key] = (error.with_traceback(None), now)
        return True


def is_refusal(error: KeyferryError) -> bool:
    """Return whether `error` says "not found" or "denied", to everybody with the same identity."""
    return isinstance(error, AccessDeniedError | ObjectNotFoundError)
