"""The limiters of all hosts, bounded for each tenant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.errors import VaultThrottledError
from keyferry.resilience.limits.host_limiter import HostLimiter, WaitingRequests

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry.aio.clock import Clock
    from keyferry.resilience.call_context import Endpoint
    from keyferry.resilience.metrics import ResilienceMetrics
    from keyferry.resilience.settings import CallLimits, ResilienceSettings

MAX_HOSTS = 1000
"""The number of limiters that are kept; SecretProviderClasses can name any number of hosts."""
MAX_HOSTS_PER_TENANT = 64
"""The number of hosts that one tenant uses at the same time."""


class HostLimiters:
    """One limiter for each host. When there are too many, idle ones are dropped.

    Args:
        settings: the limits of hosts without limits of their own.
        clock: the time.
        random: returns a number from 0 to 1, for jitter.
        metrics: counts attempts.
    """

    def __init__(
        self,
        settings: ResilienceSettings,
        clock: Clock,
        random: Callable[[], float],
        metrics: ResilienceMetrics,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._random = random
        self._metrics = metrics
        self._limiters: dict[str, HostLimiter] = {}
        self._created_by: dict[str, str] = {}
        self._waiting = WaitingRequests()

    def get(self, endpoint: Endpoint, tenant: str) -> HostLimiter:
        """Return the limiter of a host.

        Raises:
            VaultThrottledError: the tenant uses too many hosts at the same time.
        """
        return self._limiters.get(endpoint.authority) or self._create(endpoint, tenant)

    def find(self, endpoint: Endpoint) -> HostLimiter | None:
        """Return the limiter of a host; None if it is unknown."""
        return self._limiters.get(endpoint.authority)

    def all(self) -> list[HostLimiter]:
        """Return the limiters of all known hosts."""
        return list(self._limiters.values())

    async def close(self) -> None:
        """Cancel all pending requests."""
        for limiter in self._limiters.values():
            await limiter.close()

    def create_with_limits(self, endpoint: Endpoint, limits: CallLimits, tenant: str) -> None:
        """Set limits for one host. No effect while its limiter exists."""
        if endpoint.authority not in self._limiters:
            self._create(endpoint, tenant, self._settings.with_limits(limits))

    def _create(
        self, endpoint: Endpoint, tenant: str, settings: ResilienceSettings | None = None
    ) -> HostLimiter:
        if len(self._limiters) >= MAX_HOSTS:
            for authority in [name for name, one in self._limiters.items() if one.is_unused]:
                self._drop(authority)
        if tenant:
            self._make_room_for(tenant)
        limiter = HostLimiter(
            endpoint.host,
            settings or self._settings,
            self._clock,
            self._random,
            self._metrics,
            waiting=self._waiting,
        )
        self._limiters[endpoint.authority] = limiter
        self._created_by[endpoint.authority] = tenant
        return limiter

    def _make_room_for(self, tenant: str) -> None:
        """Drop a host that only this tenant uses, if it has too many."""
        own = [name for name, creator in self._created_by.items() if creator == tenant]
        if len(own) < MAX_HOSTS_PER_TENANT:
            return
        for authority in own:
            limiter = self._limiters[authority]
            if limiter.is_quiet and set(limiter.tenants) <= {tenant}:
                self._drop(authority)
                return
        raise VaultThrottledError(
            f"pods of namespace {tenant} use {len(own)} vaults at the same time",
            f"A node uses at most {MAX_HOSTS_PER_TENANT} vaults at the same time for one "
            "namespace; kubelet tries again.",
        )

    def _drop(self, authority: str) -> None:
        del self._limiters[authority]
        del self._created_by[authority]
