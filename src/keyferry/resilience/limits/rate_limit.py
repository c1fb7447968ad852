"""The rate limit of one host, and backoff from it when it throttles. [pure]

All tenants share the rate limit. Throttling concerns only the tenant that was throttled: it may
have used up a quota of its own. The backoff holds for all tenants once two of them are throttled
and no request has succeeded since; nobody lengthens it alone.

Times are seconds of any monotonic clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.resilience.limits.token_bucket import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry.resilience.settings import ResilienceSettings

_MIN_RETRY_AFTER_SECONDS = 0.1
"""A shorter Retry-After is replaced by a backoff of our own."""
_MAX_BACKOFF_SECONDS = 600.0
"""A longer Retry-After is cut, because it may be a mistake of a proxy."""
_NEVER = float("-inf")


class _TenantRate:
    """The rate of a tenant that was throttled, until it has recovered.

    Args:
        settings: the limits of the host.
        now: the time.
    """

    def __init__(self, settings: ResilienceSettings, now: float) -> None:
        self._retry = settings.retry
        self.bucket = TokenBucket(rate=settings.qps, burst=settings.burst, now=now)
        self.backoff_until = _NEVER
        self._throttle_count = 0
        self._throttled_at = _NEVER

    def is_recovered(self, now: float) -> bool:
        """Return whether nothing is left of the throttling."""
        return now >= self.backoff_until and self.bucket.is_full(now)

    def wait(self, now: float) -> float:
        """Return the seconds until the tenant may send a request, at most 0 if it may now."""
        return max(self.bucket.delay(now), self.backoff_until - now)

    def on_success(self) -> None:
        """Record a request that was not throttled."""
        self._throttle_count = 0

    def on_throttled(
        self, *, sent_at: float, retry_after: float | None, now: float, random: Callable[[], float]
    ) -> None:
        """Lengthen the backoff and halve the rate."""
        if sent_at >= self._throttled_at:
            self._throttled_at = now
            self._throttle_count += 1
        if retry_after is None or retry_after < _MIN_RETRY_AFTER_SECONDS:
            # A Retry-After of zero would cause requests in a tight loop.
            retry_after = self._retry.max_delay(self._throttle_count) * random()
        until = now + min(retry_after, _MAX_BACKOFF_SECONDS)
        self.backoff_until = max(self.backoff_until, until)
        self.bucket.throttle(sent_at=sent_at, now=now, until=self.backoff_until)


class RateLimit:
    """The rate limit of one host for all tenants.

    Args:
        settings: the limits.
        now: the time.
        random: returns a number from 0 to 1, for jitter.
    """

    def __init__(
        self, settings: ResilienceSettings, now: float, random: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._random = random
        self._bucket = TokenBucket(rate=settings.qps, burst=settings.burst, now=now)
        self._tenants: dict[str, _TenantRate] = {}
        self._throttled: dict[str, float] = {}
        self._throttled_at = _NEVER
        self._shared_until = _NEVER

    def shared_wait(self, now: float) -> float:
        """Return the seconds until any tenant may send a request, at most 0 if one may now."""
        return max(self._bucket.delay(now), self._shared_until - now)

    def tenant_wait(self, tenant: str, now: float) -> float:
        """Return the seconds until this tenant may, at most 0 if only `shared_wait` counts."""
        rate = self._tenants.get(tenant)
        return 0.0 if rate is None else rate.wait(now)

    def backoff_until(self, tenant: str) -> float:
        """Return when the tenant may be served again after throttling."""
        rate = self._tenants.get(tenant)
        return self._shared_until if rate is None else max(self._shared_until, rate.backoff_until)

    def is_backoff_shared(self, now: float) -> bool:
        """Return whether independent tenants were throttled, so that all of them wait."""
        return now < self._shared_until

    def tokens(self, tenant: str, now: float) -> float:
        """Return the number of requests that this tenant may send now."""
        rate, shared = self._tenants.get(tenant), self._bucket.available(now)
        return shared if rate is None else min(shared, rate.bucket.available(now))

    def is_full(self, now: float) -> bool:
        """Return whether nothing is left of earlier requests."""
        recovered = all(rate.is_recovered(now) for rate in self._tenants.values())
        return now >= self._shared_until and recovered and self._bucket.is_full(now)

    def take(self, tenant: str, now: float) -> None:
        """Take a token for a request."""
        self._bucket.take(now)
        if self._tenants and (rate := self._tenants.get(tenant)):
            rate.bucket.take(now)

    def refund(self, tenant: str) -> None:
        """Return the token of a request that was not sent."""
        self._bucket.refund()
        if rate := self._tenants.get(tenant):
            rate.bucket.refund()

    def on_success(self, tenant: str, *, sent_at: float, now: float) -> None:
        """Record a response that does not throttle."""
        if not self._tenants:
            return
        if sent_at >= self._throttled_at:
            self._throttled.clear()
        rate = self._tenants.get(tenant)
        if rate is not None:
            rate.on_success()
            if rate.is_recovered(now):
                del self._tenants[tenant]

    def on_throttled(
        self, tenant: str, *, sent_at: float, retry_after: float | None, now: float
    ) -> None:
        """Record that the host throttled a request.

        Args:
            tenant: on whose behalf the request was sent.
            sent_at: when it was sent.
            retry_after: seconds of the Retry-After header, or None.
            now: the time.
        """
        rate = self._tenants.get(tenant)
        if rate is None:
            self._forget_recovered(now)
            rate = self._tenants[tenant] = _TenantRate(self._settings, now)
        rate.on_throttled(sent_at=sent_at, retry_after=retry_after, now=now, random=self._random)
        self._throttled_at = now
        self._throttled = {name: until for name, until in self._throttled.items() if until > now}
        self._throttled[tenant] = rate.backoff_until
        if len(self._throttled) > 1:
            # The second latest: no tenant can make the others wait longer than they would.
            self._shared_until = max(self._shared_until, sorted(self._throttled.values())[-2])
            self._bucket.throttle(sent_at=sent_at, now=now, until=self._shared_until)

    def _forget_recovered(self, now: float) -> None:
        for name in [name for name, rate in self._tenants.items() if rate.is_recovered(now)]:
            del self._tenants[name]
