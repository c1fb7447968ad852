"""A controller with one SecretSync."""

from __future__ import annotations

import pytest

from tests.fakes.secret_syncs import SyncWorld


@pytest.fixture
def world() -> SyncWorld:
    """A SecretSync that was never synced."""
    made = SyncWorld()
    made.add_class()
    made.add_sync()
    return made


@pytest.fixture
async def synced(world: SyncWorld) -> SyncWorld:
    """The same after its first sync, whose events were read."""
    assert (await world.reconcile()).is_done
    world.take_events()
    world.api.calls.clear()
    world.statuses.written.clear()
    return world
