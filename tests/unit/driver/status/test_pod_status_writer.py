"""Pod statuses over a store that is slow, away, or refuses for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from keyferry.driver.status.pod_status_writer import PodStatusWriter
from keyferry.driver.volumes.volume_table import Volume, VolumeTable
from keyferry.errors import StoreError, StoreUnavailableError
from keyferry.kubernetes import Event, OwnerReference, PodStatus
from keyferry.kubernetes.files.store import ManifestsStore
from keyferry.kubernetes.objects import PodRef
from keyferry.kubernetes.pod_status import pod_status
from keyferry.telemetry.volume_metrics import VolumeMetrics
from tests.fakes.clock import START, ManualClock

POD = PodRef("shop", "web-0", "uid")
STATUS = pod_status(POD, "web", "/t", "node-1", ())
SUCCESSOR = pod_status(PodRef("shop", "web-0", "uid-2"), "web", "/t2", "node-1", ())


class FaultyStore(ManifestsStore):
    """A folder that fails as long as it is told to, and takes as long."""

    error: StoreError | None = None

    def __init__(self, folder: Path, clock: ManualClock) -> None:
        super().__init__(folder, folder, clock=clock.wall)
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
    """A keeper, and what it is given."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.store = FaultyStore(folder, self.clock)
        self.volumes = VolumeTable()
        self.volumes.put(Volume("/t", POD, "web", START))
        self.registry = CollectorRegistry()
        self.writer = PodStatusWriter(
            self.store,
            volumes=self.volumes,
            metrics=VolumeMetrics(self.registry, os_type="linux"),
            clock=self.clock,
        )
        self.background_writes: list[PodStatus] = []
        self.writer.on_background_write = self.background_writes.append

    async def found(self) -> PodStatus | None:
        """The status as the store has it."""
        return await self.store.find_pod_status("shop", STATUS.name)

    def refusals(self) -> float:
        """What the metric says."""
        labels = {"os_type": "linux", "error_type": "Store"}
        return self.registry.get_sample_value("keyferry_pod_status_errors_total", labels) or 0.0


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    async with made.writer.running():
        yield made


async def until(true: Callable[[], bool]) -> None:
    """Let others work until it is so."""
    while not true():
        await ManualClock.run_ready_tasks()


async def written(world: World) -> None:
    """Wait until nothing waits any more."""
    await until(lambda: not len(world.writer))


async def test_nobody_waits_for_a_status_that_is_recorded(world: World) -> None:
    """It is written while its publish goes on, and told when it is there."""
    world.store.unblocked.clear()
    world.writer.enqueue(STATUS)
    await until(lambda: world.store.attempts == [STATUS])
    assert await world.found() is None
    world.store.unblocked.set()
    await written(world)
    assert STATUS == await world.found()
    assert [STATUS] == world.background_writes


async def test_a_status_that_was_waited_for_owns_at_once(world: World) -> None:
    """Nobody is called later."""
    await world.writer.write(STATUS)
    volume = world.volumes.get("/t")
    assert volume is not None
    assert volume.owner is not None
    assert [] == world.background_writes


async def test_a_status_that_is_late_is_told(world: World) -> None:
    """Secrets can be owned by it now; the volume knows it, too."""
    world.store.error = StoreUnavailableError("the API is away")
    await world.writer.write(STATUS)
    assert 1 == len(world.writer)
    world.store.error = None
    world.writer.retry()
    await written(world)
    assert [STATUS] == world.background_writes
    volume = world.volumes.get("/t")
    assert volume is not None
    assert volume.owner is not None


async def test_a_status_that_is_refused_is_told_once_and_tried_again(world: World) -> None:
    """On the pod and in a metric: nobody's call fails by it, and a right may be granted."""
    world.store.error = StoreError("no right")
    await world.writer.write(STATUS)
    world.writer.retry()
    await until(lambda: len(world.store.attempts) == 2)
    ((event,), refusals) = world.store.events, world.refusals()
    assert (POD, "FailedToWritePodStatus") == (event.involved_object, event.reason)
    assert "no right" in event.message
    assert 2.0 == refusals
    world.store.error = None
    await world.clock.advance(300)
    await written(world)
    assert STATUS == await world.found()


async def test_a_volume_that_is_gone_needs_no_status(world: World) -> None:
    """It would stay behind."""
    world.store.error = StoreUnavailableError("the API is away")
    await world.writer.write(STATUS)
    await world.writer.discard("/t")
    world.store.error = None
    world.writer.retry()
    await ManualClock.run_ready_tasks()
    assert [] == world.background_writes
    assert await world.found() is None


async def test_the_end_of_a_volume_waits_for_the_write_that_is_under_way(world: World) -> None:
    """Else the status would be written after whoever takes it away was there."""
    world.store.unblocked.clear()
    world.writer.enqueue(STATUS)
    await until(lambda: world.store.attempts == [STATUS])
    end = asyncio.create_task(world.writer.discard("/t"))
    await ManualClock.run_ready_tasks()
    assert not end.done()
    world.store.unblocked.set()
    await end
    assert STATUS == await world.found()
    assert 0 == len(world.writer)


async def test_the_status_of_the_next_pod_of_a_name_comes_last(world: World) -> None:
    """A StatefulSet makes its pods anew; the end of the old one takes nothing of the new one."""
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
    assert SUCCESSOR == await world.found()


async def test_what_still_waits_at_the_end_of_the_process_is_written(tmp_path: Path) -> None:
    """A publish that was answered a moment before leaves its record."""
    world = World(tmp_path)
    async with world.writer.running():
        world.writer.enqueue(STATUS)
    assert STATUS == await world.found()


async def test_an_api_that_does_not_answer_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """The end comes all the same."""
    world = World(tmp_path)
    world.store.unblocked.clear()
    async with world.writer.running():
        world.writer.enqueue(STATUS)
    assert 1 == len(world.writer)
