"""Booleans as Go programs read them; any other word is none. [pure]"""

from __future__ import annotations

_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}


def parse_boolean(text: str) -> bool | None:
    """What the word says; None when it says neither."""
    return _BOOLEANS.get(text)
