"""Leases of an earlier process: the provider is notified of volumes that no longer exist."""

from __future__ import annotations

from pathlib import Path

from tests.fakes.driver import running_driver
from tests.fakes.provider import ScriptedProvider


async def test_leases_of_removed_volumes_are_released_at_start(
    mount_home: Path,
) -> None:
    """Before any call of kubelet. Those of mounted volumes are kept."""
    first = ScriptedProvider()
    async with running_driver(mount_home, built_in={"scripted": first}) as driver:
        driver.write_class("web")
        remaining = await driver.publish("web", "web-0")
        went = await driver.publish("web", "web-1")
        await driver.unpublish("web-1")
    assert [str(went)] == first.removed_volumes
    second = ScriptedProvider()
    second.restored_volumes = frozenset({str(remaining), str(went)})
    async with running_driver(mount_home, built_in={"scripted": second}) as driver:
        assert [str(went)] == second.removed_volumes
        await driver.unpublish("web-0")
    assert [str(went), str(remaining)] == second.removed_volumes
