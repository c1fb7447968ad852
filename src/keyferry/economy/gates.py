"""The gates of all vaults and token endpoints, by host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.economy.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry.call_limits import CallLimits
    from keyferry.clocks import Clock
    from keyferry.economy.settings import EconomySettings

_MOST = 1000
"""So many vaults are remembered; classes can name any number."""


class Gates:
    """One gate for each host; when they are too many, those go that have nothing to remember.

    Args:
        settings: the limits of all vaults that have none of their own.
        clock: how time passes.
        dice: shows a random number from 0 to 1.
    """

    def __init__(self, settings: EconomySettings, clock: Clock, dice: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._dice = dice
        self._gates: dict[str, Gate] = {}

    def of(self, vault: str) -> Gate:
        """The gate of a vault."""
        return self._gates.get(vault) or self._make(vault, self._settings)

    def limit(self, vault: str, limits: CallLimits) -> None:
        """Have limits of its own for a vault, unless it has been asked before."""
        if vault not in self._gates:
            self._make(vault, self._settings.limited(limits))

    def all(self) -> list[Gate]:
        """All that are known."""
        return list(self._gates.values())

    async def close(self) -> None:
        """Serve nobody any more."""
        for gate in self._gates.values():
            await gate.close()

    def _make(self, vault: str, limits: EconomySettings) -> Gate:
        if len(self._gates) >= _MOST:
            for name in [name for name, gate in self._gates.items() if gate.is_idle]:
                del self._gates[name]
        made = self._gates[vault] = Gate(vault, limits, self._clock, self._dice)
        return made
