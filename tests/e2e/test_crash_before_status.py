"""SIGKILL of the driver between its response to kubelet and the pod status."""

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
    """Wait for the pod status; return its objects."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (objects := node.objects_in_status(volume)) is None:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
    return objects


async def first_life(node: Node, drivers: DyingDriver, volume: Volume) -> list[int]:
    """Publish with a driver that is not killed; return the effects that write the pod status."""
    driver = await drivers.start(0)
    await driver.publish(volume)
    await status_of(node, volume)
    effects = await drivers.stop(driver)
    return [number for number, line in enumerate(effects, 1) if f"/{STATUSES}/" in line]


async def expect_kept(driver: Driver, volume: Volume) -> None:
    """Publish while the vault refuses every request: it succeeds and keeps the files."""
    await driver.publish(volume)
    assert expected("first") == volume.files()
    assert [str(volume.path)] == mounted_below(volume.path.parent)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("flags", [(), ("--enable-secret-rotation", "--rotation-poll-interval=0")])
async def test_published_volume_without_pod_status_is_kept_when_the_vault_refuses(
    node: Node, flags: tuple[str, ...]
) -> None:
    """The files show that the publish completed; the pod status is written later."""
    set_values(node, "first")
    node.vault.grant("contoso", MACHINE)
    node.write_class("plain", PATHS, fields={"db-password": {"filePermission": "0640"}})
    drivers = DyingDriver(node, *flags)
    moments = await first_life(node, drivers, node.volume("plain"))
    assert moments
    for number in moments:
        volume = node.volume("plain", pod=f"web-{number}")
        dying = await drivers.start(number)
        with suppress(grpc.aio.AioRpcError):  # the kill may come before the response
            await dying.publish(volume)
        await drivers.ended()
        assert expected("first") == volume.files()
        node.vault.revoke("contoso", MACHINE)
        driver = await drivers.start(0)
        await expect_kept(driver, volume)
        await drivers.stop(driver)
        node.vault.grant("contoso", MACHINE)
        driver = await drivers.start(0)
        await driver.publish(volume)
        assert sorted(f"secret/{name}" for name in PATHS) == await status_of(node, volume)
        await driver.unpublish(volume)
        assert [] == node.left_overs(volume)
        await drivers.stop(driver)
