"""How a text of a class is shown in a message. [pure]"""

from __future__ import annotations

_MAX_EXCERPT = 100


def excerpt(text: str) -> str:
    """`text`, or its beginning when it is long, on one line and without control characters."""
    shown = text if len(text) <= _MAX_EXCERPT else text[:_MAX_EXCERPT] + "..."
    return "".join(char if char.isprintable() else "?" for char in shown)
