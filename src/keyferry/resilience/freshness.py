"""Whether what a vault gave or proved a while ago may still be used. [pure]

Times are seconds from an arbitrary start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.providers.api import Purpose
from keyferry.resilience.ticks import phase_of, slot_passed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.resilience.cache_key import CacheKey, IdentityKey


class FreshnessPolicy:
    """The rules.

    Args:
        cache_ttl: seconds in which first mounts share an answer.
        refresh_interval: as in `EconomySettings`.
    """

    def __init__(self, *, cache_ttl: float, refresh_interval: float | None) -> None:
        self._cache_ttl = cache_ttl
        self._refresh_interval = refresh_interval

    def is_fresh(
        self,
        validated_at: float,
        *,
        identity: IdentityKey,
        purpose: Purpose,
        max_age: float | None,
        now: float,
    ) -> bool:
        """Whether an answer of `validated_at` serves who asks `now`.

        Without a `max_age` first mounts share what was got a short time ago, refreshes what was got
        since the last tick of the identity.
        """
        if max_age is not None:
            return now - validated_at < max_age
        if purpose is Purpose.REFRESH and self._refresh_interval is not None:
            return not self._slot_passed(identity, validated_at, now)
        return now - validated_at < self._cache_ttl

    def is_due(
        self, retained: Mapping[CacheKey, float], *, last_attempt: float, now: float
    ) -> bool:
        """Return whether a refresh slot passed since the oldest entry and since `last_attempt`."""
        oldest: dict[IdentityKey, float] = {}
        for key, since in retained.items():
            oldest[key.identity] = min(since, oldest.get(key.identity, since))
        return any(
            self._slot_passed(identity, max(since, last_attempt), now)
            for identity, since in oldest.items()
        )

    def _slot_passed(self, identity: IdentityKey, since: float, now: float) -> bool:
        share = phase_of(identity.mode, *identity.digest)
        return slot_passed(since, now, interval=self._refresh_interval or 0, phase=share)
