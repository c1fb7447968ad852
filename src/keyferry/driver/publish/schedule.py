"""Knows when a volume is due for a refresh: once per interval, at the slot of its identity."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from keyferry.resilience.freshness import RefreshSlot, is_refresh_due, next_slot, phase_of

if TYPE_CHECKING:
    from keyferry.aio.clock import Clock
    from keyferry.driver.volumes.volume_table import Volume

OVERDUE_INTERVALS = 2
"""How many of its refresh intervals the content of a volume may miss before it is overdue."""
OVERDUE_GRACE_SECONDS = 60.0
_KUBELET_SECONDS = 60.0
"""About how often kubelet calls for a volume."""


class RefreshSchedule:
    """The refresh schedule, used by kubelet's calls and by the rotator.

    A volume may have an interval of its own, from its pod or its SecretProviderClass.

    Args:
        interval: seconds between two refreshes; 0 refreshes with every call of kubelet.
        node: the name of this node; each node has slots of its own.
        clock: the time.
    """

    def __init__(self, *, interval: float, node: str, clock: Clock) -> None:
        self._interval = interval
        self._node = node
        self._clock = clock
        self._started_at = clock.wall()

    def is_due(self, volume: Volume, *, last_attempt: float = 0.0) -> bool:
        """Return whether a refresh slot passed since the last fetch and since `last_attempt`.

        If the provider does not know the identities of the volume, the volume has its own slots.

        Args:
            volume: the volume.
            last_attempt: monotonic seconds of the last refresh attempt; 0 for none.
        """
        interval = self._interval_of(volume)
        if interval is None:
            return False
        slots = self._slots_of(volume)
        now = self._clock.monotonic()
        return is_refresh_due(slots, last_attempt=last_attempt, now=now, interval=interval)

    def next_due(self, volume: Volume, *, last_attempt: float = 0.0) -> float:
        """Return when `is_due` becomes true, in monotonic seconds; infinity for never.

        Args:
            volume: the volume.
            last_attempt: monotonic seconds of the last refresh attempt; 0 for none.
        """
        interval = self._interval_of(volume)
        if interval is None:
            return math.inf
        return min(
            next_slot(max(slot.validated_at, last_attempt), interval=interval, phase=slot.phase)
            for slot in self._slots_of(volume)
        )

    def _slots_of(self, volume: Volume) -> tuple[RefreshSlot, ...]:
        if volume.fetched_monotonic is not None and volume.refresh_slots:
            return volume.refresh_slots
        phase = phase_of(self._node, volume.target_path)
        return (RefreshSlot(phase, volume.fetched_monotonic or 0.0),)

    def is_overdue(self, volume: Volume) -> bool:
        """Return whether the refreshes of a volume fail or are late.

        The recorded age of content that an earlier process fetched may be an hour too high, so only
        the time of this process counts.
        """
        interval = self._interval_of(volume)
        if interval is None:
            return False
        limit = OVERDUE_INTERVALS * (interval or _KUBELET_SECONDS) + OVERDUE_GRACE_SECONDS
        since = max(volume.fetched_at, self._started_at)
        return (self._clock.wall() - since).total_seconds() > limit

    def _interval_of(self, volume: Volume) -> float | None:
        """Return the refresh interval; None if the volume keeps the content of its mount."""
        if volume.refresh_interval is None:
            return self._interval
        return volume.refresh_interval or None
