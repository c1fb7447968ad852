"""The steps that every publish with a fetch shares: fetch, mount, write, record, Secrets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from keyferry.contract import Purpose
from keyferry.driver.atomic import NOTHING_WRITTEN, Written, write_volume, written_at
from keyferry.driver.plan import Refresh
from keyferry.driver.podstatus import VersionChange, pod_status, version_changes
from keyferry.driver.request import mount_call
from keyferry.driver.threads import run_whole
from keyferry.driver.volumes import Volume
from keyferry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyferry.clocks import Clock
    from keyferry.contract import ObjectVersion, SecretFile
    from keyferry.driver.expiry_watch import ExpiryWatch
    from keyferry.driver.health import HealthKeeper
    from keyferry.driver.mounts import Mounts
    from keyferry.driver.plan import Decision
    from keyferry.driver.plugins import Plugin
    from keyferry.driver.request import PublishRequest
    from keyferry.driver.secret_loop import SecretLoop
    from keyferry.driver.statuses import StatusKeeper
    from keyferry.driver.sync import SecretProblem
    from keyferry.driver.volumes import Volumes
    from keyferry.errors import KeyferryError
    from keyferry.store import ClassObject, PodStatus

_log = get_logger("deliver")


@dataclass(frozen=True, slots=True)
class Published:
    """How a publish ended.

    Attributes:
        decision: what there was to do.
        written: which files changed.
        changes: which objects have another version.
        secret_problems: Kubernetes Secrets that could not be brought in step; the volume itself is
            fine.
        near_expiry: a sentence for each object that has expired or soon will, if its class asks.
        stale: why a refresh or an adoption failed, and the volume keeps what it had; else None.
    """

    decision: Decision
    written: Written = NOTHING_WRITTEN
    secret_problems: tuple[SecretProblem, ...] = ()
    near_expiry: tuple[str, ...] = ()
    changes: tuple[VersionChange, ...] = ()
    stale: KeyferryError | None = None


class Delivery:
    """Brings content into volumes, and what follows from it.

    Args:
        mounts: how the files of a volume are kept.
        volumes: what is published here.
        statuses: writes the record of a volume.
        secrets: the Kubernetes Secrets of a volume.
        health: hears of refreshes.
        expiries: who hears of objects that end.
        node: the name of this node, for pod statuses.
        clock: tells when content was fetched.
    """

    def __init__(
        self,
        *,
        mounts: Mounts,
        volumes: Volumes,
        statuses: StatusKeeper,
        secrets: SecretLoop,
        health: HealthKeeper,
        expiries: ExpiryWatch,
        node: str,
        clock: Clock,
    ) -> None:
        self._mounts = mounts
        self._volumes = volumes
        self._statuses = statuses
        self._secrets = secrets
        self._health = health
        self._expiries = expiries
        self._node = node
        self._clock = clock

    async def deliver(
        self, request: PublishRequest, cls: ClassObject, plugin: Plugin, decision: Decision
    ) -> Published:
        """Fetch, mount, write, record, make the Secrets.

        The content is fetched before anything is mounted, so a refused fetch has no effect at all;
        only a provider that may write the files itself needs the mount first.
        """
        target = Path(request.target_path)
        if plugin.writes_itself:
            await run_whole(self._mounts.mount, target, request.group)
        began, asked_at = self._clock.monotonic(), self._clock.wall()
        purpose = Purpose.REFRESH if isinstance(decision, Refresh) else Purpose.FIRST
        result = await plugin.provider.mount(mount_call(request, cls, purpose))
        if cls.secret_objects:
            # A mistake in the names of files is found before any is written.
            plugin.named_files(cls.parameters)
        written = await run_whole(self._fill, target, request.group, result.files)
        volume = Volume(
            request.target_path,
            request.pod,
            request.class_name,
            asked_at - timedelta(seconds=result.held_seconds),
            provider=cls.provider,
            request=request,
            secret_names=cls.secret_names,
        )
        status = self._status(request, result.versions)
        before = self._volumes.get(request.target_path)
        changes = version_changes(before.versions if before else (), status.objects)
        changed = bool(written) or not result.files or not isinstance(decision, Refresh)
        problems = await self._follow(
            volume,
            cls,
            status,
            began=began,
            changed=changed,
            refreshed=isinstance(decision, Refresh),
            evident=bool(result.files),
        )
        near_expiry = await self._expiries.delivered(
            request.target_path, request.pod, cls, result.expiries
        )
        _log.info(
            "volume published",
            provider=cls.provider,
            decision=type(decision).__name__.lower(),
            objects=len(result.versions),
            changed=len(written.added + written.changed + written.removed),
        )
        return Published(decision, written, problems, near_expiry, changes)

    def _fill(self, target: Path, group: int | None, files: Sequence[SecretFile]) -> Written:
        """Mount and write, in one go on one thread; a provider may have written by itself."""
        self._mounts.mount(target, group)
        return write_volume(target, files) if files else NOTHING_WRITTEN

    async def adopt(
        self, request: PublishRequest, cls: ClassObject, record: PodStatus
    ) -> tuple[SecretProblem, ...]:
        """Makes the Secrets of a volume that an earlier process filled; no vault is asked."""
        began = self._clock.monotonic()
        volume = await _found(request, cls)
        return await self._follow(volume, cls, record, began=began, changed=True)

    async def take_up(self, request: PublishRequest, cls: ClassObject) -> None:
        """Makes the Secrets of a volume that stands, but could neither be refreshed nor recorded.

        It stays due.
        """
        self._volumes.put(await _found(request, cls))
        if cls.secret_objects:
            await self._secrets.settle(cls, changed=True)

    async def _follow(
        self,
        volume: Volume,
        cls: ClassObject,
        status: PodStatus,
        *,
        began: float,
        changed: bool,
        refreshed: bool = False,
        evident: bool = True,
    ) -> tuple[SecretProblem, ...]:
        """What follows from content that stands: the record, and the Secrets.

        The record is awaited only where it is needed at once: where nothing else would tell a later
        process that the content is whole, where a Secret can have no other owner, and after a
        refresh, whose outcome is told in it.
        """
        before = self._volumes.get(volume.target_path)
        volume = replace(volume, versions=status.objects, owner=before.owner if before else None)
        self._volumes.put(volume)
        try:
            owns = bool(cls.secret_objects) and self._secrets.needs_status(volume)
            if refreshed or owns or not evident:
                await self._statuses.settle(status)
            else:
                self._statuses.record(status)
            if refreshed:
                self._health.refreshed(status)
            problems: tuple[SecretProblem, ...] = ()
            if cls.secret_objects:
                problems = await self._secrets.settle(cls, changed=changed)
        except BaseException:
            if before is None:
                self._volumes.drop(volume.target_path)
            else:
                self._volumes.put(before)
            raise
        self._volumes.finished(volume.target_path, began)
        return problems

    def _status(self, request: PublishRequest, versions: tuple[ObjectVersion, ...]) -> PodStatus:
        return pod_status(
            request.pod, request.class_name, request.target_path, self._node, versions
        )


async def _found(request: PublishRequest, cls: ClassObject) -> Volume:
    """What is known of a volume that an earlier process filled."""
    return Volume(
        request.target_path,
        request.pod,
        request.class_name,
        await run_whole(written_at, Path(request.target_path)),
        provider=cls.provider,
        request=request,
        secret_names=cls.secret_names,
    )
