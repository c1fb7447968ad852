"""State. [pure]"""

from __future__ import annotations

from enum import Enum


class VolumeState(Enum):
    """What stands at a target path."""

    ABSENT = "absent"
    """Nothing, or a plain folder."""
    EMPTY = "empty"
    """Mounted, but no content was ever written completely."""
    WRITTEN = "written"
    """Mounted, with content that was written completely: one rename ended it."""
    PROVIDER_WRITTEN = "foreign"
    """Mounted, with files that a provider wrote itself; they do not tell whether all are there."""
    BROKEN = "broken"
    """Mounted, but not readable any more."""


HAS_CONTENT = frozenset({VolumeState.WRITTEN, VolumeState.PROVIDER_WRITTEN})
"""There is content, which a failure must leave as it is."""
