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
from keyferry.formats.bounded_dict import BoundedDict

if TYPE_CHECKING:
    from keyferry.errors import KeyferryError
    from keyferry.resilience.cache_key import CacheKey

_MAX_ENTRIES = 4096
"""So many refusals are remembered."""


class NegativeCache:
    """Refusals of objects and permissions. Times are seconds from an arbitrary start.

    Args:
        ttl: so long one is remembered, in seconds.
    """

    def __init__(self, ttl: float) -> None:
        self._ttl = ttl
        self._entries: BoundedDict[CacheKey, tuple[KeyferryError, float]] = BoundedDict(
            _MAX_ENTRIES
        )

    def get(self, key: CacheKey, now: float) -> KeyferryError | None:
        """The refusal, if it is remembered."""
        error, since = self._entries.get(key, (None, 0.0))
        if error is not None and now - since < self._ttl:
            return error
        self._entries.pop(key, None)
        return None

    def put(self, key: CacheKey, error: KeyferryError, now: float) -> bool:
        """Remember `error` if it is a refusal; returns whether it is."""
        if not isinstance(error, AccessDeniedError | ObjectNotFoundError):
            return False
        self._entries[key] = (error.with_traceback(None), now)
        return True


def is_outage(error: KeyferryError) -> bool:
    """Whether a vault gave no answer that can be used, and did not refuse either."""
    refused = IdentityError | AccessDeniedError | ObjectNotFoundError | ObjectUnusableError
    return isinstance(error, VaultError) and not isinstance(error, refused)


def circuit_open_error(
    host: str, *, failing_since: float, next_probe_at: float, last_error: KeyferryError
) -> VaultUnavailableError:
    """The vault is left alone.

    Args:
        host: its host.
        failing_since: when it began to fail, in seconds since 1970.
        next_probe_at: when it is tried again.
        last_error: how it failed last.
    """
    return VaultUnavailableError(
        f"{host} has given no answer since {_format_time(failing_since)} and is left "
        f"alone until {_format_time(next_probe_at)}; "
        f"the last call {last_error.problem}",
        last_error.remedy,
        stage=last_error.stage,
    )


def throttled_error(host: str, *, until: float) -> VaultThrottledError:
    """The vault wants no call for longer than a mount can wait; `until` in seconds since 1970."""
    return VaultThrottledError(
        f"{host} throttles (429 Too Many Requests), and wants no call from this node until "
        f"{_format_time(until)}",
        "Too many requests reach this vault: ask for fewer objects or spread them over vaults.",
    )


def permit_timeout_error(
    host: str, call_timeout: float, *, others: int, qps: float
) -> VaultThrottledError:
    """The turn of a call did not come in `call_timeout` seconds."""
    return VaultThrottledError(
        f"a call to {host} waited {call_timeout:g} s for its turn and {others} others still wait",
        f"This node makes {qps:g} calls a second to one vault at the most (--vault-qps), and "
        "fewer while the vault throttles: ask for fewer objects or spread them over vaults.",
    )


def _format_time(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%H:%M:%S UTC")
