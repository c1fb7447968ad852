"""Pod statuses over a store that is away for a while."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keyferry.driver.podstatus import pod_status
from keyferry.driver.statuses import StatusKeeper
from keyferry.driver.volumes import Volume, Volumes
from keyferry.errors import StoreAwayError, StoreError
from keyferry.store import OwnerReference, PodStatus
from keyferry.store.interface import PodRef
from keyferry.store.manifests import ManifestsStore
from tests.fakes.clock import START, VirtualClock

POD = PodRef("shop", "web-0", "uid")
STATUS = pod_status(POD, "web", "/t", "node-1", ())


class FaultyStore(ManifestsStore):
    """A folder that fails as long as it is told to."""

    error: StoreError | None = None

    async def apply_pod_status(self, status: PodStatus) -> OwnerReference:
        if self.error is not None:
            raise self.error
        return await super().apply_pod_status(status)


class World:
    """A keeper, and what it is given."""

    def __init__(self, folder: Path) -> None:
        clock = VirtualClock()
        self.store = FaultyStore(folder, folder, clock=clock.wall)
        self.volumes = Volumes()
        self.volumes.put(Volume("/t", POD, "web", START))
        self.keeper = StatusKeeper(self.store, volumes=self.volumes, clock=clock)
        self.late: list[PodStatus] = []
        self.keeper.on_late = self.late.append


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    async with made.keeper.running():
        yield made


async def written(world: World) -> None:
    """Wait until nothing waits any more."""
    while len(world.keeper):
        await VirtualClock.turn()


async def test_a_status_that_is_written_at_once_owns_at_once(world: World) -> None:
    """Nobody is called later."""
    owner = await world.keeper.record(STATUS)
    volume = world.volumes.get("/t")
    assert volume is not None
    assert volume.owner == owner is not None
    assert [] == world.late


async def test_a_status_that_is_late_is_told(world: World) -> None:
    """Secrets can be owned by it now; the volume knows it, too."""
    world.store.error = StoreAwayError("the API is away")
    assert await world.keeper.record(STATUS) is None
    assert 1 == len(world.keeper)
    world.store.error = None
    world.keeper.retry()
    await written(world)
    assert [STATUS] == world.late
    volume = world.volumes.get("/t")
    assert volume is not None
    assert volume.owner is not None


async def test_a_status_that_is_refused_is_an_error(world: World) -> None:
    """It is not kept: trying again would not help."""
    world.store.error = StoreError("no right")
    with pytest.raises(StoreError, match="no right"):
        await world.keeper.record(STATUS)
    assert 0 == len(world.keeper)


async def test_a_volume_that_is_gone_needs_no_status(world: World) -> None:
    """It would stay behind."""
    world.store.error = StoreAwayError("the API is away")
    await world.keeper.record(STATUS)
    world.keeper.forget("/t")
    world.store.error = None
    world.keeper.retry()
    await VirtualClock.turn()
    assert [] == world.late
    assert await world.store.find_pod_status("shop", STATUS.name) is None
