"""Timers of a node on which nothing happens."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from keyferry.aio.tasks import spawn
from keyferry.driver.publish.schedule import RefreshSchedule
from keyferry.driver.request import PublishRequest
from keyferry.driver.rotation.lease_watch import LeaseExpiryWatcher
from keyferry.driver.rotation.rotator import Rotator
from keyferry.driver.volumes.volume_table import Volume, VolumeTable
from keyferry.kubernetes.files.null_cluster import NullCluster
from keyferry.kubernetes.objects import PodRef
from keyferry.plugins.providers import Providers
from keyferry.records import replace
from keyferry.resilience.freshness import RefreshSlot
from tests.fakes.clock import ManualClock

if TYPE_CHECKING:
    from keyferry.driver.publish.publisher import Publisher
    from keyferry.driver.status.expiry_monitor import ExpiryMonitor
    from keyferry.providers.expiry import ExpiringLease

INTERVAL = 120.0
POD = PodRef("shop", "web-0", "1")


class CountingSchedule(RefreshSchedule):
    """Counts how often volumes are compared with the schedule."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(interval=INTERVAL, node="node-1", clock=clock)
        self.checks = 0

    def is_due(self, volume: Volume, *, last_attempt: float = 0.0) -> bool:
        self.checks += 1
        return super().is_due(volume, last_attempt=last_attempt)


class RecordingPublisher:
    """Refreshes nothing."""

    def __init__(self) -> None:
        self.refreshed: list[str] = []

    async def refresh(self, request: PublishRequest, **_: object) -> None:
        self.refreshed.append(request.target_path)


class CountingProviders(Providers):
    """Counts how often the provider worker is asked for leases."""

    def __init__(self) -> None:
        self.calls = 0

    async def expiring_leases(self) -> tuple[tuple[str, ExpiringLease], ...]:
        self.calls += 1
        return ()


def volume(number: int, phase: float, provider: str = "azure") -> Volume:
    target = f"/pods/{number}/mount"
    return Volume(
        target,
        POD,
        "web",
        datetime(2030, 1, 1, tzinfo=UTC),
        0.0,
        provider=provider,
        request=PublishRequest(target, True, POD, "web", {}),
        refresh_slots=(RefreshSlot(phase, 0.0),),
    )


async def test_rotator_looks_at_volumes_when_one_is_due() -> None:
    """Not once a second, also while kubelet sends new tokens; each volume is refreshed in time."""
    clock, volumes, publisher = ManualClock(), VolumeTable(), RecordingPublisher()
    schedule = CountingSchedule(clock)
    for number, phase in enumerate((0.25, 0.5)):
        volumes.put(volume(number, phase))
    rotator = Rotator(
        cast("Publisher", publisher),
        volumes=volumes,
        cluster=NullCluster(),
        schedule=schedule,
        driver_name="",
        clock=clock,
    )
    task = spawn(rotator.run(), name="rotation")
    for second in range(1, int(INTERVAL) // 2 + 2):
        await clock.advance(1)
        volumes.touch(PublishRequest("/pods/0/mount", True, POD, "web", {"token": str(second)}))
        due = [f"/pods/{number}/mount" for number in range(2) if second >= (number + 1) * 30]
        assert due == publisher.refreshed
    # At the start, and when each of them is due.
    assert 3 * len(volumes) == schedule.checks
    task.cancel()


async def test_rotator_looks_at_a_changed_table() -> None:
    """A volume may be due earlier than all that were known."""
    clock, volumes, publisher = ManualClock(), VolumeTable(), RecordingPublisher()
    rotator = Rotator(
        cast("Publisher", publisher),
        volumes=volumes,
        cluster=NullCluster(),
        schedule=CountingSchedule(clock),
        driver_name="",
        clock=clock,
    )
    task = spawn(rotator.run(), name="rotation")
    volumes.put(volume(0, 0.9))
    await clock.advance(1)
    volumes.put(volume(1, 0.25))
    for _ in range(30):
        await clock.advance(1)
    assert ["/pods/1/mount"] == publisher.refreshed
    volumes.put(replace(volume(0, 0.9), refresh_slots=(RefreshSlot(0.3, 0.0),)))
    for _ in range(10):
        await clock.advance(1)
    assert ["/pods/1/mount", "/pods/0/mount"] == publisher.refreshed
    task.cancel()


async def test_provider_worker_is_asked_for_leases_only_where_volumes_may_have_some() -> None:
    """Azure Key Vault has none; the provider of a restored volume may be unknown."""
    volumes, providers = VolumeTable(), CountingProviders()
    watcher = LeaseExpiryWatcher(
        providers,
        volumes=volumes,
        rotator=None,
        expiry_monitor=cast("ExpiryMonitor", None),
        clock=ManualClock(),
    )
    volumes.put(volume(0, 0.0))
    await watcher.check()
    assert 0 == providers.calls
    for calls, name in enumerate(("vault", "openbao", "external", ""), 1):
        volumes.put(volume(1, 0.0, name))
        await watcher.check()
        assert calls == providers.calls
