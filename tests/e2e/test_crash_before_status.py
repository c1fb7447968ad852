"""`kill -9` of the driver between its answer to kubelet and the pod status."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import grpc
import pytest

from tests.e2e.node import MACHINE, Driver, Node, Volume
from tests.e2e.test_crash import PATHS, DyingDriver, expected, set_values
from tests.fakes.mounts import mounted_below

STATUSES = "secretproviderclasspodstatuses"
PATIENCE_SECONDS = 20.0


async def status_of(node: Node, volume: Volume) -> list[str]:
    """The objects in the pod status, once it is there."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (found := node.objects_in_status(volume)) is None:  # noqa: ASYNC110 - a file sends no notification
            await asyncio.sleep(0.01)
    return found


async def first_life(node: Node, drivers: DyingDriver, volume: Volume) -> list[int]:
    """Publish with a driver that lives; returns which effects make the pod status."""
    driver = await drivers.start(0)
    await driver.publish(volume)
    await status_of(node, volume)
    effects = await drivers.stop(driver)
    return [number for number, line in enumerate(effects, 1) if f"/{STATUSES}/" in line]


async def expect_kept(node: Node, driver: Driver, volume: Volume) -> None:
    """A publish that gets nothing from the vault leaves what the pod has, and is no failure."""
    await driver.publish(volume)
    assert expected("first") == volume.files()
    assert [str(volume.path)] == mounted_below(volume.path.parent)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("flags", [(), ("--enable-secret-rotation", "--rotation-poll-interval=0")])
async def test_a_pod_that_was_answered_for_keeps_its_volume_whatever_the_vault_does(
    node: Node, flags: tuple[str, ...]
) -> None:
    """The content alone proves that the publish came to its end; the status is made good later."""
    set_values(node, "first")
    node.vault.grant("contoso", MACHINE)
    node.write_class("plain", PATHS, fields={"db-password": {"filePermission": "0640"}})
    drivers = DyingDriver(node, *flags)
    moments = await first_life(node, drivers, node.volume("plain"))
    assert moments
    for number in moments:
        volume = node.volume("plain", pod=f"web-{number}")
        dying = await drivers.start(number)
        with suppress(grpc.aio.AioRpcError):  # the answer and the kill meet now and then
            await dying.publish(volume)
        await drivers.ended()
        assert expected("first") == volume.files()
        node.vault.revoke("contoso", MACHINE)
        driver = await drivers.start(0)
        await expect_kept(node, driver, volume)
        await drivers.stop(driver)
        node.vault.grant("contoso", MACHINE)
        driver = await drivers.start(0)
        await driver.publish(volume)
        assert sorted(f"secret/{name}" for name in PATHS) == await status_of(node, volume)
        await driver.unpublish(volume)
        assert [] == node.left_overs(volume)
        await drivers.stop(driver)
