"""How a text of a class is shown in a message. [pure]"""

from __future__ import annotations

_LONGEST = 100


def excerpt(text: str) -> str:
    """`text`, or its beginning when it is long, on one line and without control characters."""
    shown = text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
    return "".join(char if char.isprintable() else "?" for char in shown)
