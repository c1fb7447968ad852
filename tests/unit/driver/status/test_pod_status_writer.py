"""keyferry.driver.status.pod_status_writer: a slow, unavailable or rejecting Kubernetes API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from keyferry.aio.foreground import PAUSE_SECONDS, Foreground
from keyferry.driver.status.pod_status_writer import PodStatusWriter
from keyferry.driver.volumes.volume_events import PodStatusWritten, VolumeEvent, VolumeEvents
from keyferry.driver.volumes.volume_table import Volume, VolumeTable
from keyferry.errors import StoreError, StoreUnavailableError
from keyferry.kubernetes import Event, OwnerReference, PodStatus
from keyferry.kubernetes.cluster import Reconnected
from keyferry.kubernetes.files.store import ManifestsStore
from keyferry.kubernetes.objects import PodRef
from keyferry.kubernetes.pod_status import pod_status
from keyferry.telemetry.metrics import VolumeMetrics
from tests.fakes.clock import START, ManualClock
from tests.fakes.virtual_time import virtual_time

POD = PodRef("shop", "web-0", "uid")
STATUS = pod_status(POD, "web", "/t", "node-1", ())
SUCCESSOR = pod_status(PodRef("shop", "web-0", "uid-2"), "web", "/t2", "node-1", ())


class FaultyStore(ManifestsStore):
    """A folder store whose pod status writes block and fail as the test decides."""

    error: StoreError | None = None

    def __init__(self, folder: Path, clock: ManualClock) -> None:
        super().__init__(folder, folder, clock=clock)
        self.unblocked = asyncio.Event()
        self.unblocked.set()
        self.attempts: list[PodStatus] = []
        self.events: list[Event] = []

    async def apply_pod_status(self, status: PodStatus) -> OwnerReference:
        self.attempts.append(status)
        await self.unblocked.wait()
        if self.error is not None:
            raise self.error
        return await super().apply_pod_status(status)

    async def record_event(self, event: Event) -> None:
        self.events.append(event)


class World:
    """A writer with its store, volumes and metrics."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.store = FaultyStore(folder, self.clock)
        self.volumes, events = VolumeTable(), VolumeEvents()
        self.volumes.put(Volume("/t", POD, "web", START))
        self.registry = CollectorRegistry()
        self.publishes = Foreground()
        self.writer = PodStatusWriter(
            self.store,
            volumes=self.volumes,
            events=events,
            metrics=VolumeMetrics(self.registry, os_type="linux"),
            clock=self.clock,
            foreground=self.publishes,
        )
        self.background_writes: list[PodStatus] = []
        events.subscribe(self._collect)

    async def _collect(self, event: VolumeEvent) -> None:
        assert isinstance(event, PodStatusWritten)
        self.background_writes.append(event.status)

    async def written_status(self) -> PodStatus | None:
        """Return the pod status in the store."""
        return await self.store.find_pod_status("shop", STATUS.name)

    def rejections(self) -> float:
        """Return the number of rejected writes in the metrics."""
        labels = {"os_type": "linux", "error_type": "Store"}
        return self.registry.get_sample_value("keyferry_pod_status_errors_total", labels) or 0.0


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    async with made.writer.running():
        yield made


async def until(condition: Callable[[], bool]) -> None:
    """Run other tasks until `condition` holds."""
    while not condition():
        await ManualClock.run_ready_tasks()


async def written(world: World) -> None:
    """Run other tasks until every pod status is written."""
    await until(lambda: not len(world.writer))


async def test_enqueued_status_is_written_in_the_background(world: World) -> None:
    """The publish continues; subscribers are notified after the write."""
    world.store.unblocked.clear()
    world.writer.enqueue(STATUS)
    await until(lambda: world.store.attempts == [STATUS])
    assert await world.written_status() is None
    world.store.unblocked.set()
    await written(world)
    assert STATUS == await world.written_status()
    assert [STATUS] == world.background_writes


async def test_status_gives_way_to_publishes(world: World) -> None:
    """The next pod does not wait for the pod status of the last one."""
    with world.publishes.call():
        world.writer.enqueue(STATUS, gives_way=True)
        await ManualClock.run_ready_tasks()
        assert [] == world.store.attempts
        assert 1 == len(world.writer)
    await asyncio.wait_for(written(world), 1.0)
    assert STATUS == await world.written_status()


async def test_status_of_a_volume_with_secrets_does_not_give_way(world: World) -> None:
    """Other nodes see by it that the Secrets are in use."""
    with world.publishes.call():
        world.writer.enqueue(STATUS)
        await written(world)
    assert STATUS == await world.written_status()


async def test_postponed_status_of_a_removed_volume_is_never_written(world: World) -> None:
    with world.publishes.call():
        world.writer.enqueue(STATUS, gives_way=True)
        await world.writer.discard("/t")
    await asyncio.sleep(2 * PAUSE_SECONDS)
    await written(world)
    assert [] == world.store.attempts


async def test_postponed_status_is_written_at_shutdown(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.writer.running():
        with world.publishes.call():
            world.writer.enqueue(STATUS, gives_way=True)
    assert STATUS == await world.written_status()


async def test_awaited_status_is_the_owner_when_the_write_returns(world: World) -> None:
    """No subscriber is notified later."""
    await world.writer.write(STATUS)
    volume = world.volumes.get("/t")
    assert volume is not None
    assert volume.owner is not None
    assert [] == world.background_writes


async def test_status_written_after_an_outage_notifies_subscribers(world: World) -> None:
    """It becomes the owner of the volume, so that Secrets can be made."""
    world.store.error = StoreUnavailableError("the Kubernetes API is unavailable")
    await world.writer.write(STATUS)
    assert 1 == len(world.writer)
    world.store.error = None
    world.writer.on_cluster_event(Reconnected())
    await written(world)
    assert [STATUS] == world.background_writes
    volume = world.volumes.get("/t")
    assert volume is not None
    assert volume.owner is not None


async def test_rejected_status_is_reported_once_and_retried(world: World) -> None:
    """As an event on the pod and in a metric; a missing permission may be granted later."""
    world.store.error = StoreError("no right")
    await world.writer.write(STATUS)
    world.writer.on_cluster_event(Reconnected())
    await until(lambda: len(world.store.attempts) == 2)
    ((event,), rejections) = world.store.events, world.rejections()
    assert (POD, "FailedToWritePodStatus") == (event.involved_object, event.reason)
    assert "no right" in event.message
    assert 2.0 == rejections
    world.store.error = None
    await world.clock.advance(300)
    await written(world)
    assert STATUS == await world.written_status()


async def test_removed_volume_discards_its_pending_status(world: World) -> None:
    """Else the pod status would be left behind."""
    world.store.error = StoreUnavailableError("the Kubernetes API is unavailable")
    await world.writer.write(STATUS)
    await world.writer.discard("/t")
    world.store.error = None
    world.writer.on_cluster_event(Reconnected())
    await ManualClock.run_ready_tasks()
    assert [] == world.background_writes
    assert await world.written_status() is None


async def test_discard_waits_for_the_write_in_flight(world: World) -> None:
    """Else the pod status would be written after the store has deleted it."""
    world.store.unblocked.clear()
    world.writer.enqueue(STATUS)
    await until(lambda: world.store.attempts == [STATUS])
    end = asyncio.create_task(world.writer.discard("/t"))
    await ManualClock.run_ready_tasks()
    assert not end.done()
    world.store.unblocked.set()
    await end
    assert STATUS == await world.written_status()
    assert 0 == len(world.writer)


async def test_discard_keeps_the_status_of_the_next_pod_with_the_same_name(world: World) -> None:
    """A StatefulSet recreates its pods with the same names."""
    world.store.unblocked.clear()
    world.writer.enqueue(STATUS)
    await until(lambda: world.store.attempts == [STATUS])
    world.writer.enqueue(SUCCESSOR)
    end = asyncio.create_task(world.writer.discard("/t"))
    await ManualClock.run_ready_tasks()
    world.store.unblocked.set()
    await end
    await written(world)
    assert [STATUS, SUCCESSOR] == world.store.attempts
    assert SUCCESSOR == await world.written_status()


async def test_pending_status_is_written_at_shutdown(tmp_path: Path) -> None:
    """A publish may have been answered just before."""
    world = World(tmp_path)
    async with world.writer.running():
        world.writer.enqueue(STATUS)
    assert STATUS == await world.written_status()


@virtual_time
async def test_unresponsive_api_does_not_block_shutdown(tmp_path: Path) -> None:
    """The pod status stays unwritten."""
    world = World(tmp_path)
    world.store.unblocked.clear()
    async with world.writer.running():
        world.writer.enqueue(STATUS)
    assert 1 == len(world.writer)
