"""Limits the requests to one host: permits, backoff when throttled, circuit breakers.

Tenants share the rate and the concurrency fairly. What goes wrong for one tenant concerns only that
tenant, until independent tenants meet it too.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar, assert_never

from msgspec import Struct, field

from keyferry.errors import (
    ConnectionFailedError,
    VaultError,
    VaultThrottledError,
    VaultUnavailableError,
)
from keyferry.formats.bounded_dict import BoundedDict
from keyferry.net.retryable import RetryableFailure
from keyferry.resilience.limits.circuit_breaker import (
    Allow,
    AwaitProbe,
    CircuitKey,
    Circuits,
    Reject,
)
from keyferry.resilience.limits.permit_scheduler import PermitScheduler
from keyferry.resilience.limits.rate_limit import RateLimit
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from keyferry.aio.clock import Clock
    from keyferry.errors import KeyferryError
    from keyferry.resilience.call_context import CallContext
    from keyferry.resilience.metrics import RequestOutcome, ResilienceMetrics
    from keyferry.resilience.settings import ResilienceSettings

T = TypeVar("T")

_log = get_logger("breaker")

MAX_WAITING_PER_TENANT = 2000
"""The number of requests of one tenant that may wait for one host."""
MAX_WAITING_PER_TENANT_IN_TOTAL = 4000
"""The number of requests of one tenant that may wait for all hosts."""
_MIN_ATTEMPT_SECONDS = 0.001
"""An attempt whose permit came at the deadline still gets a positive time limit."""
_BEST_EFFORT_ATTEMPT_SECONDS = 10.0
"""The time limit of one attempt of a best-effort call."""
_RECENT_SECONDS = 300.0
"""How long a tenant counts as one that uses the host."""
_MAX_TENANTS = 1024
_MAX_CONNECTIONS = 64


class Permit(Struct, frozen=True):
    """Allows one attempt. Its holder must report the outcome or release it.

    Attributes:
        sent_at: when the permit was given, in seconds of the limiter's clock.
        circuit: whose circuit breaker the outcome concerns.
        probe: whether this attempt is the probe of a half-open circuit breaker.
    """

    sent_at: float
    circuit: CircuitKey
    probe: bool

    @property
    def tenant(self) -> str:
        """On whose behalf the request is sent."""
        return self.circuit[1]


class WaitingRequests(Struct):
    """The number of waiting requests of each tenant."""

    by_tenant: dict[str, int] = field(default_factory=dict)

    def of(self, tenant: str) -> int:
        """Return the number of waiting requests of a tenant."""
        return self.by_tenant.get(tenant, 0)

    def add(self, tenant: str, change: int) -> None:
        """Count `change` more requests."""
        number = self.of(tenant) + change
        if number:
            self.by_tenant[tenant] = number
        else:
            self.by_tenant.pop(tenant, None)


class HostLimiter:
    """Limits the requests to one vault or token endpoint.

    Args:
        host: shown in messages and metrics.
        settings: the limits.
        clock: the time.
        random: returns a number from 0 to 1, for jitter.
        metrics: counts attempts.
        waiting: counts the waiting requests of all hosts; None: of this host only.
    """

    def __init__(
        self,
        host: str,
        settings: ResilienceSettings,
        clock: Clock,
        random: Callable[[], float],
        metrics: ResilienceMetrics,
        *,
        waiting: WaitingRequests | None = None,
    ) -> None:
        self.host = host
        self.settings = settings
        self.clock = clock
        self.random = random
        self._metrics = metrics
        self._rate = RateLimit(settings, clock.monotonic(), random)
        self._circuits = Circuits(settings.breaker)
        self.scheduler = PermitScheduler(
            self._rate, settings.max_concurrency, clock, self._expired_error
        )
        self._waiting = WaitingRequests()
        self._waiting_in_total = waiting or WaitingRequests()
        self._probe_waiters: dict[CircuitKey, list[asyncio.Future[None]]] = {}
        self._used_at: BoundedDict[str, float] = BoundedDict(_MAX_TENANTS)
        self._responded_at: BoundedDict[int, float] = BoundedDict(_MAX_CONNECTIONS)

    # --- requests -----------------------------------------------------------------------------

    async def send(
        self,
        attempt: Callable[[float], Awaitable[T | RetryableFailure]],
        context: CallContext,
        *,
        now: float,
        arrived_at: float,
        deadline: float,
    ) -> T | RetryableFailure:
        """Wait for a permit, make one attempt, and learn from its outcome.

        Args:
            attempt: sends the request once, within the seconds that are its argument.
            context: of the call.
            now: the time in seconds of the clock.
            arrived_at: when the request first asked for a permit, in seconds of the clock. A retry
                keeps its place in the queue.
            deadline: when the request gives up.

        Raises:
            VaultUnavailableError: the circuit breaker of the tenant is open.
            VaultThrottledError: no permit before the deadline, or too many requests wait.
            Exception: whatever `attempt` raises.
        """
        permit = await self._get_permit(context, now, arrived_at, deadline)
        left = max(deadline - permit.sent_at, _MIN_ATTEMPT_SECONDS)
        if context.deadline is not None:
            left = min(left, _BEST_EFFORT_ATTEMPT_SECONDS)
        try:
            outcome = await attempt(left)
        except BaseException as error:
            self._on_error(permit, error)
            self._metrics.count_request(self.host, context.mode, "failed", tenant=permit.tenant)
            raise
        if isinstance(outcome, RetryableFailure):
            self._on_failure(permit, outcome, best_effort=context.deadline is not None)
            result: RequestOutcome = "throttled" if outcome.is_throttled else "failed"
        else:
            self._on_success(permit)
            result = "answered"
        self._metrics.count_request(self.host, context.mode, result, tenant=permit.tenant)
        return outcome

    def has_responded_since(self, connection: int, time: float) -> bool:
        """Return whether anybody got a response from the host after a time of the clock."""
        return self._responded_at.get(connection, float("-inf")) >= time

    def backoff_until(self, tenant: str) -> float:
        """Return when the host may be called again on behalf of a tenant after it throttled."""
        return self._rate.backoff_until(tenant)

    async def close(self) -> None:
        """Cancel all pending requests."""
        await self.scheduler.close()

    # --- state for the metrics ----------------------------------------------------------------

    @property
    def is_quiet(self) -> bool:
        """Whether no request is in flight and none waits."""
        return not self.scheduler.in_flight and not self.queue_depth

    @property
    def is_unused(self) -> bool:
        """Whether the limiter has no state that a new one would lack, but for old failures."""
        has_failures = self._circuits.any_open and bool(self.tenants)
        return self.is_quiet and not has_failures and self._rate.is_full(self.clock.monotonic())

    @property
    def tenants(self) -> list[str]:
        """The tenants that used the host recently."""
        since = self.clock.monotonic() - _RECENT_SECONDS
        return [tenant for tenant, used_at in self._used_at.items() if used_at >= since]

    @property
    def queue_depth(self) -> int:
        """The number of requests that wait for a permit."""
        return len(self.scheduler) + sum(map(len, self._probe_waiters.values()))

    @property
    def queue_wait_seconds(self) -> float:
        """Seconds that the request waits that has waited longest for a permit; 0 without one."""
        return self.scheduler.longest_wait(self.clock.monotonic())

    @property
    def rate_limit_tokens(self) -> float:
        """The number of requests that the tenant with the fewest limits may send now."""
        now = self.clock.monotonic()
        return max(self._rate.tokens(tenant, now) for tenant in self.tenants or [""])

    @property
    def backoff_seconds(self) -> float:
        """Seconds until any tenant may call the host again after it throttled."""
        until = min(self._rate.backoff_until(tenant) for tenant in self.tenants or [""])
        return max(0.0, until - self.clock.monotonic())

    @property
    def is_circuit_open(self) -> bool:
        """Whether the circuit breakers of all tenants that use the host are open.

        During an outage (see `Circuits`), tenants that have not asked yet do not count.
        """
        if not self._circuits:
            return False
        now = self.clock.monotonic()
        open_tenants = self._circuits.open_tenants(now)
        everybody = bool(open_tenants) and open_tenants.issuperset(self.tenants)
        return everybody or self._circuits.has_outage(now)

    @property
    def open_circuits(self) -> int:
        """The number of tenants with an open circuit breaker."""
        return len(self._circuits.open_tenants(self.clock.monotonic())) if self._circuits else 0

    # --- permits ------------------------------------------------------------------------------

    async def _get_permit(
        self, context: CallContext, now: float, arrived_at: float, deadline: float
    ) -> Permit:
        """Return a permit. In order:

        1. The host throttles the tenant until after the deadline: raise.
        2. The circuit breaker of the tenant is open: raise, or wait for the outcome of a probe.
        3. A permit is available, and no request waits that should have it: take it.
        4. Otherwise wait in the queue.
        """
        tenant = context.caller.tenant
        self._used_at[tenant] = now
        if self._rate.backoff_until(tenant) >= deadline:
            raise self._throttled_error(tenant, now)
        circuit, probe = (context.endpoint.connection, tenant), False
        if self._circuits and not context.ignores_circuit:
            probe = await self._pass_circuit(circuit, now, deadline)
            now = self.clock.monotonic()
        if self.scheduler.acquire(tenant, now):
            return Permit(now, circuit, probe)
        try:
            with self._counted(tenant):
                sent_at = await self.scheduler.wait(
                    context, arrived_at=arrived_at, deadline=deadline
                )
        except BaseException:
            if probe:
                self._probe_abandoned(circuit)
            raise
        return Permit(sent_at, circuit, probe)

    async def _pass_circuit(self, circuit: CircuitKey, now: float, deadline: float) -> bool:
        """Return when the circuit breaker lets the request pass, and whether it is a probe.

        Raises:
            VaultUnavailableError: it is open.
            VaultThrottledError: too many requests wait for the probe, or it took too long.
        """
        while True:
            verdict = self._circuits.verdict(circuit, now)
            match verdict:
                case Allow(probe):
                    if probe:
                        self._circuits.probe_sent(circuit)
                    return probe
                case AwaitProbe():
                    with self._counted(circuit[1]):
                        await self._probe_outcome(circuit)
                    now = self.clock.monotonic()
                    if now >= deadline:
                        raise self._expired_error(circuit[1])
                case Reject():
                    raise self._unavailable_error(verdict, circuit, now)
                case _:
                    assert_never(verdict)

    async def _probe_outcome(self, circuit: CircuitKey) -> None:
        outcome = asyncio.get_running_loop().create_future()
        waiters = self._probe_waiters.setdefault(circuit, [])
        waiters.append(outcome)
        try:
            await outcome
        except asyncio.CancelledError:
            waiters.remove(outcome)
            raise

    def _probe_ended(self, circuit: CircuitKey) -> None:
        for outcome in self._probe_waiters.pop(circuit, ()):
            if not outcome.done():
                outcome.set_result(None)

    def _probe_abandoned(self, circuit: CircuitKey) -> None:
        self._circuits.probe_abandoned(circuit)
        self._probe_ended(circuit)

    @contextmanager
    def _counted(self, tenant: str) -> Iterator[None]:
        """Count a waiting request.

        Raises:
            VaultThrottledError: too many requests of the tenant wait.
        """
        here, total = self._waiting.of(tenant), self._waiting_in_total.of(tenant)
        if tenant and (here >= MAX_WAITING_PER_TENANT or total >= MAX_WAITING_PER_TENANT_IN_TOTAL):
            error = VaultThrottledError(
                f"too many requests of namespace {tenant} are waiting for {self.host} on this node",
                f"At most {MAX_WAITING_PER_TENANT} requests of a namespace can wait for one vault, "
                f"and {MAX_WAITING_PER_TENANT_IN_TOTAL} for all vaults. Mount fewer objects, or "
                "start fewer pods at once; kubelet tries again.",
            )
            error.add_detail(f"{here} for this vault, {total} for all vaults")
            raise error
        self._waiting.add(tenant, 1)
        self._waiting_in_total.add(tenant, 1)
        try:
            yield
        finally:
            self._waiting.add(tenant, -1)
            self._waiting_in_total.add(tenant, -1)

    # --- outcomes -----------------------------------------------------------------------------

    def _on_success(self, permit: Permit) -> None:
        """The host responded."""
        now = self.clock.monotonic()
        self._on_response(permit, now)
        self._rate.on_success(permit.tenant, sent_at=permit.sent_at, now=now)
        self.scheduler.release(permit.tenant)

    def _on_failure(self, permit: Permit, failure: RetryableFailure, *, best_effort: bool) -> None:
        """The host throttled, or did not respond. The first case that applies decides:

        1. The caller chose the status, such as that of `sys/health`: it says nothing.
        2. The host throttles: back off.
        3. There was no connection: see `_on_connection_failure`.
        4. The host responded with a status of an outage. A best-effort request may simply be too
           expensive, so its failure says nothing about the host.
        5. Otherwise only this request failed: the host responded.
        """
        if failure.chosen_by_caller:
            self._release(permit)
        elif failure.is_throttled:
            now = self.clock.monotonic()
            self._on_response(permit, now)
            self._rate.on_throttled(
                permit.tenant, sent_at=permit.sent_at, retry_after=failure.retry_after, now=now
            )
            self.scheduler.release(permit.tenant)
        elif isinstance(failure.error, ConnectionFailedError):
            self._on_connection_failure(permit, failure.error)
        elif failure.host_fault and not best_effort:
            self._record_failure(permit, failure.error)
        else:
            self._on_success(permit)

    def _on_error(self, permit: Permit, error: BaseException) -> None:
        """The attempt raised an error that is not retried."""
        if isinstance(error, ConnectionFailedError):
            self._on_connection_failure(permit, error)
        elif isinstance(error, VaultError):
            self._on_success(permit)
        else:
            self._release(permit)

    def _on_connection_failure(self, permit: Permit, error: ConnectionFailedError) -> None:
        """There was no complete response. What TLS settings may have caused says nothing."""
        if error.host_fault:
            self._record_failure(permit, error)
        else:
            self._release(permit)

    def _on_response(self, permit: Permit, now: float) -> None:
        self._responded_at[permit.circuit[0]] = now
        if self._circuits:
            if self._circuits.on_success(permit.circuit, now):
                _log.info("circuit breaker closed", host=self.host, namespace=permit.tenant)
            self._probe_ended(permit.circuit)

    def _record_failure(self, permit: Permit, error: KeyferryError) -> None:
        now, circuit = self.clock.monotonic(), permit.circuit
        opened = self._circuits.on_failure(
            circuit, error, now=now, jitter=self.random(), probe=permit.probe
        )
        if permit.probe:
            self._probe_ended(circuit)
        if opened and isinstance(verdict := self._circuits.verdict(circuit, now), Reject):
            connection, tenant = circuit
            _log.warning(
                "circuit breaker opened",
                host=self.host,
                namespace=tenant,
                nextRequest=self._wall_time(verdict.next_probe_at),
                **error.log_pairs(),
            )
            self.scheduler.fail(
                tenant, connection, lambda: self._unavailable_error(verdict, circuit, now)
            )
        self.scheduler.release(permit.tenant)

    def _release(self, permit: Permit) -> None:
        """Return a permit without an outcome."""
        if permit.probe:
            self._probe_abandoned(permit.circuit)
        self.scheduler.release(permit.tenant)

    # --- errors -------------------------------------------------------------------------------

    def _throttled_error(self, tenant: str, now: float) -> VaultThrottledError:
        until = self._wall_time(self._rate.backoff_until(tenant))
        error = VaultThrottledError(
            f"{self.host} throttles (429 Too Many Requests)",
            "Request fewer objects from this vault, or spread them over several vaults.",
        )
        error.add_detail(f"rate limited until {until}")
        error.is_outage = self._rate.is_backoff_shared(now)
        return error

    def _expired_error(self, tenant: str) -> VaultThrottledError:
        settings, others = self.settings, max(0, self._waiting.of(tenant) - 1)
        error = VaultThrottledError(
            f"a request to {self.host} waited {settings.call_timeout:g} s for the rate limit",
            f"The limit is {settings.qps:g} requests per second to one vault (--vault-qps), shared "
            "by all namespaces, and less while the vault throttles. Request fewer objects, or "
            "spread them over several vaults.",
        )
        error.add_detail(f"{others} other requests of its namespace are waiting")
        return error

    def _unavailable_error(
        self, verdict: Reject, circuit: CircuitKey, now: float
    ) -> VaultUnavailableError:
        """Return the error for an open circuit breaker.

        Of the last error it repeats only what the host did: the request may be that of another pod.
        """
        last = verdict.last_error
        known = last.host_problem if isinstance(last, VaultError) else ""
        error = VaultUnavailableError(
            f"{known or f'{self.host} does not respond'}; its circuit breaker is open",
            last.remedy if known else "The log has the last error.",
            stage=last.stage,
        )
        error.add_detail(f"since {self._wall_time(verdict.failing_since)}")
        error.is_outage = self._circuits.is_outage(circuit[0], now)
        return error

    def _wall_time(self, monotonic: float) -> str:
        """Return a time of the clock as text, for messages."""
        epoch = self.clock.wall().timestamp() + monotonic - self.clock.monotonic()
        return datetime.fromtimestamp(epoch, UTC).strftime("%H:%M:%S UTC")
