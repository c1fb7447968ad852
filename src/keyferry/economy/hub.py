"""THE STORY of one fetch: held fresh, or already under way, or asked for in its turn."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, TypeVar

from keyferry.clocks import SystemClock
from keyferry.contract import Purpose
from keyferry.economy.ask import Ask, Underway
from keyferry.economy.errand import Errand
from keyferry.economy.flights import Flight, fresh
from keyferry.economy.freshness import Freshness
from keyferry.economy.gates import Gates
from keyferry.economy.held import HeldAnswers
from keyferry.economy.metrics import EconomyMetrics
from keyferry.economy.refusals import Refusals, is_outage
from keyferry.economy.settings import EconomySettings
from keyferry.economy.sweeper import Sweeper
from keyferry.errors import KeyferryError
from keyferry.logs import get_logger
from keyferry.reminders import Reminders

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable
    from collections.abc import Set as AbstractSet

    from keyferry.call_limits import CallLimits
    from keyferry.clocks import Clock
    from keyferry.economy.gate import Gate
    from keyferry.economy.held import Answer
    from keyferry.economy.key import FetchKey
    from keyferry.economy.metrics import How

T = TypeVar("T")
_log = get_logger("economy")

_TOLD_SECONDS = 60.0
"""The log tells so often that a vault is away and pods get what is held."""


class Economy:
    """Spares the vaults of one process, for one event loop; all providers share it.

    Args:
        settings: the limits.
        clock: how time passes.
        metrics: what is counted.
        dice: shows a random number from 0 to 1, for pauses.

    Attributes:
        metrics: the same.
    """

    def __init__(
        self,
        settings: EconomySettings | None = None,
        clock: Clock | None = None,
        metrics: EconomyMetrics | None = None,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings or EconomySettings()
        self._clock = clock or SystemClock()
        self.metrics = metrics or EconomyMetrics()
        self._gates = Gates(self._settings, self._clock, dice)
        self._flights: dict[FetchKey, Underway] = {}
        self._hold = self._settings.hold
        self._held = HeldAnswers(self._hold)
        self._freshness = Freshness(
            reuse=self._settings.reuse, refresh_interval=self._settings.refresh_interval
        )
        self._refusals = Refusals(self._settings.refusals)
        self._told = Reminders(_TOLD_SECONDS, clock=self._clock.monotonic)
        self._sweeper = Sweeper(self._held, self._clock)
        self.metrics.watch(self)

    async def fetch(
        self,
        key: FetchKey,
        call: Callable[[Errand], Coroutine[Any, Any, T]],
        *,
        purpose: Purpose = Purpose.FIRST,
        max_age: float | None = None,
        weigh: Callable[[T], int | None] | None = None,
        unchanged: Callable[[T, Errand], Awaitable[bool]] | None = None,
        volume: str = "",
        counted: bool = True,
    ) -> T:
        """What `call` returns, or what it returned to somebody else with an equal key.

        Args:
            key: what is asked for, and as whom.
            call: asks the vault, each request through `Errand.run`. Its result is shared, so it is
                frozen.
            purpose: why.
            max_age: seconds that an answer may have been held; None: as the settings say for a
                first mount, and since the last tick of the identity for a refresh; 0: only an
                answer that is still to come.
            weigh: the bytes of an answer, secrets included; None for one that is not to be held,
                such as one with a lease. Without it none is held.
            unchanged: asks the vault for a cheaper proof that an answer which is too old for a
                refresh still holds.
            volume: who uses the answer, until `volume_gone`; "" for nobody in particular.
            counted: whether it is an object of a mount, for the metrics.

        Raises:
            KeyferryError: what `call` raised, or why it may not be made now.
        """
        now = self._clock.monotonic()
        reuse = self._settings.reuse if max_age is None else max_age
        answer = self._held.get(key)
        count = self._counter(key) if counted else lambda how: None
        if answer is not None and self._freshness.is_fresh(
            answer.since, identity=key.identity, purpose=purpose, max_age=max_age, now=now
        ):
            count("reused")
            value: T = answer.value
        else:
            refusal = self._refusals.find(key, now)
            if refusal is not None:
                count("refused")
                raise fresh(refusal) from refusal.__cause__
            proof = unchanged if purpose is Purpose.REFRESH else None
            try:
                value = await self._join(key, Ask(call, weigh, proof, count), purpose)
            except KeyferryError as error:
                kept = self._outlasting(key, error, purpose) if reuse else None
                if kept is None:
                    raise
                count("stale")
                value = kept.value
        if volume and self._settings.tracks_volumes:
            self._held.use(key, volume, since=self._since(key, now))
        return value

    def errand(self, vault: str, purpose: Purpose = Purpose.FIRST, *, mode: str = "") -> Errand:
        """For requests whose answers are neither shared nor kept: a login, a secret made for one.

        Args:
            vault: the host that is asked, as in `FetchKey`.
            purpose: why.
            mode: of the identity that asks, as in `WholeIdentity`.
        """
        gate = self._gates.of(vault)
        return Errand(gate, purpose, lambda how: self.metrics.requested(vault, mode, how))

    def limit(self, vault: str, limits: CallLimits) -> None:
        """Have limits of its own for a vault, unless it has been asked before.

        Args:
            vault: its host.
            limits: where they are not those of all vaults.
        """
        self._gates.limit(vault, limits)

    def provable(self, wanted: Callable[[FetchKey, Any], bool]) -> dict[FetchKey, Any]:
        """The answers that a proof may keep, of those that are wanted."""
        return self._held.select_provable(wanted, now=self.now())

    def prove(self, keys: Iterable[FetchKey], *, since: float) -> None:
        """The vault proved that these answers still hold; `since` is when it was asked."""
        for key in keys:
            self._held.prove(key, since=since)

    @property
    def proves(self) -> bool:
        """Whether a refresh may ask for proofs."""
        return self._settings.proofs

    def now(self) -> float:
        """Seconds from an arbitrary start."""
        return self._clock.monotonic()

    def settle(self, volume: str, keys: AbstractSet[FetchKey]) -> None:
        """A volume is filled, and of all that was fetched for it uses these alone."""
        self._held.settle(volume, keys)

    def is_due(self, volume: str, *, tried: float) -> bool | None:
        """Whether a refresh of a volume would ask the vault for something.

        Args:
            volume: as in `fetch`.
            tried: what was asked for since then, in vain or not, is not due; by `now`.

        Returns:
            None when nothing that the volume uses is known.
        """
        used = self._held.used_by(volume)
        return self._freshness.is_due(used, tried=tried, now=self.now()) if used else None

    def volume_gone(self, volume: str) -> None:
        """Nobody uses for `volume` any more what was fetched for it."""
        self._held.user_gone(volume)
        self._sweeper.sweep()

    async def close(self) -> None:
        """Let go of everything that is held, and of everybody who waits."""
        self._sweeper.stop()
        await self._gates.close()
        self._held.clear()

    # --- for the metrics ----------------------------------------------------------------------

    def gates(self) -> list[Gate]:
        """The vaults and token endpoints that are known."""
        return self._gates.all()

    @property
    def held_bytes(self) -> int:
        """The answers that are held."""
        return self._held.size

    @property
    def oldest_content_seconds(self) -> float | None:
        """The age of the oldest answer that a volume uses."""
        oldest = self._held.oldest()
        return None if oldest is None else self._clock.monotonic() - oldest

    # --- inside -------------------------------------------------------------------------------

    def _counter(self, key: FetchKey) -> Callable[[How], None]:
        return lambda how: self.metrics.fetched(key.vault, key.identity.mode, how)

    def _since(self, key: FetchKey, now: float) -> float:
        answer = self._held.get(key)
        return now if answer is None else answer.since

    def _outlasting(self, key: FetchKey, error: KeyferryError, purpose: Purpose) -> Answer | None:
        """What running pods of the same identity use, for one that starts while the vault is away.

        None where there is nothing, or the vault is not away.
        """
        if purpose is not Purpose.FIRST or not is_outage(error):
            return None
        held = self._held.provable(key, now=self._clock.monotonic())
        if held is not None and self._told.due(key.vault):
            _log.warning(
                "a pod gets what running pods use, because the vault gives no answer",
                vault=key.vault,
                **error.log_pairs(),
            )
        return held

    async def _join(self, key: FetchKey, ask: Ask, purpose: Purpose) -> Any:
        """Wait for who is asking already, or ask."""
        found = self._flights.get(key)
        if found is None:
            errand = self.errand(key.vault, purpose, mode=key.identity.mode)
            flight = Flight(self._ask(key, ask, errand), lambda: self._landed(key, flight))
            found = self._flights[key] = Underway(flight, errand)
        else:
            ask.count("coalesced")
            found.errand.hurry(purpose)
        return await found.flight.wait()

    async def _ask(self, key: FetchKey, ask: Ask, errand: Errand) -> Any:
        asked = self._clock.monotonic()
        held = self._held.provable(key, now=asked)
        try:
            if held and ask.unchanged and await ask.unchanged(held.value, errand):
                ask.count("unchanged")
                self._held.prove(key, since=asked)
                return held.value
            ask.count("asked")
            value = await ask.call(errand)
        except KeyferryError as error:
            if self._refusals.remember(key, error, self._clock.monotonic()):
                self._held.drop(key)
            raise
        size = ask.weigh(value) if ask.weigh and self._hold.used > 0 else None
        if size is not None:
            self._held.put(key, value, size=size, since=asked)
            self._sweeper.sweep_by(asked + self._hold.unused)
        return value

    def _landed(self, key: FetchKey, flight: Flight[Any]) -> None:
        """A flight is over; the next one may already have taken its place."""
        found = self._flights.get(key)
        if found is not None and found.flight is flight:
            del self._flights[key]
