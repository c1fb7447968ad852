"""The steps that every publish with a fetch shares: fetch, mount, write, record, Secrets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from keyferry.aio.threads import run_in_thread_uncancelled
from keyferry.driver.publish.plan import Refresh
from keyferry.driver.request import mount_call
from keyferry.driver.volumes.atomic_writer import NO_CHANGES, FileChanges, write_volume, written_at
from keyferry.driver.volumes.volume_table import Volume
from keyferry.kubernetes.pod_status import VersionChange, pod_status, version_changes
from keyferry.providers.api import Purpose
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyferry.aio.clock import Clock
    from keyferry.driver.providers import ResolvedProvider
    from keyferry.driver.publish.plan import Decision
    from keyferry.driver.request import PublishRequest
    from keyferry.driver.secrets.controller import SecretController
    from keyferry.driver.secrets.reconciler import SecretProblem
    from keyferry.driver.status.expiry_monitor import ExpiryMonitor
    from keyferry.driver.status.pod_status_writer import PodStatusWriter
    from keyferry.driver.status.refresh_condition import RefreshConditionWriter
    from keyferry.driver.volumes.mounter import Mounter
    from keyferry.driver.volumes.volume_table import VolumeTable
    from keyferry.errors import KeyferryError
    from keyferry.kubernetes import PodStatus, SecretProviderClass
    from keyferry.providers.api import ObjectVersion, SecretFile

_log = get_logger("deliver")


@dataclass(frozen=True, slots=True)
class PublishResult:
    """How a publish ended.

    Attributes:
        decision: what there was to do.
        file_changes: which files changed.
        version_changes: which objects have another version.
        secret_problems: Kubernetes Secrets that could not be brought in step; the volume itself is
            fine.
        expiry_warnings: a sentence for each object that has expired or soon will, if its class
            asks.
        masked_error: why a refresh or an adoption failed, and the volume keeps what it had; else
            None.
    """

    decision: Decision
    file_changes: FileChanges = NO_CHANGES
    secret_problems: tuple[SecretProblem, ...] = ()
    expiry_warnings: tuple[str, ...] = ()
    version_changes: tuple[VersionChange, ...] = ()
    masked_error: KeyferryError | None = None


class ContentDelivery:
    """Brings content into volumes, and what follows from it.

    Args:
        mounter: how the files of a volume are kept.
        volumes: what is published here.
        status_writer: writes the record of a volume.
        secret_controller: the Kubernetes Secrets of a volume.
        condition_writer: hears of refreshes.
        expiry_monitor: who hears of objects that end.
        node: the name of this node, for pod statuses.
        clock: tells when content was fetched.
    """

    def __init__(
        self,
        *,
        mounter: Mounter,
        volumes: VolumeTable,
        status_writer: PodStatusWriter,
        secret_controller: SecretController,
        condition_writer: RefreshConditionWriter,
        expiry_monitor: ExpiryMonitor,
        node: str,
        clock: Clock,
    ) -> None:
        self._mounter = mounter
        self._volumes = volumes
        self._status_writer = status_writer
        self._secret_controller = secret_controller
        self._condition_writer = condition_writer
        self._expiry_monitor = expiry_monitor
        self._node = node
        self._clock = clock

    async def deliver(
        self,
        request: PublishRequest,
        spc: SecretProviderClass,
        resolved: ResolvedProvider,
        decision: Decision,
    ) -> PublishResult:
        """Fetch, mount, write, record, make the Secrets.

        The content is fetched before anything is mounted, so a refused fetch has no effect at all;
        only a provider that may write the files itself needs the mount first.
        """
        target = Path(request.target_path)
        if resolved.writes_files_itself:
            await run_in_thread_uncancelled(self._mounter.mount, target, request.group)
        began, asked_at = self._clock.monotonic(), self._clock.wall()
        purpose = Purpose.REFRESH if isinstance(decision, Refresh) else Purpose.FIRST
        result = await resolved.provider.mount(mount_call(request, spc, purpose))
        if spc.secret_objects:
            # A mistake in the names of files is found before any is written.
            resolved.named_files(spc.parameters)
        written = await run_in_thread_uncancelled(
            self._mount_and_write, target, request.group, result.files
        )
        volume = Volume(
            request.target_path,
            request.pod,
            request.class_name,
            asked_at - timedelta(seconds=result.oldest_content_age),
            provider=spc.provider,
            request=request,
            secret_names=spc.secret_names,
        )
        status = self._pod_status(request, result.versions)
        before = self._volumes.get(request.target_path)
        changes = version_changes(before.versions if before else (), status.objects)
        changed = bool(written) or not result.files or not isinstance(decision, Refresh)
        problems = await self._record(
            volume,
            spc,
            status,
            fetch_started=began,
            changed=changed,
            refreshed=isinstance(decision, Refresh),
            written_atomically=bool(result.files),
        )
        near_expiry = await self._expiry_monitor.update(
            request.target_path, request.pod, spc, result.expiries
        )
        _log.info(
            "volume published",
            provider=spc.provider,
            decision=type(decision).__name__.lower(),
            objects=len(result.versions),
            changed=len(written.added + written.changed + written.removed),
        )
        return PublishResult(decision, written, problems, near_expiry, changes)

    def _mount_and_write(
        self, target: Path, group: int | None, files: Sequence[SecretFile]
    ) -> FileChanges:
        """Mount and write, in one go on one thread; a provider may have written by itself."""
        self._mounter.mount(target, group)
        return write_volume(target, files) if files else NO_CHANGES

    async def adopt(
        self, request: PublishRequest, spc: SecretProviderClass, record: PodStatus
    ) -> tuple[SecretProblem, ...]:
        """Makes the Secrets of a volume that an earlier process filled; no vault is asked."""
        began = self._clock.monotonic()
        volume = await _existing_volume(request, spc)
        return await self._record(volume, spc, record, fetch_started=began, changed=True)

    async def track(self, request: PublishRequest, spc: SecretProviderClass) -> None:
        """Makes the Secrets of a volume that stands, but could neither be refreshed nor recorded.

        It stays due.
        """
        self._volumes.put(await _existing_volume(request, spc))
        if spc.secret_objects:
            await self._secret_controller.reconcile_now(spc, changed=True)

    async def _record(
        self,
        volume: Volume,
        spc: SecretProviderClass,
        status: PodStatus,
        *,
        fetch_started: float,
        changed: bool,
        refreshed: bool = False,
        written_atomically: bool = True,
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
            owns = bool(spc.secret_objects) and self._secret_controller.needs_status_owner(volume)
            if refreshed or owns or not written_atomically:
                await self._status_writer.write(status)
            else:
                self._status_writer.enqueue(status)
            if refreshed:
                self._condition_writer.record_success(status)
            problems: tuple[SecretProblem, ...] = ()
            if spc.secret_objects:
                problems = await self._secret_controller.reconcile_now(spc, changed=changed)
        except BaseException:
            if before is None:
                self._volumes.drop(volume.target_path)
            else:
                self._volumes.put(before)
            raise
        self._volumes.mark_published(volume.target_path, fetch_started)
        return problems

    def _pod_status(
        self, request: PublishRequest, versions: tuple[ObjectVersion, ...]
    ) -> PodStatus:
        return pod_status(
            request.pod, request.class_name, request.target_path, self._node, versions
        )


async def _existing_volume(request: PublishRequest, spc: SecretProviderClass) -> Volume:
    """What is known of a volume that an earlier process filled."""
    return Volume(
        request.target_path,
        request.pod,
        request.class_name,
        await run_in_thread_uncancelled(written_at, Path(request.target_path)),
        provider=spc.provider,
        request=request,
        secret_names=spc.secret_names,
    )
