"""What every message to a person keeps to."""

from __future__ import annotations

LONGEST_MESSAGE = 2_000
"""Characters; what a person still reads."""


def check_message(error: Exception) -> None:
    """It fits on a screen, on one line, and shows no letters that a terminal would act on."""
    shown = str(error)
    assert 0 < len(shown) < LONGEST_MESSAGE
    assert shown.isprintable()
