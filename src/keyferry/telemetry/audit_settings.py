"""Settings of the audit log. [pure]"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_MAX_BYTES = 100 * 1024 * 1024


class AuditDestination(Enum):
    """Where the audit log is written, if not to a file."""

    LOG = "log"
    NONE = "none"


class AuditSettings(Struct, frozen=True):
    """Settings of the audit log.

    Attributes:
        destination: the log of the process, nothing, or a file.
        max_bytes: the maximum size of the file; 0 for none.
    """

    destination: AuditDestination | Path = AuditDestination.LOG
    max_bytes: int = DEFAULT_MAX_BYTES
