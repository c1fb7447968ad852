"""Which SecretSyncs are reconciled when: at the start, after events, when due, after failures."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry

from keyferry.errors import VaultError
from keyferry.kubernetes.syncs.changes import (
    ClassChanged,
    Reconnected,
    ServiceAccountChanged,
    SyncChanged,
    SyncSecretChanged,
)
from keyferry.kubernetes.syncs.groups import GKE_GROUP, UPSTREAM_GROUP
from keyferry.kubernetes.syncs.objects import SecretSync, SyncKey
from keyferry.providers.expiry import ExpiringLease, Expiry
from keyferry.records import replace
from keyferry.sync_controller.controller import (
    CHECK_SECONDS,
    EXPIRED_RETRY_SECONDS,
    LEASE_CHECK_SECONDS,
    LEASE_RETRY_SECONDS,
    MAX_RETRY_SECONDS,
    SyncController,
    retry_backoff,
)
from keyferry.sync_controller.reconciler import Result, SyncReconciler
from keyferry.sync_controller.rules.request import target_path_of
from keyferry.sync_controller.settings import TokenSettings
from keyferry.sync_controller.tokens import ServiceAccountTokens
from keyferry.telemetry.sync_metrics import SyncMetrics
from tests.fakes.clock import START, ManualClock
from tests.fakes.log import captured_log
from tests.fakes.secret_syncs import Issuer, secret_sync, sync_class
from tests.fakes.syncs import UID


class ScriptedReconciler(SyncReconciler):
    """Records the attempts.

    Attributes:
        attempts: the names, in order.
        results: what an attempt comes to, by name; done for good without one.
        unchanged: Secrets that are as the last sync left them, by name.
        lost: the names whose leases were lost.
    """

    def __init__(self) -> None:
        self.attempts: list[str] = []
        self.results: dict[str, Result] = {}
        self.unchanged: dict[str, str] = {}
        self.lost: list[str] = []

    async def reconcile(self, key: SyncKey) -> Result:
        self.attempts.append(key[2])
        return self.results.get(key[2], Result(is_done=True))

    def is_unchanged(self, key: SyncKey, secret: str) -> bool:
        return self.unchanged.get(key[2]) == secret

    def lose_lease(self, key: SyncKey) -> None:
        self.lost.append(key[2])

    def take(self) -> list[str]:
        """Return the new attempts."""
        taken, self.attempts = self.attempts, []
        return taken


class MemorySource:
    """Implements `SyncSource`."""

    def __init__(self, *syncs: SecretSync) -> None:
        self._syncs = {sync.ref.key: sync for sync in syncs}

    def syncs(self) -> list[SecretSync]:
        return list(self._syncs.values())

    def sync(self, key: SyncKey) -> SecretSync | None:
        return self._syncs.get(key)


class MemoryLeases:
    """Implements `LeaseSource`.

    Attributes:
        restored: target paths with leases of an earlier process.
        expiring: the leases that cannot be renewed.
        error: raised instead of returning them, if it is set.
        revoked: the target paths whose leases were revoked.
    """

    def __init__(self) -> None:
        self.restored: frozenset[str] = frozenset()
        self.expiring: tuple[tuple[str, ExpiringLease], ...] = ()
        self.error: VaultError | None = None
        self.revoked: list[str] = []

    async def restore(self) -> frozenset[str]:
        return self.restored

    async def expiring_leases(self) -> tuple[tuple[str, ExpiringLease], ...]:
        if self.error is not None:
            raise self.error
        return self.expiring

    def volume_removed(self, target_path: str, *, unpublished: bool) -> None:
        assert unpublished
        self.revoked.append(target_path)


WEB = secret_sync()
OTHERS = (
    secret_sync("api", uid="api-uid", secretProviderClassName="other"),
    secret_sync("cron", uid="cron-uid", serviceAccountName="cron"),
    secret_sync("web-2", "bank", uid="bank-uid"),
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def reconciler() -> ScriptedReconciler:
    return ScriptedReconciler()


@pytest.fixture
def leases() -> MemoryLeases:
    return MemoryLeases()


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def tokens(issuer: Issuer, clock: ManualClock) -> ServiceAccountTokens:
    return ServiceAccountTokens(issuer, TokenSettings(("vault",)), clock)


@pytest.fixture
def stopped(
    reconciler: ScriptedReconciler,
    leases: MemoryLeases,
    tokens: ServiceAccountTokens,
    registry: CollectorRegistry,
    clock: ManualClock,
) -> SyncController:
    """A controller of four SecretSyncs in two namespaces."""
    return SyncController(
        reconciler,
        source=MemorySource(WEB, *OTHERS),
        leases=leases,
        tokens=tokens,
        metrics=SyncMetrics(registry, clock.wall),
        groups=(UPSTREAM_GROUP, GKE_GROUP),
        clock=clock,
    )


@pytest.fixture
async def controller(
    stopped: SyncController, reconciler: ScriptedReconciler
) -> AsyncIterator[SyncController]:
    """The same, after its start."""
    async with stopped.running():
        await ManualClock.run_ready_tasks()
        reconciler.take()
        yield stopped


def lease(uid: str, *, expires_in: float = 3600.0) -> tuple[str, ExpiringLease]:
    expires_at = round(START.timestamp() + expires_in)
    return "vault", ExpiringLease(target_path_of(uid), Expiry("dynamic x", expires_at, 1))


# --- start ----------------------------------------------------------------------------------------


async def test_all_secret_syncs_are_reconciled_at_the_start(
    stopped: SyncController, reconciler: ScriptedReconciler, registry: CollectorRegistry
) -> None:
    """What happened meanwhile is not known."""
    async with stopped.running():
        assert 4 == len(stopped)
        assert 4 == registry.get_sample_value("keyferry_secretsync_queue_length")
        await ManualClock.run_ready_tasks()
        assert ["api", "cron", "web", "web-2"] == sorted(reconciler.take())
        assert 0 == len(stopped)


async def test_leases_without_a_secret_sync_are_revoked_at_the_start(
    stopped: SyncController, leases: MemoryLeases
) -> None:
    """It was deleted while no controller ran."""
    leases.restored = frozenset({target_path_of(UID), target_path_of("deleted-uid")})
    async with stopped.running():
        assert [target_path_of("deleted-uid")] == leases.revoked


# --- events ---------------------------------------------------------------------------------------


async def after(
    controller: SyncController, reconciler: ScriptedReconciler, event: object
) -> list[str]:
    """Return what an event leads to."""
    controller.on_event(event)  # type: ignore[arg-type]
    await ManualClock.run_ready_tasks()
    return sorted(reconciler.take())


async def test_changed_secret_sync_is_reconciled(
    controller: SyncController, reconciler: ScriptedReconciler, leases: MemoryLeases
) -> None:
    """New, edited, deleted, or created again. The leases of a deleted one are revoked."""
    assert ["web"] == await after(controller, reconciler, SyncChanged(None, WEB))
    assert ["web"] == await after(controller, reconciler, SyncChanged(WEB, WEB))
    assert [] == leases.revoked
    assert ["web"] == await after(controller, reconciler, SyncChanged(WEB, None))
    later = secret_sync(uid="later-uid")
    assert ["web"] == await after(controller, reconciler, SyncChanged(WEB, later))
    assert [target_path_of(UID)] * 2 == leases.revoked


async def test_change_of_a_class_concerns_its_secret_syncs(
    controller: SyncController, reconciler: ScriptedReconciler
) -> None:
    """Of its namespace."""
    changed = ClassChanged("shop", "vault", None, sync_class())
    assert ["cron", "web"] == await after(controller, reconciler, changed)
    removed = ClassChanged("shop", "other", sync_class("other"), None)
    assert ["api"] == await after(controller, reconciler, removed)
    assert [] == await after(controller, reconciler, replace(changed, name="unknown"))


async def test_change_of_a_secret_is_drift_unless_it_is_known(
    controller: SyncController, reconciler: ScriptedReconciler
) -> None:
    """The notice of an own write needs no attempt."""
    event = SyncSecretChanged("shop", "web", deleted=False, uid="uid", resource_version="8")
    reconciler.unchanged["web"] = "uid/8"
    assert [] == await after(controller, reconciler, event)
    edited = replace(event, resource_version="9")
    assert ["web"] == await after(controller, reconciler, edited)
    assert ["web"] == await after(controller, reconciler, replace(event, deleted=True))
    reconciler.unchanged["web"] = ""
    assert [] == await after(controller, reconciler, replace(event, deleted=True))
    assert [] == await after(controller, reconciler, replace(event, name="unknown"))


async def test_change_of_a_service_account_forgets_its_tokens(
    controller: SyncController,
    reconciler: ScriptedReconciler,
    tokens: ServiceAccountTokens,
    issuer: Issuer,
) -> None:
    """And concerns the SecretSyncs that use it."""
    await tokens.tokens("shop", "web", {"vault"})
    event = ServiceAccountChanged("shop", "web", None)
    assert ["api", "web"] == await after(controller, reconciler, event)
    await tokens.tokens("shop", "web", {"vault"})
    assert 2 == len(issuer.requests)


# --- time -----------------------------------------------------------------------------------------


async def test_secret_sync_is_reconciled_when_it_is_due(
    controller: SyncController, reconciler: ScriptedReconciler, clock: ManualClock
) -> None:
    """And again at the next time; an attempt before it moves it."""
    reconciler.results["web"] = Result(is_done=True, next_at=100)
    await after(controller, reconciler, SyncChanged(WEB, WEB))
    await clock.advance(99)
    assert [] == reconciler.take()
    reconciler.results["web"] = Result(is_done=True, next_at=200)
    await clock.advance(1 + CHECK_SECONDS)
    assert ["web"] == reconciler.take()
    reconciler.results["web"] = Result(is_done=True)
    await after(controller, reconciler, SyncChanged(WEB, WEB))
    await clock.advance(10_000)
    assert [] == reconciler.take()


async def test_failed_secret_sync_is_retried_later_and_later(
    controller: SyncController, reconciler: ScriptedReconciler, clock: ManualClock
) -> None:
    """After 5 seconds at first; a change is not delayed by that."""
    reconciler.results["web"] = Result(is_done=False)
    await after(controller, reconciler, SyncChanged(WEB, WEB))
    assert 1 == len(controller)
    await clock.advance(4.9)
    assert [] == reconciler.take()
    await clock.advance(0.1)
    assert ["web"] == reconciler.take()
    await clock.advance(9.9)
    assert [] == reconciler.take()
    assert ["web"] == await after(controller, reconciler, SyncChanged(WEB, WEB))
    reconciler.results.clear()
    assert ["web"] == await after(controller, reconciler, Reconnected())
    assert 0 == len(controller)
    assert [] == await after(controller, reconciler, Reconnected())


def test_retries_are_at_most_a_quarter_of_an_hour_apart() -> None:
    """Also after years."""
    assert [5, 10, 20, 40] == [retry_backoff(failures) for failures in range(1, 5)]
    assert {MAX_RETRY_SECONDS} == {retry_backoff(failures) for failures in (9, 50, 10**6)}


# --- dynamic secrets ------------------------------------------------------------------------------


async def test_expiring_lease_is_replaced(
    controller: SyncController,
    reconciler: ScriptedReconciler,
    leases: MemoryLeases,
    clock: ManualClock,
) -> None:
    """Not with each look: the replacement takes a moment."""
    leases.expiring = (lease(UID), lease("unknown-uid"))
    await clock.advance(LEASE_CHECK_SECONDS)
    assert ["web"] == reconciler.take() == reconciler.lost
    await clock.advance(LEASE_RETRY_SECONDS - LEASE_CHECK_SECONDS)
    assert [] == reconciler.take()
    await clock.advance(LEASE_CHECK_SECONDS)
    assert ["web"] == reconciler.take()


async def test_lease_that_has_expired_is_replaced_without_haste(
    controller: SyncController,
    reconciler: ScriptedReconciler,
    leases: MemoryLeases,
    clock: ManualClock,
) -> None:
    """At once, and later rarely: the queue retries failures with backoff."""
    leases.expiring = (lease(UID, expires_in=-60),)
    await clock.advance(LEASE_CHECK_SECONDS)
    assert ["web"] == reconciler.take() == reconciler.lost
    await clock.advance(EXPIRED_RETRY_SECONDS - LEASE_CHECK_SECONDS)
    assert [] == reconciler.take()
    await clock.advance(LEASE_CHECK_SECONDS)
    assert ["web"] == reconciler.take()


async def test_short_lease_is_replaced_before_it_expires(
    controller: SyncController,
    reconciler: ScriptedReconciler,
    leases: MemoryLeases,
    clock: ManualClock,
) -> None:
    """One of ten seconds is reported for the last three; the replacement takes a moment."""
    await clock.advance(LEASE_CHECK_SECONDS / 2)
    leases.expiring = (lease(UID),)
    await clock.advance(1.0)
    assert ["web"] == reconciler.take() == reconciler.lost


async def test_leases_are_looked_for_again_after_a_failure(
    controller: SyncController,
    reconciler: ScriptedReconciler,
    leases: MemoryLeases,
    clock: ManualClock,
) -> None:
    """The process of the providers may be restarted just now."""
    leases.error = VaultError("the provider worker is not running")
    with captured_log() as log:
        await clock.advance(LEASE_CHECK_SECONDS)
    assert "leases cannot be checked" in log.getvalue()
    leases.error, leases.expiring = None, (lease("api-uid"),)
    await clock.advance(LEASE_CHECK_SECONDS)
    assert ["api"] == reconciler.take()
