"""Rules for every message that a user reads."""

from __future__ import annotations

LONGEST_MESSAGE = 2_000
"""Every message has fewer characters."""


def check_message(error: Exception) -> None:
    """Check that a message is one short line without control characters."""
    shown = str(error)
    assert 0 < len(shown) < LONGEST_MESSAGE
    assert shown.isprintable()
