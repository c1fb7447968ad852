"""When something in a volume ends, and how near that is. [pure]"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum


class ExpiryState(Enum):
    """How near the end of an object is."""

    FAR = "far"
    SOON = "soon"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Expiry:
    """When a delivered object ends, of which its class wants to hear some time before.

    Attributes:
        object_name: the object as a person would call it: `secret db-password`.
        expires_at: seconds since 1970, before the year 10000.
        warn_before: seconds before `expires_at` from which on it is `SOON`.
    """

    object_name: str
    expires_at: int
    warn_before: float

    def state(self, now: float) -> ExpiryState:
        """How near its end is at `now`, seconds since 1970."""
        if now >= self.expires_at:
            return ExpiryState.EXPIRED
        return ExpiryState.SOON if now >= self.expires_at - self.warn_before else ExpiryState.FAR

    def warning(self, now: float) -> str:
        """The warning, without the remaining time, so that it reads the same until the end."""
        verb = "expired" if self.state(now) is ExpiryState.EXPIRED else "expires"
        return (
            f"{self.object_name} {verb} on "
            f"{datetime.fromtimestamp(self.expires_at, UTC):%Y-%m-%d %H:%M} UTC"
        )


@dataclass(frozen=True, slots=True)
class ExpiringLease:
    """What was made for a volume, ends soon, and is replaced by a refresh of the volume alone.

    Attributes:
        target_path: of the volume.
        expiry: it, near its end.
    """

    target_path: str
    expiry: Expiry
