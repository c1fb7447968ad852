"""When something in a volume ends, and how near that is. [pure]"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


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


NEAR_EXPIRY_STATES = (ExpiryState.SOON, ExpiryState.EXPIRED)


def near_expiry_warnings(expiries: Iterable[Expiry], now: float) -> tuple[str, ...]:
    """Return a warning for each object that has expired or soon will, at `now` (Unix seconds)."""
    return tuple(
        expiry.warning(now) for expiry in expiries if expiry.state(now) in NEAR_EXPIRY_STATES
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
