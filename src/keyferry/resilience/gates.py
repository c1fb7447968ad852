"""The gates of all vaults and token endpoints, by host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.resilience.host_limiter import HostLimiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry.aio.clock import Clock
    from keyferry.resilience.call_limits import CallLimits
    from keyferry.resilience.settings import ResilienceSettings

_MAX_HOSTS = 1000
"""So many vaults are remembered; classes can name any number."""


class HostLimiters:
    """One gate for each host; when they are too many, those go that have nothing to remember.

    Args:
        settings: the limits of all vaults that have none of their own.
        clock: how time passes.
        random: shows a random number from 0 to 1.
    """

    def __init__(
        self, settings: ResilienceSettings, clock: Clock, random: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._random = random
        self._limiters: dict[str, HostLimiter] = {}

    def get(self, host: str) -> HostLimiter:
        """The gate of a vault."""
        return self._limiters.get(host) or self._create(host, self._settings)

    def configure(self, host: str, limits: CallLimits) -> None:
        """Have limits of its own for a vault, unless it has been asked before."""
        if host not in self._limiters:
            self._create(host, self._settings.with_limits(limits))

    def all(self) -> list[HostLimiter]:
        """All that are known."""
        return list(self._limiters.values())

    async def close(self) -> None:
        """Serve nobody any more."""
        for gate in self._limiters.values():
            await gate.close()

    def _create(self, host: str, settings: ResilienceSettings) -> HostLimiter:
        if len(self._limiters) >= _MAX_HOSTS:
            for name in [name for name, gate in self._limiters.items() if gate.is_idle]:
                del self._limiters[name]
        made = self._limiters[host] = HostLimiter(host, settings, self._clock, self._random)
        return made
