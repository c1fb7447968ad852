"""A driver that can open hardly any more files says so, unmounts everything, and recovers."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import pytest

from tests.e2e.node import MACHINE, Driver, Node, Volume
from tests.fakes.mounts import mounted_below

VOLUMES = 40


@pytest.mark.parametrize("spare", [0, 2, 5])
async def test_driver_without_spare_descriptors_names_the_cause_and_unmounts(
    node: Node, spare: int, show: Callable[[str], None]
) -> None:
    """No call is an internal error, no mount stays, and nothing needs a restart."""
    node.vault.set_secret("contoso", "db", "s3cret")
    node.vault.grant("contoso", MACHINE)
    node.write_class("web", {"db": "db"})
    driver = await node.start_driver("--cache-ttl=0s")
    volumes = [node.volume("web", pod=f"web-{number}") for number in range(VOLUMES)]
    await driver.publish(volumes[0])

    soft, hard = resource.prlimit(driver.child.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(driver.child.pid, resource.RLIMIT_NOFILE, (open_files(driver) + spare, hard))
    failed = await problems(driver.publish, volumes[1:])
    failed += await problems(driver.unpublish, volumes)
    assert [] == [text for text in failed if "too many open files: raise its limit" not in text]
    assert [] == mounted_below(node.pods)

    resource.prlimit(driver.child.pid, resource.RLIMIT_NOFILE, (soft, hard))
    assert [] == await problems(driver.unpublish, volumes)
    assert [] == await problems(driver.publish, volumes)
    assert [] == await problems(driver.unpublish, volumes)
    await driver.stop()
    show(f"with {spare} descriptors, {len(failed)} of {2 * VOLUMES - 1} calls failed")


def open_files(driver: Driver) -> int:
    """Return the limit that lets the driver open no further file."""
    return 1 + max(int(path.name) for path in Path(f"/proc/{driver.child.pid}/fd").iterdir())


async def problems(call: Callable[[Volume], Awaitable[None]], volumes: list[Volume]) -> list[str]:
    """Call for all volumes at once; return why calls failed."""

    async def one(volume: Volume) -> str:
        try:
            await call(volume)
        except grpc.aio.AioRpcError as error:
            return error.details() or error.code().name
        return ""

    return [text for text in await asyncio.gather(*map(one, volumes)) if text]
