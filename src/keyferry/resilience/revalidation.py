"""Change detection with lists: one list of a vault revalidates many cached values of an identity.

`BulkRevalidator` decides when a list is worth its requests. The providers implement
`RevalidationList` for the lists of their vaults.
"""

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
from keyferry.resilience.freshness import Wanted
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.resilience.cache_key import CacheKey
    from keyferry.resilience.call_context import CallContext
    from keyferry.resilience.fetcher import Fetcher
    from keyferry.resilience.metrics import ListOutcome

_LIST_MAX_AGE_SECONDS = 1.0
"""Pods that are due in the same refresh slot share one list."""
_KEY_BYTES = 512
"""The approximate size of a cache key in memory."""
_LIMIT_TTL_SECONDS = 3600.0
"""How long a list that was refused or too long is not requested again."""
_FAILURE_TTL_SECONDS = 300.0
"""How long a list that failed is not requested again."""
_NOT_LIST_SPECIFIC = (IdentityError, VaultThrottledError, VaultUnavailableError)
"""Errors that a read of an object would meet too."""
MAX_KNOWN_LIMITS = 4096
"""The lists whose limit is remembered: one for each identity and folder of a node."""

_log = get_logger("resilience")

ListLimit = tuple[float, float]
"""The minimum length of a list, and until when this is assumed, in seconds of the clock."""


class ListRefusedError(Exception):
    """The vault does not let this identity list."""


class RevalidationList(Protocol):
    """One list of a vault, as one identity sees it. Its unit of length is up to the provider."""

    @property
    def key(self) -> CacheKey:
        """The cache key of the object to revalidate."""

    @property
    def list_key(self) -> CacheKey:
        """The cache key of the list."""

    def covers(self, key: CacheKey, value: Any) -> bool:
        """Return whether the list can revalidate `value`, which is cached as `key`.

        It is asked only for keys with the vault and the identity of the list.
        """

    def max_length(self, cached: int) -> int:
        """Return the longest list that saves requests for this number of values; 0: none does."""

    async def find_unchanged(
        self, cached: Mapping[CacheKey, Any], context: CallContext, *, limit: int
    ) -> frozenset[CacheKey] | None:
        """Read the list and return the keys of the values that are current.

        Args:
            cached: the cached values by key; `covers` is true for each.
            context: of the call.
            limit: the longest list that is worth reading.

        Returns:
            None for a list that is longer than `limit`.

        Raises:
            ListRefusedError: the vault does not let this identity list.
            KeyferryError: the request failed, or the list cannot be parsed.
        """


class BulkRevalidator:
    """Revalidates the cached values of an identity with one list.

    A list only saves requests: when it fails, the objects are read individually.

    Args:
        fetcher: has the cached values, and shares the lists between concurrent refreshes.
        max_known_limits: how many lists are remembered that are not worth a request.
    """

    def __init__(self, fetcher: Fetcher, *, max_known_limits: int = MAX_KNOWN_LIMITS) -> None:
        self._fetcher = fetcher
        self._known_limits: BoundedDict[CacheKey, ListLimit] = BoundedDict(max_known_limits)

    async def revalidate(
        self, listing: RevalidationList, context: CallContext, *, not_before: float | None = None
    ) -> bool:
        """Return whether the value cached as `listing.key` is current.

        The list revalidates all other values that it covers, too.

        Args:
            listing: the value and the list that covers it.
            context: of the refresh that needs the value.
            not_before: a list that was requested before this time is too old; None without a bound.

        Raises:
            IdentityError: the identity gets no token.
            VaultThrottledError: the vault throttles.
            VaultUnavailableError: the circuit breaker is open.
        """
        unchanged = await self._fetcher.fetch(
            listing.list_key,
            lambda context: self._read_list(listing, context),
            purpose=Purpose.REFRESH,
            caller=context.caller,
            endpoint=context.endpoint,
            max_age=_LIST_MAX_AGE_SECONDS,
            size_of=lambda keys: _KEY_BYTES * (1 + len(keys)),
            counted=False,
            wanted=Wanted(not_before=not_before),
        )
        return listing.key in unchanged.value

    async def _read_list(
        self, listing: RevalidationList, context: CallContext
    ) -> frozenset[CacheKey]:
        """Return the keys that are current. The first case that applies decides:

        1. The list saves no requests, or was too long, refused or broken a while ago: none.
        2. It is refused: none; it is not requested again for an hour.
        3. It fails as reads would fail, too: raise.
        4. It fails otherwise: none; it is not requested again for five minutes.
        5. It is too long: none; for an hour it is requested only if it could save more.
        6. Otherwise: the keys that the list confirms.
        """
        now, key = self._fetcher.now(), listing.list_key
        cached = self._fetcher.select_revalidatable(key.vault, key.identity, listing.covers)
        limit = listing.max_length(len(cached))
        min_length, until = self._known_limits.get(key, (0.0, 0.0))
        if limit < 1 or (now < until and limit < min_length):
            return frozenset()
        try:
            unchanged = await listing.find_unchanged(cached, context.best_effort(now), limit=limit)
        except ListRefusedError:
            return self._remember_limit(
                context, key, "refused", float("inf"), now + _LIMIT_TTL_SECONDS
            )
        except _NOT_LIST_SPECIFIC:
            self._count(key, "failed", context)
            raise
        except KeyferryError as error:
            _log.warning_once(
                "list request for change detection failed; objects are read individually",
                vault=key.vault,
                **error.log_pairs(),
            )
            return self._remember_limit(
                context, key, "failed", float("inf"), now + _FAILURE_TTL_SECONDS
            )
        if unchanged is None:
            return self._remember_limit(
                context, key, "too_long", limit + 1, now + _LIMIT_TTL_SECONDS
            )
        self._count(key, "read", context)
        self._fetcher.mark_validated(unchanged, validated_at=now)
        return unchanged

    def _remember_limit(
        self,
        context: CallContext,
        key: CacheKey,
        outcome: ListOutcome,
        min_length: float,
        until: float,
    ) -> frozenset[CacheKey]:
        """Skip lists shorter than `min_length` until the time `until`, and return no keys."""
        self._count(key, outcome, context)
        self._known_limits[key] = (min_length, until)
        return frozenset()

    def _count(self, key: CacheKey, outcome: ListOutcome, context: CallContext) -> None:
        self._fetcher.metrics.count_list_request(
            key.vault, key.identity.mode, outcome, tenant=context.caller.tenant
        )
