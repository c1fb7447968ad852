"""VolumeOperations: the volumes of one namespace do not delay those of another."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from keyferry.driver.volumes.mounter import DirectoryMounter
from keyferry.driver.volumes.operations import THREADS, VolumeOperations


class SlowMounter(DirectoryMounter):
    """Mounts below `slow` only when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = threading.Event()
        self.started = 0

    def mount(self, target: Path, group: int | None = None) -> None:
        if "slow" in target.parts:
            self.started += 1
            assert self.may.wait(60)
        target.mkdir(parents=True)


async def test_a_namespace_writes_on_half_of_the_threads_at_most(tmp_path: Path) -> None:
    """Others are served meanwhile."""
    mounter = SlowMounter()
    operations = VolumeOperations(mounter)
    slow = [
        asyncio.create_task(
            operations.mount_and_write(tmp_path / f"slow/{n}", None, (), tenant="a")
        )
        for n in range(3 * THREADS)
    ]
    try:
        await operations.mount_and_write(tmp_path / "fast", None, (), tenant="b")
        assert await operations.problem(60) is None
        assert mounter.started <= THREADS // 2
    finally:
        mounter.may.set()
        await asyncio.gather(*slow)
