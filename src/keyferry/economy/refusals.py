"""What is said to whoever may not ask a vault now, and which refusals are remembered. [pure]"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from keyferry.errors import (
    AccessDeniedError,
    IdentityError,
    ObjectNotFoundError,
    ObjectUnusableError,
    VaultError,
    VaultThrottledError,
    VaultUnavailableError,
)

if TYPE_CHECKING:
    from keyferry.economy.key import FetchKey
    from keyferry.errors import KeyferryError

_MOST = 4096
"""So many refusals are remembered."""


class Refusals:
    """Refusals of objects and permissions. Times are seconds from an arbitrary start.

    Args:
        memory: so long one is remembered, in seconds.
    """

    def __init__(self, memory: float) -> None:
        self._memory = memory
        self._refusals: dict[FetchKey, tuple[KeyferryError, float]] = {}

    def find(self, key: FetchKey, now: float) -> KeyferryError | None:
        """The refusal, if it is remembered."""
        error, since = self._refusals.get(key, (None, 0.0))
        if error is not None and now - since < self._memory:
            return error
        self._refusals.pop(key, None)
        return None

    def remember(self, key: FetchKey, error: KeyferryError, now: float) -> bool:
        """Remember `error` if it is a refusal; returns whether it is."""
        if not isinstance(error, AccessDeniedError | ObjectNotFoundError):
            return False
        # In the order in which they came, so that the oldest go first.
        self._refusals.pop(key, None)
        self._refusals[key] = (error.with_traceback(None), now)
        if len(self._refusals) > _MOST:
            del self._refusals[next(iter(self._refusals))]
        return True


def is_outage(error: KeyferryError) -> bool:
    """Whether a vault gave no answer that can be used, and did not refuse either."""
    refused = IdentityError | AccessDeniedError | ObjectNotFoundError | ObjectUnusableError
    return isinstance(error, VaultError) and not isinstance(error, refused)


def unavailable(
    vault: str, *, since: float, probe: float, last: KeyferryError
) -> VaultUnavailableError:
    """The vault is left alone.

    Args:
        vault: its host.
        since: when it began to fail, in seconds since 1970.
        probe: when it is tried again.
        last: how it failed last.
    """
    return VaultUnavailableError(
        f"{vault} has given no answer since {_time(since)} and is left alone until {_time(probe)}; "
        f"the last call {last.problem}",
        last.remedy,
        hop=last.hop,
    )


def paused_too_long(vault: str, *, until: float) -> VaultThrottledError:
    """The vault wants no call for longer than a mount can wait; `until` in seconds since 1970."""
    return VaultThrottledError(
        f"{vault} throttles (429 Too Many Requests), and wants no call from this node until "
        f"{_time(until)}",
        "Too many requests reach this vault: ask for fewer objects or spread them over vaults.",
    )


def no_turn(vault: str, patience: float, *, others: int, rate: float) -> VaultThrottledError:
    """The turn of a call did not come in `patience` seconds."""
    return VaultThrottledError(
        f"a call to {vault} waited {patience:g} s for its turn and {others} others still wait",
        f"This node makes {rate:g} calls a second to one vault at the most (--vault-rate), and "
        "fewer while the vault throttles: ask for fewer objects or spread them over vaults.",
    )


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%H:%M:%S UTC")
