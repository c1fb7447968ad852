"""Which volumes are still asked for, where nobody tells when one goes. [pure]"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

GAPS = 3
"""After so many of its longest gaps without a question a volume counts as gone."""
MAX_VOLUMES = 10_000


@dataclass(frozen=True, slots=True)
class _Asked:
    at: float
    longest_gap: float


class Polls:
    """When volumes were asked for. Times in seconds of the clock of the process.

    Args:
        idle: how long without a question, at the least, a volume still counts as there; None where
            somebody tells when volumes go, so that all count until then.
    """

    def __init__(self, idle: float | None) -> None:
        self._idle = idle
        self._asked: dict[str, _Asked] = {}

    def asked(self, volume: str, now: float) -> None:
        """Somebody asks for what is in a volume."""
        if self._idle is None:
            return
        last = self._asked.pop(volume, _Asked(now, 0.0))
        self._asked[volume] = _Asked(now, max(last.longest_gap, now - last.at))
        if len(self._asked) > MAX_VOLUMES:
            del self._asked[next(iter(self._asked))]

    def is_there(self, volumes: Iterable[str], now: float) -> bool:
        """Whether one of these counts as there."""
        if self._idle is None:
            return any(True for _ in volumes)
        return any(
            now - found.at <= max(self._idle, GAPS * found.longest_gap)
            for volume in volumes
            if (found := self._asked.get(volume))
        )
