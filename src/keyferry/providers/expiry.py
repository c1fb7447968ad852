"""When objects and leases of a volume expire, and how soon that is. [pure]"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable


class ExpiryState(Enum):
    """How close the expiry of an object is."""

    FAR = "far"
    SOON = "soon"
    EXPIRED = "expired"


class Expiry(Struct, frozen=True):
    """When a delivered object expires, and from when on users are warned, if they want to be.

    Attributes:
        object_name: name of the object in messages, such as `secret db-password`.
        expires_at: seconds since 1970, before the year 10000.
        warn_before: seconds before `expires_at` at which the state becomes `SOON`; 0 if nobody asks
            for a warning, so that it never does.
        object_id: of the object in pod statuses, such as `secret/db-password`; "" for a lease.
    """

    object_name: str
    expires_at: int
    warn_before: float
    object_id: str = ""

    def state(self, now: float) -> ExpiryState:
        """Return how close the expiry is at `now`, in seconds since 1970."""
        if not self.warn_before:
            return ExpiryState.FAR
        if now >= self.expires_at:
            return ExpiryState.EXPIRED
        return ExpiryState.SOON if now >= self.expires_at - self.warn_before else ExpiryState.FAR

    def warning(self, now: float) -> str:
        """Return the warning at `now`, in seconds since 1970.

        It states the date and not the remaining time, so that repeated warnings are equal.
        """
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


def near_expiry_states(expiries: Iterable[Expiry], now: float) -> tuple[str, ...]:
    """Return `soon` or `expired` for each object to which that applies at `now` (Unix seconds)."""
    states = (expiry.state(now) for expiry in expiries)
    return tuple(state.value for state in states if state in NEAR_EXPIRY_STATES)


class ExpiringLease(Struct, frozen=True):
    """A secret of one volume that expires soon and that only a refresh of the volume can replace.

    Attributes:
        target_path: mount path of the volume.
        expiry: when the secret expires.
    """

    target_path: str
    expiry: Expiry
