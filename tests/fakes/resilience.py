"""Fetchers and scripted vaults for tests of the requests to vaults.

provider = AzureProvider(https, uncached_fetcher(AutojumpClock()))

async with scripted_host(broken(), "fine") as host:
    assert "fine" == await host.request()
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from keyferry.errors import (
    ConnectionFailedError,
    KeyferryError,
    Stage,
    VaultError,
    VaultThrottledError,
)
from keyferry.net.retryable import RetryableFailure
from keyferry.resilience.cache_key import CacheKey, IdentityKey
from keyferry.resilience.call_context import KEYFERRY, CallContext, Caller, Purpose
from keyferry.resilience.fetcher import Fetched, Fetcher
from keyferry.resilience.freshness import Wanted
from keyferry.resilience.limits.host_limiter import HostLimiter
from keyferry.resilience.settings import ResilienceSettings
from tests.fakes.clock import AutojumpClock
from tests.fakes.virtual_time import LoopClock, max_jitter

HOST = "contoso"
ROTATING = ResilienceSettings(refresh_interval=120.0, tracks_volumes=True, qps=0.0)
"""Settings of a driver with rotation, without a rate limit."""


def uncached_fetcher(clock: AutojumpClock | None = None) -> Fetcher:
    """Return a fetcher that caches nothing, so that a change in a vault is visible at once."""
    jumping = clock or AutojumpClock()
    return Fetcher(
        ResilienceSettings(cache_ttl=0, negative_cache_ttl=0), jumping, random=jumping.random
    )


# --- A host with scripted responses ---------------------------------------------------------------


def broken() -> RetryableFailure:
    """Return a connection failure."""
    error = ConnectionFailedError("failed to connect", "Look.", stage=Stage.CONNECT)
    error.is_outage = True
    return RetryableFailure(error)


def unavailable() -> RetryableFailure:
    """Return a response with status 503."""
    error = VaultError("failed with status 503")
    error.is_outage = True
    return RetryableFailure(error)


def throttled(retry_after: float | None = None) -> RetryableFailure:
    """Return a 429 response."""
    return RetryableFailure(VaultThrottledError("failed to read: throttles"), retry_after)


def now() -> float:
    """Return the time of the running loop."""
    return asyncio.get_running_loop().time()


Response = str | RetryableFailure | BaseException


@dataclass
class ScriptedHost:
    """Returns scripted responses and records the requests.

    Attributes:
        fetcher: sends the requests.
        responses: in order; the last one repeats.
        latency: seconds until a response.
        sent_at: when each request was sent.
        time_limits: the time limit in seconds of each request.
        max_in_flight: the greatest number of concurrent requests.
    """

    fetcher: Fetcher
    responses: list[Response]
    latency: float = 0.0
    sent_at: list[float] = field(default_factory=list)
    time_limits: list[float] = field(default_factory=list)
    in_flight: int = 0
    max_in_flight: int = 0

    async def attempt(self, seconds: float) -> str | RetryableFailure:
        """Answer one request."""
        self.sent_at.append(now())
        self.time_limits.append(seconds)
        response = self.responses[min(len(self.sent_at), len(self.responses)) - 1]
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.latency)
        finally:
            self.in_flight -= 1
        if isinstance(response, BaseException):
            raise response
        return response

    async def send(self, context: CallContext) -> str:
        """Send a request through the transport."""
        return await self.fetcher.transport.send(self.attempt, context)

    async def request(
        self, purpose: Purpose = Purpose.FIRST, *, tenant: str = "", identity: str = ""
    ) -> str:
        """Send a request of a call of its own."""
        caller = Caller(tenant, identity)
        return await self.send(CallContext.new(HOST, purpose, caller=caller))

    def start_request(
        self, purpose: Purpose = Purpose.FIRST, *, tenant: str = "", identity: str = ""
    ) -> asyncio.Task[str]:
        """Send a request in the background."""
        return asyncio.create_task(self.request(purpose, tenant=tenant, identity=identity))

    @property
    def limiter(self) -> HostLimiter:
        """The limiter of the only host."""
        (limiter,) = self.fetcher.limiters()
        return limiter


@asynccontextmanager
async def scripted_host(
    *responses: Response,
    settings: ResilienceSettings | None = None,
    latency: float = 0.0,
    jitter: float = 1.0,
) -> AsyncIterator[ScriptedHost]:
    """Yield a host; by default each request succeeds at once, without a rate limit."""
    settings = settings or ResilienceSettings(qps=0.0)
    fetcher = Fetcher(settings, LoopClock(), random=lambda: jitter)
    try:
        yield ScriptedHost(fetcher, list(responses) or ["fine"], latency)
    finally:
        await fetcher.close()


# --- A vault with one object ----------------------------------------------------------------------


def object_key(name: str = "db", identity: str = "a") -> CacheKey:
    """Return the cache key of an object."""
    return CacheKey(HOST, IdentityKey("Mode", (identity,)), ("read", name))


@dataclass
class NumberVault:
    """A vault whose only content is a number. Counts the requests.

    Attributes:
        fetcher: sends the requests.
        value: the content.
        reads: the number of requests for the content.
        revalidations: the number of revalidations.
        error: raised instead of a response.
        failure: returned instead of a response.
        latency: seconds until a response.
        revalidation_latency: seconds until the response of a revalidation.
    """

    fetcher: Fetcher
    value: int = 1
    reads: int = 0
    revalidations: int = 0
    error: KeyferryError | None = None
    failure: RetryableFailure | None = None
    latency: float = 0.0
    revalidation_latency: float = 0.0

    async def read(self, context: CallContext) -> int:
        """Request the content."""

        async def attempt(seconds: float) -> int | RetryableFailure:
            self.reads += 1
            await asyncio.sleep(self.latency)
            if self.error:
                raise self.error
            return self.failure or self.value

        return await self.fetcher.transport.send(attempt, context)

    async def revalidate(self, cached: int, context: CallContext) -> bool:
        """Return whether a cached value is current."""

        async def attempt(seconds: float) -> bool:
            self.revalidations += 1
            await asyncio.sleep(self.revalidation_latency)
            return cached == self.value

        return await self.fetcher.transport.send(attempt, context)

    async def fetch(
        self,
        purpose: Purpose = Purpose.FIRST,
        *,
        identity: str = "a",
        volume: str = "pod",
        max_age: float | None = None,
        revalidate: bool = False,
        caller: Caller = KEYFERRY,
        not_before: float | None = None,
    ) -> Fetched[int]:
        """Fetch the content as a mount does."""
        return await self.fetcher.fetch(
            object_key(identity=identity),
            self.read,
            purpose=purpose,
            caller=caller,
            max_age=max_age,
            size_of=lambda _: 10,
            revalidate=self.revalidate if revalidate else None,
            volume=volume,
            wanted=Wanted(not_before=not_before),
        )

    async def get(
        self,
        purpose: Purpose = Purpose.FIRST,
        *,
        identity: str = "a",
        volume: str = "pod",
        max_age: float | None = None,
        revalidate: bool = False,
        caller: Caller = KEYFERRY,
    ) -> int:
        """Return only the value of `fetch`."""
        fetched = await self.fetch(
            purpose,
            identity=identity,
            volume=volume,
            max_age=max_age,
            revalidate=revalidate,
            caller=caller,
        )
        return fetched.value

    def served(self, result: str) -> float:
        """Return how many fetches were served in one way, such as "hit"."""
        labels = {"vault": HOST, "identity": "Mode", "result": result}
        registry = self.fetcher.metrics.registry
        return registry.get_sample_value("keyferry_object_requests_total", labels) or 0.0


@asynccontextmanager
async def number_vault(settings: ResilienceSettings = ROTATING) -> AsyncIterator[NumberVault]:
    """Yield a vault that is read through a fetcher of its own."""
    fetcher = Fetcher(settings, LoopClock(), random=max_jitter)
    try:
        yield NumberVault(fetcher)
    finally:
        await fetcher.close()
