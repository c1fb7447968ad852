"""Loads values from vaults: shares concurrent calls, revalidates, and updates the caches."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from keyferry.aio.single_flight import SharedCall
from keyferry.errors import KeyferryError
from keyferry.resilience.call_context import CallContext, Purpose
from keyferry.resilience.negative_cache import is_refusal
from keyferry.resilience.response_cache import CacheEntry, ResponseCache

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

    from keyferry.aio.clock import Clock
    from keyferry.resilience.cache_key import CacheKey
    from keyferry.resilience.call_context import Caller, Endpoint
    from keyferry.resilience.freshness import Wanted
    from keyferry.resilience.metrics import CacheResult
    from keyferry.resilience.negative_cache import NegativeCache
    from keyferry.resilience.settings import ResilienceSettings

_SWEEP_SECONDS = 1.0
"""The time between two removals of expired cache entries, at least."""


class Request(Struct, frozen=True):
    """One fetch on its way down the layers.

    Attributes:
        key: the object and the identity.
        load: requests the value from the vault.
        size_of: returns the size of a value in bytes, or None for a value that is not cached.
        revalidate: asks the vault whether a cached value is current; None where this is impossible.
        purpose: the priority.
        caller: on whose behalf the vault is called.
        endpoint: where the vault is.
        started_at: when `fetch` was called, in seconds of the clock.
        count: counts how the value was obtained.
        wanted: how fresh a cached error, or the call of another mount, must be.
        ignores_circuit: whether the vault is asked even if the tenant's circuit breaker is open.
    """

    key: CacheKey
    load: Callable[[CallContext], Coroutine[Any, Any, Any]]
    size_of: Callable[[Any], int | None] | None
    revalidate: Callable[[Any, CallContext], Awaitable[bool]] | None
    purpose: Purpose
    caller: Caller
    endpoint: Endpoint
    started_at: float
    count: Callable[[CacheResult], None]
    wanted: Wanted
    ignores_circuit: bool = False


class ExpirySweeper:
    """Removes expired cache entries. Sleeps while the cache is empty.

    Args:
        cache: the cache to sweep.
        clock: the time.
    """

    def __init__(self, cache: ResponseCache, clock: Clock) -> None:
        self._cache = cache
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._next_sweep_at = 0.0

    def schedule_sweep(self, latest: float) -> None:
        """Sweep at `latest`, in seconds of the clock, or earlier."""
        if self._task is not None and not self._task.done():
            if self._next_sweep_at <= latest:
                return
            self._task.cancel()
        self._next_sweep_at = latest
        self._task = asyncio.create_task(self._run())

    def sweep(self, keys: Iterable[CacheKey]) -> None:
        """Remove the expired ones of these entries now, the others when they expire."""
        next_expiry = self._cache.sweep(self._clock.monotonic(), keys)
        if next_expiry is not None:
            self.schedule_sweep(next_expiry)

    def stop(self) -> None:
        """Stop sweeping."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            await self._clock.sleep(
                max(_SWEEP_SECONDS, self._next_sweep_at - self._clock.monotonic())
            )
            next_expiry = self._cache.sweep(self._clock.monotonic())
            if next_expiry is None:
                return
            self._next_sweep_at = next_expiry


class Loader:
    """Gets a value from the vault and updates the caches.

    Args:
        settings: the limits.
        cache: holds the values.
        negative_cache: holds errors that say "not found" or "denied".
        sweeper: removes expired values.
        clock: the time.
    """

    def __init__(
        self,
        settings: ResilienceSettings,
        cache: ResponseCache,
        negative_cache: NegativeCache,
        sweeper: ExpirySweeper,
        clock: Clock,
    ) -> None:
        self._cache_limits = settings.cache_limits
        self._cache = cache
        self._negative_cache = negative_cache
        self._sweeper = sweeper
        self._clock = clock

    async def fetch(self, request: Request, context: CallContext) -> CacheEntry:
        """Return the value. The first case that applies decides:

        1. A refresh, and the vault confirms that the cached value is current: that value.
        2. The vault returns a value: it is cached if `size_of` gives it a size.
        3. The vault says "not found" or "denied": the error is remembered, and the cached value is
           dropped.
        4. Any other error is raised; the cached value stays.

        A call that a later call has overtaken changes neither cache: a value or an error that the
        vault was asked for later is newer.
        """
        key, asked_at = request.key, request.started_at
        try:
            if request.revalidate is not None:
                cached = self._cache.revalidatable(key, now=asked_at)
                if cached and await request.revalidate(cached.value, context):
                    request.count("revalidated")
                    cached.validated_at = max(cached.validated_at, asked_at)
                    return cached
            request.count("miss")
            value = await request.load(context)
        except KeyferryError as error:
            if is_refusal(error) and not self._is_overtaken(key, asked_at):
                now = self._clock.monotonic()
                self._negative_cache.put(key, error, now, asked_at=asked_at)
                self._cache.drop(key)
            raise
        entry = CacheEntry(
            value, 0, validated_at=asked_at, fetched_at=asked_at, tenant=context.caller.tenant
        )
        if self._is_overtaken(key, asked_at):
            return entry
        self._negative_cache.drop(key)
        if request.size_of and self._cache_limits.retained_ttl > 0:
            size = request.size_of(value)
            if size is not None:
                entry.size = size
                self._cache.put(key, entry)
                self._sweeper.schedule_sweep(asked_at + self._cache_limits.unretained_ttl)
        return entry

    def _is_overtaken(self, key: CacheKey, asked_at: float) -> bool:
        """Return whether a cache has an answer that the vault was asked for after `asked_at`."""
        cached = self._cache.peek(key)
        if cached is not None and cached.validated_at > asked_at:
            return True
        refused_at = self._negative_cache.asked_at(key)
        return refused_at is not None and refused_at > asked_at


_FlightKey = tuple["CacheKey", str | None, bool]
"""The key of a value, the tenant, and whether the call ignores an open circuit breaker. The tenant
is None for the refresh that those of other tenants join."""

_Flight = tuple["SharedCall[CacheEntry]", "CallContext", float]
"""A call, its context, and when it began."""


class SingleFlight:
    """Lets concurrent fetches of one key share one call.

    Args:
        loader: makes the call.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._in_flight: dict[_FlightKey, _Flight] = {}

    async def fetch(self, request: Request) -> CacheEntry:
        """Join a call for this key, or start one. The first case that applies decides:

        0. A call in flight began before `wanted.not_before`: do not join it.
        1. The tenant has a call in flight: join it. A first mount raises the priority of a refresh.
        2. A refresh of another tenant with the same identity is in flight: a refresh joins it, and
           starts its own call only if that fails. No pod waits for a refresh. A first mount never
           joins the call of another tenant, which may wait for the turn of that tenant, or fail at
           its circuit breaker.
        3. Otherwise: start a call.
        """
        own = (request.key, request.caller.tenant, request.ignores_circuit)
        shared = (request.key, None, request.ignores_circuit)
        if self._can_join(own, request):
            request.count("coalesced")
            call, context, _ = self._in_flight[own]
            if request.purpose is Purpose.FIRST:
                context.priority.promote()
            return await call.wait()
        if request.purpose is Purpose.REFRESH and self._can_join(shared, request):
            call, _, _ = self._in_flight[shared]
            try:
                entry = await call.wait()
            except KeyferryError:
                return await self._start(request, own)
            request.count("coalesced")
            return entry
        if request.purpose is Purpose.REFRESH:
            return await self._start(request, own, shared)
        return await self._start(request, own)

    def _can_join(self, flight: _FlightKey, request: Request) -> bool:
        if flight not in self._in_flight:
            return False
        _, _, asked_at = self._in_flight[flight]
        not_before = request.wanted.not_before
        return not_before is None or asked_at >= not_before

    async def _start(self, request: Request, *flights: _FlightKey) -> CacheEntry:
        context = CallContext.new(
            request.endpoint,
            request.purpose,
            mode=request.key.identity.mode,
            caller=request.caller,
            ignores_circuit=request.ignores_circuit,
        )
        call = SharedCall(
            self._loader.fetch(request, context), lambda: self._finished(flights, call)
        )
        for flight in flights:
            self._in_flight[flight] = (call, context, request.started_at)
        return await call.wait()

    def _finished(self, flights: Iterable[_FlightKey], call: SharedCall[CacheEntry]) -> None:
        """Forget a call that has ended; a newer one for a key may have replaced it."""
        for flight in flights:
            if flight in self._in_flight and self._in_flight[flight][0] is call:
                del self._in_flight[flight]
