"""Decides which volumes still exist, if the driver does not report removed volumes. [pure]"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.formats.bounded_dict import BoundedDict

if TYPE_CHECKING:
    from collections.abc import Iterable

GAP_FACTOR = 3
"""A volume counts as removed after this many times its longest gap between mount calls."""
MAX_VOLUMES = 10_000


class _LastRequest(Struct, frozen=True):
    at: float
    longest_gap: float


class VolumeLiveness:
    """Records when volumes were last mounted. Times are in seconds of the monotonic clock.

    Args:
        idle_seconds: minimum time without a mount call after which a volume counts as removed; None
            if the driver reports removed volumes, so that all others count as alive.
    """

    def __init__(self, idle_seconds: float | None) -> None:
        self._idle_seconds = idle_seconds
        self._last_requests: BoundedDict[str, _LastRequest] = BoundedDict(MAX_VOLUMES)

    def touch(self, volume: str, now: float) -> None:
        """Record a mount call for `volume` at `now`."""
        if self._idle_seconds is None:
            return
        last = self._last_requests.get(volume, _LastRequest(now, 0.0))
        self._last_requests[volume] = _LastRequest(now, max(last.longest_gap, now - last.at))

    def any_alive(self, volumes: Iterable[str], now: float) -> bool:
        """Return whether at least one of `volumes` counts as alive at `now`."""
        if self._idle_seconds is None:
            return any(True for _ in volumes)
        return any(
            now - last.at <= max(self._idle_seconds, GAP_FACTOR * last.longest_gap)
            for volume in volumes
            if (last := self._last_requests.get(volume))
        )
