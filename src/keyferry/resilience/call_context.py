"""Why a vault is called. [pure]"""

from __future__ import annotations

from enum import Enum


class Purpose(Enum):
    """Why a vault is asked."""

    FIRST = "first"
    """A pod waits to start."""
    REFRESH = "refresh"
    """A pod runs, with content that may have grown old."""
