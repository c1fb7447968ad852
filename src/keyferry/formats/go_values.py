"""Durations as Go programs write them: `30s`, `2m`, `1h30m`. [pure]"""

from __future__ import annotations

import re

_SECONDS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_PART = r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)"
_DURATION = re.compile(rf"([-+]?)((?:{_PART})+)")
_DURATION_PART = re.compile(_PART)


def parse_duration(text: str) -> float:
    """Seconds in a Go duration such as `1h30m`; `0` needs no unit.

    Raises:
        ValueError: the text is not a duration.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        if text.lstrip("+-") == "0":
            return 0.0
        raise ValueError("write a duration such as 30s, 2m or 1h30m")
    seconds = sum(float(n) * _SECONDS[unit] for n, unit in _DURATION_PART.findall(found[2]))
    return -seconds if found[1] == "-" else seconds


# --- Booleans of Go programs; any other word is invalid ---

_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}


def parse_boolean(text: str) -> bool | None:
    """What the word says; None when it says neither."""
    return _BOOLEANS.get(text)
