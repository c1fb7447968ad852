"""THE STORY of one fetch: held fresh, or already under way, or asked for in its turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from keyferry.contract import Purpose
from keyferry.economy.flights import Flight
from keyferry.economy.gate import Errand, Gate
from keyferry.economy.settings import EconomySettings
from keyferry.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from keyferry.economy.key import FetchKey

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Underway:
    """A flight, and the errand that can be hurried."""

    flight: Flight[Any]
    errand: Errand


class Economy:
    """Spares the vaults of one process, for one event loop; all providers share it.

    Args:
        settings: the limits.
        pace: how time passes.
    """

    def __init__(self, settings: EconomySettings | None = None, pace: Pace | None = None) -> None:
        self._settings = settings or EconomySettings()
        self._pace = pace or Pace()
        self._gates: dict[str, Gate] = {}
        self._flights: dict[FetchKey, _Underway] = {}

    async def fetch(
        self,
        key: FetchKey,
        call: Callable[[Errand], Coroutine[Any, Any, T]],
        *,
        purpose: Purpose = Purpose.FIRST,
        max_age: float | None = None,
    ) -> T:
        """What `call` returns, or what it returned to somebody else with an equal key.

        Args:
            key: what is asked for, and as whom.
            call: asks the vault, each request through `Errand.run`. Its result is shared, so it is
                frozen.
            purpose: why.
            max_age: seconds that an answer may have been held; None: as the settings say for the
                purpose; 0: only an answer that is still to come.

        Raises:
            KeyferryError: what `call` raised, or why it may not be made now.
        """
        found = self._flights.get(key)
        if found is None:
            found = self._start(key, call, purpose)
        else:
            found.errand.hurry(purpose)
        result: T = await found.flight.wait()
        return result

    def errand(self, vault: str, purpose: Purpose = Purpose.FIRST) -> Errand:
        """For requests whose answers are neither shared nor kept: a login, a secret made for one.

        Args:
            vault: the host that is asked, as in `FetchKey`.
            purpose: why.
        """
        return Errand(self._gate(vault), purpose)

    def _start(
        self, key: FetchKey, call: Callable[[Errand], Coroutine[Any, Any, T]], purpose: Purpose
    ) -> _Underway:
        errand = self.errand(key.vault, purpose)
        flight = Flight(call(errand), lambda: self._landed(key, flight))
        found = _Underway(flight, errand)
        self._flights[key] = found
        return found

    def _landed(self, key: FetchKey, flight: Flight[Any]) -> None:
        """A flight is over; the next one may already have taken its place."""
        found = self._flights.get(key)
        if found is not None and found.flight is flight:
            del self._flights[key]

    def _gate(self, vault: str) -> Gate:
        if vault not in self._gates:
            self._gates[vault] = Gate(self._settings, self._pace)
        return self._gates[vault]
