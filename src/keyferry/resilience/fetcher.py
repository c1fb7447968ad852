"""Entry point of every shared request to a vault: cache, single flight, revalidation, transport.

The layers, outermost first; a request goes down once and its result comes back once:

1. `Fetcher.fetch`: the response cache, the negative cache, and stale content during an outage.
2. `SingleFlight`: concurrent fetches of one key share one call.
3. `Loader`: revalidates a cached value or loads a new one, and updates the caches.
4. `RetryingTransport`: retries; each attempt waits for a permit (`HostLimiter`).
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from keyferry.aio.clock import SystemClock
from keyferry.aio.single_flight import copy_without_traceback
from keyferry.errors import KeyferryError, VaultError, VaultUnavailableError
from keyferry.records import replace
from keyferry.resilience.call_context import KEYFERRY, CallContext, Purpose, endpoint_of
from keyferry.resilience.freshness import ANY, FreshnessPolicy, RefreshSlot, refresh_slots
from keyferry.resilience.limits.host_limiters import HostLimiters
from keyferry.resilience.loading import ExpirySweeper, Loader, Request, SingleFlight
from keyferry.resilience.metrics import ResilienceMetrics
from keyferry.resilience.negative_cache import NegativeCache
from keyferry.resilience.response_cache import CacheEntry, ResponseCache
from keyferry.resilience.settings import ResilienceSettings
from keyferry.resilience.transport import RetryingTransport
from keyferry.telemetry.deduplicator import Deduplicator
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable
    from collections.abc import Set as AbstractSet

    from keyferry.aio.clock import Clock
    from keyferry.resilience.cache_key import CacheKey, IdentityKey
    from keyferry.resilience.call_context import Caller, Endpoint
    from keyferry.resilience.freshness import Wanted
    from keyferry.resilience.limits.host_limiter import HostLimiter
    from keyferry.resilience.metrics import CacheResult
    from keyferry.resilience.settings import CallLimits

T = TypeVar("T")
_log = get_logger("resilience")

_OUTAGE_WARNING_SECONDS = 60.0
"""How often a vault outage is logged while pods get stale content."""


class Fetched(NamedTuple, Generic[T]):
    """A value of a vault and its age. A tuple, because each cache hit makes one.

    Attributes:
        value: what the vault returned.
        fetched_at: when the vault was asked for it, in seconds of the fetcher's clock.
        age: seconds between the last time that the vault was asked whether the value is current and
            the call of `fetch`; 0 for a value that was requested or revalidated for this call.
        result: how the value was obtained: `hit`, `stale`, `revalidated`, or `miss` for a value
            that was requested for this call or for one that was in flight.
    """

    value: T
    fetched_at: float
    age: float
    result: CacheResult

    def __repr__(self) -> str:
        """Return a text without the value, which may be secret."""
        return f"{type(self).__name__}(fetched_at={self.fetched_at}, age={self.age})"


class Fetcher:
    """Fetches values from vaults for all providers of one process, on one event loop.

    Args:
        settings: the limits.
        clock: the time.
        metrics: what is counted.
        random: returns a number from 0 to 1, for jitter.

    Attributes:
        metrics: the same.
        transport: for requests whose responses are not shared, such as logins.
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
        self._limiters = HostLimiters(self._settings, self._clock, random, self.metrics)
        self.transport = RetryingTransport(self._limiters)
        self._cache = ResponseCache(self._settings.cache_limits)
        self._negative_cache = NegativeCache(self._settings.negative_cache_ttl)
        self._sweeper = ExpirySweeper(self._cache, self._clock)
        self._single_flight = SingleFlight(
            Loader(
                self._settings,
                self._cache,
                self._negative_cache,
                self._sweeper,
                self._clock,
            )
        )
        self._freshness = FreshnessPolicy(
            cache_ttl=self._settings.cache_ttl, refresh_interval=self._settings.refresh_interval
        )
        self._outage_warnings = Deduplicator(_OUTAGE_WARNING_SECONDS)
        self.metrics.watch(self)

    async def fetch(
        self,
        key: CacheKey,
        load: Callable[[CallContext], Coroutine[Any, Any, T]],
        *,
        purpose: Purpose = Purpose.FIRST,
        caller: Caller = KEYFERRY,
        endpoint: Endpoint | None = None,
        max_age: float | None = None,
        size_of: Callable[[T], int | None] | None = None,
        revalidate: Callable[[T, CallContext], Awaitable[bool]] | None = None,
        volume: str = "",
        counted: bool = True,
        wanted: Wanted = ANY,
    ) -> Fetched[T]:
        """Return the value for `key`, from the cache or from the vault, with its age.

        The first case that applies decides:

        1. The cached value is fresh enough: return it.
        2. The vault said "not found" or "denied" a moment ago, and not before `wanted.not_before`:
           raise that error again.
        3. A call for the key is in flight that began no earlier: join it. Otherwise start one.
        4. The call fails because the vault is unavailable, which the pod's SecretProviderClass
           cannot cause, a pod waits to start, and running pods of the same identity use a cached
           value: return that value, however old.
        5. The call fails otherwise: raise.

        Args:
            key: the object and the identity.
            load: requests the value from the vault. Values are shared, so they must be immutable.
            purpose: the priority.
            caller: on whose behalf the vault is called.
            endpoint: where the vault is; None: `key.vault`, over https.
            max_age: seconds since the vault was last asked that a cached value may have. None: the
                cache TTL for a first mount, back to the last refresh slot for a refresh.
            size_of: returns the bytes of a value, or None to keep it out of the cache, for example
                because it has a lease. Without `size_of` nothing is cached.
            revalidate: asks the vault whether a value that is too old for a refresh is current.
            volume: the volume that uses the value until `release`; "" for none.
            counted: whether the metrics count an object request.
            wanted: how fresh a cached value or error must be for this caller.

        Raises:
            KeyferryError: from `load`, from the transport or from the negative cache.
        """
        now = self._clock.monotonic()
        result: CacheResult = "hit"
        entry = self._fresh_entry(key, purpose, max_age, wanted)
        if entry is not None:
            if counted:
                mode, tenant = key.identity.mode, caller.tenant
                self.metrics.count_object_request(key.vault, mode, "hit", tenant=tenant)
        else:
            count = self._counter(key, caller) if counted else _ignore
            revalidate = revalidate if purpose is Purpose.REFRESH else None
            endpoint = endpoint or endpoint_of(key.vault)
            request = Request(
                key, load, size_of, revalidate, purpose, caller, endpoint, now, count, wanted
            )
            entry, result = await self._fetch_uncached(request, max_age)
        if volume and self._settings.tracks_volumes:
            self._cache.retain(key, volume, validated_at=entry.validated_at)
        age = now - entry.validated_at
        return Fetched(entry.value, entry.fetched_at, age if age > 0 else 0.0, result)

    def configure(self, endpoint: Endpoint, limits: CallLimits, caller: Caller = KEYFERRY) -> None:
        """Set limits for one vault. No effect after the first request to it.

        Args:
            endpoint: where it is.
            limits: where they differ from those of all vaults.
            caller: on whose behalf it is called.
        """
        self._limiters.create_with_limits(endpoint, limits, caller.tenant)

    def select_revalidatable(
        self, vault: str, identity: IdentityKey, predicate: Callable[[CacheKey, Any], bool]
    ) -> dict[CacheKey, Any]:
        """Return the cached values of an identity that a list may revalidate.

        Args:
            vault: as in the cache keys.
            identity: the caller.
            predicate: whether the list covers a value.
        """
        return self._cache.select_revalidatable(vault, identity, predicate, now=self.now())

    def mark_validated(self, keys: Iterable[CacheKey], *, validated_at: float) -> None:
        """Record that cached values are current; `validated_at` is when the vault was asked."""
        for key in keys:
            self._cache.mark_validated(key, validated_at=validated_at)

    @property
    def revalidates_by_list(self) -> bool:
        """Whether a refresh may revalidate cached values with list calls."""
        return self._settings.list_revalidation

    def now(self) -> float:
        """Return the time in seconds of the fetcher's clock."""
        return self._clock.monotonic()

    def retain_only(self, volume: str, keys: AbstractSet[CacheKey]) -> None:
        """Record that `volume` uses only these keys of all that were fetched for it."""
        self._cache.retain_only(volume, keys)

    def refresh_slots(self, volume: str) -> tuple[RefreshSlot, ...]:
        """Return when the content of a volume is to be refreshed; nothing if it has none here."""
        return refresh_slots(self._cache.retained_by(volume))

    def release(self, volume: str) -> None:
        """Record that `volume` was removed, and drop what no other volume uses."""
        self._sweeper.sweep(self._cache.release(volume))

    async def close(self) -> None:
        """Empty the cache and cancel the requests that wait for a permit."""
        self._sweeper.stop()
        await self._limiters.close()
        self._cache.clear()

    # --- state for the metrics ----------------------------------------------------------------

    def limiters(self) -> list[HostLimiter]:
        """Return the limiters of all known vaults and token endpoints."""
        return self._limiters.all()

    @property
    def cache_bytes(self) -> int:
        """The size of the response cache."""
        return self._cache.total_bytes

    @property
    def cache_max_bytes(self) -> int:
        """The limit of the size of the response cache."""
        return self._cache.max_bytes

    @property
    def cache_evictions(self) -> int:
        """How many responses were dropped, or not cached, because of that limit."""
        return self._cache.evictions

    @property
    def oldest_content_age(self) -> float | None:
        """Seconds since the oldest value that a volume uses was validated; None without one."""
        oldest = self._cache.oldest_retained()
        return None if oldest is None else self._clock.monotonic() - oldest

    # --- internals ----------------------------------------------------------------------------

    def _fresh_entry(
        self, key: CacheKey, purpose: Purpose, max_age: float | None, wanted: Wanted
    ) -> CacheEntry | None:
        entry = self._cache.get(key)
        if entry is None:
            return None
        fresh = self._freshness.is_fresh(
            entry.validated_at,
            identity=key.identity,
            purpose=purpose,
            max_age=max_age,
            now=self._clock.monotonic(),
            wanted=wanted,
        )
        return entry if fresh else None

    def _counter(self, key: CacheKey, caller: Caller) -> Callable[[CacheResult], None]:
        return lambda result: self.metrics.count_object_request(
            key.vault, key.identity.mode, result, tenant=caller.tenant
        )

    async def _fetch_uncached(
        self, request: Request, max_age: float | None
    ) -> tuple[CacheEntry, CacheResult]:
        """Return a value that is not fresh in the cache, and how it was obtained.

        These are cases 2 to 5 of `fetch`. If only the tenant itself has opened its circuit breaker,
        the vault is really asked once before stale content is used.
        """
        refusal = self._negative_cache.get(
            request.key, request.started_at, not_before=request.wanted.not_before
        )
        if refusal is not None:
            request.count("negative_hit")
            cached_error = copy_without_traceback(refusal)
            cached_error.is_cached = True
            raise cached_error from refusal.__cause__
        try:
            entry = await self._ask_vault(request, max_age)
        except VaultError as error:
            stale = self._stale_entry(request, max_age)
            if stale is None or not self._is_outage(error, request):
                raise
            self._warn_of_stale_content(request.key.vault, error)
            request.count("stale")
            return stale, "stale"
        # Only a value that was revalidated has been validated after it was fetched.
        is_new = entry.validated_at == entry.fetched_at
        return entry, "miss" if is_new else "revalidated"

    async def _ask_vault(self, request: Request, max_age: float | None) -> CacheEntry:
        try:
            return await self._single_flight.fetch(request)
        except VaultUnavailableError as error:
            if error.is_outage or self._stale_entry(request, max_age) is None:
                raise
        return await self._single_flight.fetch(replace(request, ignores_circuit=True))

    def _stale_entry(self, request: Request, max_age: float | None) -> CacheEntry | None:
        """Return the outdated value that a pod may start with during an outage, or None."""
        if request.purpose is not Purpose.FIRST or max_age == 0:
            return None
        if max_age is None and self._settings.cache_ttl == 0:
            return None  # the caller does not accept cached content
        return self._cache.revalidatable(request.key, now=self._clock.monotonic())

    def _is_outage(self, error: VaultError, request: Request) -> bool:
        """Return whether the vault is unavailable, for a reason that the caller cannot cause."""
        limiter = self._limiters.find(request.endpoint)
        connection = request.endpoint.connection
        return error.is_outage and not (
            limiter and limiter.has_responded_since(connection, request.started_at)
        )

    def _warn_of_stale_content(self, vault: str, error: KeyferryError) -> None:
        if self._outage_warnings.should_notify(vault, self._clock.monotonic()):
            _log.warning(
                "a pod gets stale content, because the vault is unavailable",
                vault=vault,
                **error.log_pairs(),
            )


def _ignore(_: CacheResult) -> None:
    """Count nothing."""
