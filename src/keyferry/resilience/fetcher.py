"""THE STORY of one fetch: held fresh, or already under way, or asked for in its turn."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from keyferry.aio.clock import SystemClock
from keyferry.aio.single_flight import SharedCall, copy_without_traceback
from keyferry.errors import KeyferryError
from keyferry.resilience.call_context import Purpose
from keyferry.resilience.freshness import FreshnessPolicy
from keyferry.resilience.host_limiter import HostLimiters
from keyferry.resilience.metrics import ResilienceMetrics
from keyferry.resilience.negative_cache import NegativeCache, is_outage
from keyferry.resilience.response_cache import ResponseCache
from keyferry.resilience.retrying_caller import RetryingCaller
from keyferry.resilience.settings import ResilienceSettings
from keyferry.telemetry.deduplicator import Deduplicator
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable
    from collections.abc import Set as AbstractSet

    from keyferry.aio.clock import Clock
    from keyferry.resilience.cache_key import CacheKey
    from keyferry.resilience.host_limiter import HostLimiter
    from keyferry.resilience.metrics import CacheResult
    from keyferry.resilience.response_cache import CacheEntry
    from keyferry.resilience.settings import CallLimits


@dataclass(frozen=True, slots=True)
class InFlight:
    """A flight, and the errand that can be hurried."""

    call: SharedCall[Any]
    caller: RetryingCaller


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """How the vault is asked.

    Attributes:
        load: for the answer.
        size_of: the bytes of an answer that is held; None: none is.
        revalidate: for the proof that an answer still holds; None: there is none.
        count: told how the answer was got.
    """

    load: Callable[[RetryingCaller], Coroutine[Any, Any, Any]]
    size_of: Callable[[Any], int | None] | None
    revalidate: Callable[[Any, RetryingCaller], Awaitable[bool]] | None
    count: Callable[[CacheResult], None]


_SWEEP_SECONDS = 1.0
"""What is too old is dropped so much later, at the most."""


class ExpirySweeper:
    """Sweeps when something may be too old, and sleeps while nothing is held.

    Args:
        cache: what is swept.
        clock: how time passes.
    """

    def __init__(self, cache: ResponseCache, clock: Clock) -> None:
        self._cache = cache
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._next_sweep_at = 0.0

    def schedule_sweep(self, latest: float) -> None:
        """Sweeps at `latest` at the latest."""
        if self._task is not None and not self._task.done():
            if self._next_sweep_at <= latest:
                return
            self._task.cancel()
        self._next_sweep_at = latest
        self._task = asyncio.create_task(self._run())

    def sweep(self) -> None:
        """Sweeps now, and again when the next answer is too old."""
        end = self._cache.sweep(self._clock.monotonic())
        if end is not None:
            self.schedule_sweep(end)

    def stop(self) -> None:
        """Sweeps no more."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            await self._clock.sleep(
                max(_SWEEP_SECONDS, self._next_sweep_at - self._clock.monotonic())
            )
            end = self._cache.sweep(self._clock.monotonic())
            if end is None:
                return
            self._next_sweep_at = end


T = TypeVar("T")
_log = get_logger("economy")

_OUTAGE_WARNING_SECONDS = 60.0
"""The log tells so often that a vault is away and pods get what is held."""


class Fetcher:
    """Spares the vaults of one process, for one event loop; all providers share it.

    Args:
        settings: the limits.
        clock: how time passes.
        metrics: what is counted.
        random: shows a random number from 0 to 1, for pauses.

    Attributes:
        metrics: the same.
    """

    def __init__(
        self,
        settings: ResilienceSettings | None = None,
        clock: Clock | None = None,
        metrics: ResilienceMetrics | None = None,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings or ResilienceSettings()
        self._clock = clock or SystemClock()
        self.metrics = metrics or ResilienceMetrics()
        self._limiters = HostLimiters(self._settings, self._clock, random)
        self._in_flight: dict[CacheKey, InFlight] = {}
        self._cache_limits = self._settings.cache_limits
        self._cache = ResponseCache(self._cache_limits)
        self._freshness = FreshnessPolicy(
            cache_ttl=self._settings.cache_ttl, refresh_interval=self._settings.refresh_interval
        )
        self._negative_cache = NegativeCache(self._settings.negative_cache_ttl)
        self._outage_warnings = Deduplicator(_OUTAGE_WARNING_SECONDS, clock=self._clock.monotonic)
        self._sweeper = ExpirySweeper(self._cache, self._clock)
        self.metrics.watch(self)

    async def fetch(
        self,
        key: CacheKey,
        load: Callable[[RetryingCaller], Coroutine[Any, Any, T]],
        *,
        purpose: Purpose = Purpose.FIRST,
        max_age: float | None = None,
        size_of: Callable[[T], int | None] | None = None,
        revalidate: Callable[[T, RetryingCaller], Awaitable[bool]] | None = None,
        volume: str = "",
        counted: bool = True,
    ) -> T:
        """What `load` returns, or what it returned to somebody else with an equal key.

        Args:
            key: what is asked for, and as whom.
            load: asks the vault, each request through `Errand.run`. Its result is shared, so it is
                frozen.
            purpose: why.
            max_age: seconds that an answer may have been held; None: as the settings say for a
                first mount, and since the last tick of the identity for a refresh; 0: only an
                answer that is still to come.
            size_of: the bytes of an answer, secrets included; None for one that is not to be held,
                such as one with a lease. Without it none is held.
            revalidate: asks the vault for a cheaper proof that an answer which is too old for a
                refresh still holds.
            volume: who uses the answer, until `volume_gone`; "" for nobody in particular.
            counted: whether it is an object of a mount, for the metrics.

        Raises:
            KeyferryError: what `load` raised, or why it may not be made now.
        """
        now = self._clock.monotonic()
        reuse = self._settings.cache_ttl if max_age is None else max_age
        answer = self._cache.get(key)
        count = self._counter(key) if counted else lambda how: None
        if answer is not None and self._freshness.is_fresh(
            answer.validated_at, identity=key.identity, purpose=purpose, max_age=max_age, now=now
        ):
            count("hit")
            value: T = answer.value
        else:
            refusal = self._negative_cache.get(key, now)
            if refusal is not None:
                count("negative_hit")
                raise copy_without_traceback(refusal) from refusal.__cause__
            proof = revalidate if purpose is Purpose.REFRESH else None
            try:
                value = await self._coalesce(
                    key, FetchRequest(load, size_of, proof, count), purpose
                )
            except KeyferryError as error:
                kept = self._stale_if_error(key, error, purpose) if reuse else None
                if kept is None:
                    raise
                count("stale")
                value = kept.value
        if volume and self._settings.tracks_volumes:
            self._cache.retain(key, volume, validated_at=self._validated_at(key, now))
        return value

    def caller_for(
        self, vault: str, purpose: Purpose = Purpose.FIRST, *, mode: str = ""
    ) -> RetryingCaller:
        """For requests whose answers are neither shared nor kept: a login, a secret made for one.

        Args:
            vault: the host that is asked, as in `FetchKey`.
            purpose: why.
            mode: of the identity that asks, as in `WholeIdentity`.
        """
        gate = self._limiters.get(vault)
        return RetryingCaller(
            gate, purpose, lambda how: self.metrics.count_request(vault, mode, how)
        )

    def configure(self, vault: str, limits: CallLimits) -> None:
        """Have limits of its own for a vault, unless it has been asked before.

        Args:
            vault: its host.
            limits: where they are not those of all vaults.
        """
        self._limiters.configure(vault, limits)

    def select_revalidatable(
        self, predicate: Callable[[CacheKey, Any], bool]
    ) -> dict[CacheKey, Any]:
        """The answers that a proof may keep, of those that are wanted."""
        return self._cache.select_revalidatable(predicate, now=self.now())

    def mark_validated(self, keys: Iterable[CacheKey], *, validated_at: float) -> None:
        """The vault proved that these answers still hold; `validated_at` is when it was asked."""
        for key in keys:
            self._cache.mark_validated(key, validated_at=validated_at)

    @property
    def revalidates_by_list(self) -> bool:
        """Whether a refresh may ask for proofs."""
        return self._settings.list_revalidation

    def now(self) -> float:
        """Seconds from an arbitrary start."""
        return self._clock.monotonic()

    def retain_only(self, volume: str, keys: AbstractSet[CacheKey]) -> None:
        """A volume is filled, and of all that was fetched for it uses these alone."""
        self._cache.retain_only(volume, keys)

    def is_due(self, volume: str, *, last_attempt: float) -> bool | None:
        """Whether a refresh of a volume would ask the vault for something.

        Args:
            volume: as in `fetch`.
            last_attempt: what was asked for since then, in vain or not, is not due; by `now`.

        Returns:
            None when nothing that the volume uses is known.
        """
        used = self._cache.retained_by(volume)
        return (
            self._freshness.is_due(used, last_attempt=last_attempt, now=self.now())
            if used
            else None
        )

    def release(self, volume: str) -> None:
        """Nobody uses for `volume` any more what was fetched for it."""
        self._cache.release(volume)
        self._sweeper.sweep()

    async def close(self) -> None:
        """Let go of everything that is held, and of everybody who waits."""
        self._sweeper.stop()
        await self._limiters.close()
        self._cache.clear()

    # --- for the metrics ----------------------------------------------------------------------

    def limiters(self) -> list[HostLimiter]:
        """The vaults and token endpoints that are known."""
        return self._limiters.all()

    @property
    def cache_bytes(self) -> int:
        """The answers that are held."""
        return self._cache.total_bytes

    @property
    def oldest_content_age(self) -> float | None:
        """The age of the oldest answer that a volume uses."""
        oldest = self._cache.oldest_retained()
        return None if oldest is None else self._clock.monotonic() - oldest

    # --- inside -------------------------------------------------------------------------------

    def _counter(self, key: CacheKey) -> Callable[[CacheResult], None]:
        return lambda how: self.metrics.count_object_request(key.vault, key.identity.mode, how)

    def _validated_at(self, key: CacheKey, now: float) -> float:
        answer = self._cache.get(key)
        return now if answer is None else answer.validated_at

    def _stale_if_error(
        self, key: CacheKey, error: KeyferryError, purpose: Purpose
    ) -> CacheEntry | None:
        """What running pods of the same identity use, for one that starts while the vault is away.

        None where there is nothing, or the vault is not away.
        """
        if purpose is not Purpose.FIRST or not is_outage(error):
            return None
        held = self._cache.revalidatable(key, now=self._clock.monotonic())
        if held is not None and self._outage_warnings.should_notify(key.vault):
            _log.warning(
                "a pod gets what running pods use, because the vault gives no answer",
                vault=key.vault,
                **error.log_pairs(),
            )
        return held

    async def _coalesce(self, key: CacheKey, request: FetchRequest, purpose: Purpose) -> Any:
        """Wait for who is asking already, or ask."""
        found = self._in_flight.get(key)
        if found is None:
            errand = self.caller_for(key.vault, purpose, mode=key.identity.mode)
            flight = SharedCall(
                self._fetch(key, request, errand), lambda: self._finished(key, flight)
            )
            found = self._in_flight[key] = InFlight(flight, errand)
        else:
            request.count("coalesced")
            found.caller.promote(purpose)
        return await found.call.wait()

    async def _fetch(self, key: CacheKey, request: FetchRequest, caller: RetryingCaller) -> Any:
        asked = self._clock.monotonic()
        held = self._cache.revalidatable(key, now=asked)
        try:
            if held and request.revalidate and await request.revalidate(held.value, caller):
                request.count("revalidated")
                self._cache.mark_validated(key, validated_at=asked)
                return held.value
            request.count("miss")
            value = await request.load(caller)
        except KeyferryError as error:
            if self._negative_cache.put(key, error, self._clock.monotonic()):
                self._cache.drop(key)
            raise
        size = (
            request.size_of(value)
            if request.size_of and self._cache_limits.retained_ttl > 0
            else None
        )
        if size is not None:
            self._cache.put(key, value, size=size, fetched_at=asked)
            self._sweeper.schedule_sweep(asked + self._cache_limits.unretained_ttl)
        return value

    def _finished(self, key: CacheKey, call: SharedCall[Any]) -> None:
        """A flight is over; the next one may already have taken its place."""
        found = self._in_flight.get(key)
        if found is not None and found.call is call:
            del self._in_flight[key]
