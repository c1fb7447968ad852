"""Which volumes are still asked for, where nobody tells when one goes. [pure]"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.formats.bounded_dict import BoundedDict

if TYPE_CHECKING:
    from collections.abc import Iterable

GAP_FACTOR = 3
"""After so many of its longest gaps without a question a volume counts as gone."""
MAX_VOLUMES = 10_000


@dataclass(frozen=True, slots=True)
class _LastRequest:
    at: float
    longest_gap: float


class VolumeLiveness:
    """When volumes were asked for. Times in seconds of the clock of the process.

    Args:
        idle_seconds: how long without a question, at the least, a volume still counts as there;
            None where somebody tells when volumes go, so that all count until then.
    """

    def __init__(self, idle_seconds: float | None) -> None:
        self._idle_seconds = idle_seconds
        self._last_requests: BoundedDict[str, _LastRequest] = BoundedDict(MAX_VOLUMES)

    def touch(self, volume: str, now: float) -> None:
        """Somebody asks for what is in a volume."""
        if self._idle_seconds is None:
            return
        last = self._last_requests.get(volume, _LastRequest(now, 0.0))
        self._last_requests[volume] = _LastRequest(now, max(last.longest_gap, now - last.at))

    def any_alive(self, volumes: Iterable[str], now: float) -> bool:
        """Whether one of these counts as there."""
        if self._idle_seconds is None:
            return any(True for _ in volumes)
        return any(
            now - found.at <= max(self._idle_seconds, GAP_FACTOR * found.longest_gap)
            for volume in volumes
            if (found := self._last_requests.get(volume))
        )
