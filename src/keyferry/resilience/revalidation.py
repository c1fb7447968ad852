"""Lists of vaults that spare refreshes their content, for every kind of vault."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from keyferry.errors import (
    IdentityError,
    KeyferryError,
    VaultThrottledError,
    VaultUnavailableError,
)
from keyferry.formats.bounded_dict import BoundedDict
from keyferry.resilience.call_context import Purpose
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.resilience.cache_key import CacheKey
    from keyferry.resilience.call_context import CallContext
    from keyferry.resilience.fetcher import Fetcher
    from keyferry.resilience.metrics import ListOutcome

_LIST_MAX_AGE_SECONDS = 1.0
"""The pods that are due together share one list; what it proves is fresh for the others."""
_KEY_BYTES = 512
"""What a key takes, roughly."""
_LIMIT_TTL_SECONDS = 3600.0
"""So long it counts that a list was refused, or is too long."""
_FAILURE_TTL_SECONDS = 300.0
"""So long a list that has failed is left alone."""
_NOT_LIST_SPECIFIC = (IdentityError, VaultThrottledError, VaultUnavailableError)
"""Errors that are not of a list: who asks for the objects meets them too."""
_MAX_KNOWN_LIMITS = 1000

_log = get_logger("economy")

ListLimit = tuple[float, float]
"""How long a list is at least, and until when that counts."""


class ListRefusedError(Exception):
    """The vault gives this identity no such list."""


class RevalidationList(Protocol):
    """The objects that one list of a vault tells of, as one identity sees them."""

    @property
    def key(self) -> CacheKey:
        """Of the object that is to be proven."""

    @property
    def list_key(self) -> CacheKey:
        """Of the list."""

    def covers(self, key: CacheKey, value: Any) -> bool:
        """Whether the list can prove the answer `value` that is held under `key`."""

    def max_length(self, cached: int) -> int:
        """How long a list may be that spares the calls for so many answers; 0: it spares none."""

    async def find_unchanged(
        self, cached: Mapping[CacheKey, Any], context: CallContext, *, limit: int
    ) -> frozenset[CacheKey] | None:
        """Which answers still hold; None for a list that is longer than `limit`.

        Raises:
            ListRefusedError: the vault gives no such list.
            KeyferryError: it cannot be asked now, or the list cannot be used.
        """


class BulkRevalidator:
    """Proves with one list that the objects of an identity have not changed.

    A list only spares calls: where it fails, the objects are asked for, as without lists.

    Args:
        fetcher: holds the contents, and shares the lists.
    """

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._known_limits: BoundedDict[CacheKey, ListLimit] = BoundedDict(_MAX_KNOWN_LIMITS)

    async def revalidate(self, listing: RevalidationList) -> bool:
        """Whether the object of `collection.key` is as it was; others are proven along with it.

        Raises:
            IdentityError: there is no token to be had.
            VaultThrottledError: the vault cannot be asked now.
            VaultUnavailableError: likewise.
        """
        proven = await self._fetcher.fetch(
            listing.list_key,
            lambda context: self._read_list(listing, context),
            purpose=Purpose.REFRESH,
            max_age=_LIST_MAX_AGE_SECONDS,
            size_of=lambda keys: _KEY_BYTES * (1 + len(keys)),
            counted=False,
        )
        return listing.key in proven.value

    async def _read_list(
        self, listing: RevalidationList, context: CallContext
    ) -> frozenset[CacheKey]:
        """What is held and has not changed; nothing where a list is refused or does not pay."""
        now, key = self._fetcher.now(), listing.list_key
        held = self._fetcher.select_revalidatable(listing.covers)
        most = listing.max_length(len(held))
        shortest, until = self._known_limits.get(key, (0.0, 0.0))
        if most < 1 or (now < until and most < shortest):
            return frozenset()
        try:
            proven = await listing.find_unchanged(held, context.best_effort(now), limit=most)
        except ListRefusedError:
            return self._remember_limit(key, "refused", float("inf"), now + _LIMIT_TTL_SECONDS)
        except _NOT_LIST_SPECIFIC:
            self._count(key, "failed")
            raise
        except KeyferryError as error:
            _log.warning(
                "a list that would spare calls failed; the objects are read instead",
                vault=key.vault,
                **error.log_pairs(),
            )
            return self._remember_limit(key, "failed", float("inf"), now + _FAILURE_TTL_SECONDS)
        if proven is None:
            return self._remember_limit(key, "too_long", most + 1, now + _LIMIT_TTL_SECONDS)
        self._count(key, "read")
        self._fetcher.mark_validated(proven, validated_at=now)
        return proven

    def _remember_limit(
        self, key: CacheKey, outcome: ListOutcome, min_length: float, until: float
    ) -> frozenset[CacheKey]:
        """Nothing is proven, and nobody asks again before `until` where so long a list pays."""
        self._count(key, outcome)
        self._known_limits[key] = (min_length, until)
        return frozenset()

    def _count(self, key: CacheKey, outcome: ListOutcome) -> None:
        self._fetcher.metrics.count_list_request(key.vault, key.identity.mode, outcome)
