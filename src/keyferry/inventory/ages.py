"""Durations as kubectl prints ages. [pure]"""

from __future__ import annotations

_UNITS = ((120, "s", 1), (7200, "m", 60), (172_800, "h", 3600))


def format_age(seconds: float) -> str:
    """Return a duration: `5s`, `3m`, `2h`, `4d`; a negative one is `0s`."""
    seconds = max(seconds, 0)
    for limit, unit, size in _UNITS:
        if seconds < limit:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds // 86_400)}d"
