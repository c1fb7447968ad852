"""How long before the end of an object its class wants to be warned: `expiryWarning`. [pure]

An extension of ours; upstream looks at no object's `exp`.
"""

from __future__ import annotations

import re

from keyferry.errors import ClassInvalidError
from keyferry.excerpt import excerpt
from keyferry.formats.go_values import parse_duration

EXPIRY_WARNING_KEY = "expiryWarning"
_DAY_SECONDS = 86_400.0
_DAYS_PATTERN = re.compile(r"([0-9]{1,6})d")
_MAX_WARNING_SECONDS = 3650 * _DAY_SECONDS


def parse_expiry_warning(text: str, *, default: float = 0.0) -> float:
    """Seconds before the end; 0 for no warning.

    Args:
        text: `720h` or `30d`, `0` for none, "" for the default.
        default: of objects that say nothing.

    Raises:
        ClassInvalidError: it is no duration, or none from nothing to ten years.
    """
    text = text.strip()
    if not text:
        return default
    try:
        days = _DAYS_PATTERN.fullmatch(text)
        seconds = int(days[1]) * _DAY_SECONDS if days else parse_duration(text)
    except ValueError:
        problem = f"{EXPIRY_WARNING_KEY} is not a duration: {excerpt(text)}"
        raise ClassInvalidError(problem, "Write it as 720h or 30d; 0 means no warning.") from None
    if not 0 <= seconds <= _MAX_WARNING_SECONDS:
        problem = f"{EXPIRY_WARNING_KEY} is not between 0 and 3650d: {excerpt(text)}"
        raise ClassInvalidError(problem, "Write it as 720h or 30d; 0 means no warning.")
    return seconds
