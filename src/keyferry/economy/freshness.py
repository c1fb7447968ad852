"""Whether what a vault gave or proved a while ago may still be used. [pure]

Times are seconds from an arbitrary start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.contract import Purpose
from keyferry.ticks import has_ticked, share_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.economy.key import FetchKey, WholeIdentity


class Freshness:
    """The rules.

    Args:
        reuse: seconds in which first mounts share an answer.
        refresh_interval: as in `EconomySettings`.
    """

    def __init__(self, *, reuse: float, refresh_interval: float | None) -> None:
        self._reuse = reuse
        self._interval = refresh_interval

    def is_fresh(
        self,
        since: float,
        *,
        identity: WholeIdentity,
        purpose: Purpose,
        max_age: float | None,
        now: float,
    ) -> bool:
        """Whether an answer of `since` serves who asks `now`.

        Without a `max_age` first mounts share what was got a short time ago, refreshes what was got
        since the last tick of the identity.
        """
        if max_age is not None:
            return now - since < max_age
        if purpose is Purpose.REFRESH and self._interval is not None:
            return not self._has_ticked(identity, since, now)
        return now - since < self._reuse

    def is_due(self, used: Mapping[FetchKey, float], *, tried: float, now: float) -> bool:
        """Whether there was a tick since what is `used` was got, and since it was `tried`."""
        oldest: dict[WholeIdentity, float] = {}
        for key, since in used.items():
            oldest[key.identity] = min(since, oldest.get(key.identity, since))
        return any(
            self._has_ticked(identity, max(since, tried), now) for identity, since in oldest.items()
        )

    def _has_ticked(self, identity: WholeIdentity, since: float, now: float) -> bool:
        share = share_of(identity.mode, *identity.proof)
        return has_ticked(since, now, interval=self._interval or 0, share=share)
