"""The states of a mount point. [pure]"""

from __future__ import annotations

from enum import Enum


class VolumeState(Enum):
    """What a mount point holds."""

    ABSENT = "absent"
    """Nothing, or a plain folder."""
    EMPTY = "empty"
    """A mount without completely written content."""
    WRITTEN = "written"
    """A mount with completely written content: the rename that ends each write has happened."""
    PROVIDER_WRITTEN = "foreign"
    """A mount with files that a provider wrote itself; they may be incomplete."""
    BROKEN = "broken"
    """A mount that cannot be read any more."""


HAS_CONTENT = frozenset({VolumeState.WRITTEN, VolumeState.PROVIDER_WRITTEN})
"""The states with content, which a failed publish must not change."""
