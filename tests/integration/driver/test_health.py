"""`/healthz` and `/readyz` show whether the driver can still mount and unmount volumes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from keyferry.driver import readiness
from keyferry.driver.readiness import Readiness
from keyferry.driver.volumes.mounter import DirectoryMounter
from keyferry.driver.volumes.operations import THREADS
from keyferry.driver.volumes.state import VolumeState
from tests.fakes.driver import Driver, running_driver


class StuckMounter(DirectoryMounter):
    """A mounter whose `inspect` waits until `released` is set, as on a broken file system."""

    def __init__(self) -> None:
        self.released = threading.Event()

    def inspect(self, target: Path) -> VolumeState:
        """Return the state of `target`, late."""
        self.released.wait(30)
        return super().inspect(target)


@asynccontextmanager
async def running_checks(driver: Driver, *, fatal: str | None = None) -> AsyncIterator[Readiness]:
    """The checks of this driver, which cannot start child processes for the reason `fatal`."""
    checks = Readiness(
        f"unix:{driver.home}/csi.sock", driver.engine.operations, (), fatal=lambda: fatal
    )
    try:
        yield checks
    finally:
        await checks.close()


async def test_driver_that_can_mount_no_volume_is_unhealthy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its socket responds, but kubelet must restart it; it is healthy when a thread is free."""
    mounter = StuckMounter()
    async with (
        running_driver(tmp_path, mounter=mounter) as driver,
        running_checks(driver) as checks,
    ):
        assert await checks.health() is None
        monkeypatch.setattr(readiness, "PROBE_SECONDS", 0.1)
        driver.write_class("web", provider="none")
        calls = [
            asyncio.create_task(driver.publish("web", f"web-{number}")) for number in range(THREADS)
        ]
        while await checks.health() is None:
            pass
        for problem in (await checks.health(), await checks.readiness()):
            assert problem is not None
            assert "volumes cannot be mounted or unmounted" in problem
        mounter.released.set()
        await asyncio.wait(calls)
        monkeypatch.undo()
        assert await checks.health() is None
        assert all(call.exception() for call in calls)


async def test_driver_that_can_start_no_child_process_is_unhealthy(tmp_path: Path) -> None:
    """Kubelet restarts it, because nothing else can."""
    async with (
        running_driver(tmp_path) as driver,
        running_checks(driver, fatal="the spawner has ended") as checks,
    ):
        assert "the spawner has ended" == await checks.health() == await checks.readiness()
