"""Limits to the calls of one provider's vaults, where they are not those of all vaults. [pure]"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CallLimits:
    """None everywhere: as for all vaults."""

    qps: float | None = None
    """Requests a second to one vault."""
    burst: int | None = None
    """So many at once after a quiet time."""
    tries: int | None = None
    """Of one request that fails, the first one included."""
    call_timeout: float | None = None
    """For one request with its turns and tries."""
