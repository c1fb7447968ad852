"""keyferry.sync_controller: the age of the SecretSync that waits longest."""

from __future__ import annotations

import pytest

from tests.fakes.secret_syncs import SyncWorld, secret_sync


@pytest.mark.parametrize(("interval", "age"), [("6h", 0.0), ("", 7200.0)])
async def test_age_counts_only_the_interval_of_the_controller_after_a_restart(
    world: SyncWorld, interval: str, age: float
) -> None:
    """A SecretSync with an interval of its own is not late."""
    annotations = {"keyferry.dev/refresh-interval": interval} if interval else {}
    world.add_sync(secret_sync(annotations=annotations))
    await world.reconcile()
    world.restart()
    await world.reconcile()
    world.clock.now += 7200
    assert age == world.registry.get_sample_value("keyferry_secretsync_age_seconds")
