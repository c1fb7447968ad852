"""Mounts, writes, reads and unmounts volumes on threads of their own.

Nothing that a tenant can slow down runs on these threads: no request, no parsing, and no path that
a SecretProviderClass names. So an unpublish never waits for another tenant.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from keyferry.aio.threads import DedicatedThreads
from keyferry.driver.volumes.atomic_writer import read_volume, write_volume, written_at
from keyferry.driver.volumes.owners import can_set_owners, without_foreign_owners
from keyferry.driver.volumes.state import VolumeState
from keyferry.formats.mountinfo import mount_points
from keyferry.records import replace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from keyferry.content import SecretFile
    from keyferry.driver.volumes.atomic_writer import FileChanges
    from keyferry.driver.volumes.mounter import ContentId, Mounter

THREADS = 8


class VolumeOperations:
    """The operations on the volumes of this node.

    A cancelled call returns only after its operation has finished.

    Args:
        mounter: mounts and unmounts volumes.
        ignores_foreign_owners: whether files belong to this process if it may not give them to
            their owner. Otherwise the write fails.
    """

    def __init__(self, mounter: Mounter, *, ignores_foreign_owners: bool = False) -> None:
        self._mounter = mounter
        self._ignores_foreign_owners = ignores_foreign_owners and not can_set_owners()
        self._threads = DedicatedThreads("volume", THREADS)
        self._inspected: dict[str, ContentId] = {}
        """By target path: the content of volumes whose last inspection found it written."""
        # A semaphore exists as long as a call uses it.
        self._writers: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def inspect(self, target: Path) -> VolumeState:
        """Return the state of `target`.

        Raises:
            VolumeError: see `Mounter.inspect`.
        """
        if self.is_unchanged(str(target)):
            return VolumeState.WRITTEN
        state, found = await self._threads.run(self._inspect, target)
        if found is None:
            self._inspected.pop(str(target), None)
        else:
            self._inspected[str(target)] = found
        return state

    def is_unchanged(self, target_path: str) -> bool:
        """Return whether the volume is still what the last `inspect` found: written content.

        It does not wait for a thread, because the mount is a tmpfs of this driver, where stat(2)
        takes microseconds.
        """
        inspected = self._inspected.get(target_path)
        return inspected is not None and inspected == self._mounter.content_id(target_path)

    async def mount(self, target: Path, group: int | None) -> None:
        """Make sure that a volume is at `target`.

        Raises:
            VolumeError: it cannot be mounted.
        """
        await self._threads.run(self._mounter.mount, target, group)

    async def mount_and_write(
        self, target: Path, group: int | None, files: Sequence[SecretFile], *, tenant: str
    ) -> FileChanges:
        """Make `files` the content of the volume at `target`; mount it if necessary.

        One tenant writes on half of the threads at most.

        Args:
            target: the mount point.
            group: the group of a new volume.
            files: the complete content.
            tenant: the namespace of the pod.

        Raises:
            FilesInvalidError: a path is invalid.
            VolumeError: the volume cannot be mounted or written.
        """
        writers = self._writers.get(tenant)
        if writers is None:
            writers = self._writers[tenant] = asyncio.Semaphore(THREADS // 2)
        async with writers:
            return await self._threads.run(self._mount_and_write, target, group, files)

    async def unmount(self, target: Path, *, keep_folder: bool = False) -> None:
        """Remove the volume with its files; a no-op if nothing is there.

        Raises:
            VolumeError: it cannot be unmounted.
        """
        self._inspected.pop(str(target), None)
        await self._threads.run(self._mounter.unmount, target, keep_folder=keep_folder)

    async def read(self, target: Path) -> tuple[SecretFile, ...]:
        """Return all files of the volume as the pod sees them.

        Raises:
            VolumeError: they cannot be read.
        """
        return await self._threads.run(read_volume, target)

    async def written_at(self, target: Path) -> datetime:
        """Return when the content of the volume last changed.

        Raises:
            VolumeError: the volume cannot be inspected.
        """
        return await self._threads.run(written_at, target)

    async def mounted_paths(self) -> list[str]:
        """Return where this driver, or an earlier process of it, has mounted volumes."""
        return await self._threads.run(_mounted_paths, self._mounter.source)

    async def problem(self, seconds: float) -> str | None:
        """Return why no volume can be mounted or unmounted, or None if a thread is free.

        Args:
            seconds: how long to wait for a thread.
        """
        if await self._threads.is_free(seconds):
            return None
        return f"volumes cannot be mounted or unmounted: no thread was free for {seconds:g} seconds"

    def close(self) -> None:
        """End the threads."""
        self._threads.close()

    def _inspect(self, target: Path) -> tuple[VolumeState, ContentId | None]:
        state = self._mounter.inspect(target)
        is_written = state is VolumeState.WRITTEN
        return state, self._mounter.content_id(str(target)) if is_written else None

    def _mount_and_write(
        self, target: Path, group: int | None, files: Sequence[SecretFile]
    ) -> FileChanges:
        if not self.is_unchanged(str(target)):
            self._mounter.mount(target, group)
        if not self._ignores_foreign_owners:
            return write_volume(target, files)
        files, without_owner = without_foreign_owners(files)
        return replace(write_volume(target, files), without_owner=without_owner)


def _mounted_paths(source: str) -> list[str]:
    if not source:
        return []
    return [point.path for point in mount_points() if point.source == source]
