"""Throttling: the number of requests to each vault in the current second. [pure]"""

from __future__ import annotations


class Throttle:
    """Counts requests per vault in windows of one second."""

    def __init__(self) -> None:
        self._windows: dict[str, tuple[int, int]] = {}

    def admits(self, vault: str, *, limit: int | None, now: float) -> bool:
        """Return whether `vault` accepts a request at `now` (seconds), and count it if so."""
        if limit is None:
            return True
        window, count = self._windows.get(vault, (0, 0))
        if window != int(now):
            window, count = int(now), 0
        if count >= limit:
            return False
        self._windows[vault] = (window, count + 1)
        return True
