"""Fetches the content of a volume, writes it, and records the result.

Shared by first mounts, resumed mounts, refreshes and adoptions.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.driver.publish.plan import Adopt, Mount, Refresh
from keyferry.driver.publish.volume_content import VolumeContent, check_written_by_provider
from keyferry.driver.request import check_attributes, mount_call
from keyferry.driver.volumes.atomic_writer import NO_CHANGES, FileChanges
from keyferry.driver.volumes.target_paths import parse_volume_path
from keyferry.driver.volumes.volume_events import VolumePublished, VolumeRefreshed
from keyferry.driver.volumes.volume_table import Volume
from keyferry.errors import KeyferryError, StoreError
from keyferry.kubernetes.objects import NO_MARKS
from keyferry.kubernetes.placeholders import with_placeholder_remedy
from keyferry.kubernetes.pod_status import VersionChange, version_changes
from keyferry.plugins.derivation import with_derived_files
from keyferry.providers.auditing import audited, subject_of
from keyferry.records import replace
from keyferry.rendering.class_options import parse_volume_options, refresh_interval_of
from keyferry.rendering.selection import selects_objects
from keyferry.resilience.call_context import Purpose
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from keyferry.aio.clock import Clock
    from keyferry.aio.jobs import JobRunner
    from keyferry.content import MissingObject, ObjectVersion
    from keyferry.driver.publish.plan import Decision
    from keyferry.driver.publish.planner import PublishHistory
    from keyferry.driver.request import PublishRequest
    from keyferry.driver.secrets.controller import SecretController
    from keyferry.driver.secrets.reconciler import SecretProblem
    from keyferry.driver.volumes.operations import VolumeOperations
    from keyferry.driver.volumes.volume_events import VolumeEvents
    from keyferry.driver.volumes.volume_table import VolumeTable
    from keyferry.kubernetes import PodStatus, SecretProviderClass
    from keyferry.plugins.providers import ResolvedProvider
    from keyferry.providers.api import MountCall, MountResult, StaleContent
    from keyferry.providers.expiry import Expiry
    from keyferry.rendering.class_options import VolumeOptions
    from keyferry.telemetry.audit import AuditLog

_log = get_logger("deliver")


class PublishResult(Struct, frozen=True):
    """The result of a publish.

    Attributes:
        decision: what the publish had to do.
        file_changes: the files that changed.
        version_changes: the objects whose version changed.
        secret_problems: the Kubernetes Secrets that could not be synced; the volume is mounted.
        expiries: when its objects expire, as far as the provider knows.
        masked_error: why a refresh or an adoption failed; the volume retains its previous content.
            None after a success.
        secret_warnings: what was replaced in adopted Secrets, and which Secrets were left out.
        missing: the optional objects that the vault does not have.
        seconds: the duration of the delivery.
    """

    decision: Decision
    file_changes: FileChanges = NO_CHANGES
    version_changes: tuple[VersionChange, ...] = ()
    secret_problems: tuple[SecretProblem, ...] = ()
    expiries: tuple[Expiry, ...] = ()
    masked_error: KeyferryError | None = None
    secret_warnings: tuple[str, ...] = ()
    missing: tuple[MissingObject, ...] = ()
    seconds: float = 0.0


class ContentDelivery:
    """Brings content into volumes and makes it known.

    Args:
        operations: mounts and writes volumes.
        volumes: the published volumes of this node.
        events: notifies the pod status writer and others.
        secret_controller: syncs the Kubernetes Secrets of a volume.
        history: builds and finds pod statuses.
        clock: measures the age of content.
        jobs: makes files from others.
        allow_attribute_overrides: whether `volumeAttributes` of a pod may override parameters of
            its SecretProviderClass.
        audit_log: records the accesses to vaults.
    """

    def __init__(
        self,
        *,
        operations: VolumeOperations,
        volumes: VolumeTable,
        events: VolumeEvents,
        secret_controller: SecretController,
        history: PublishHistory,
        clock: Clock,
        jobs: JobRunner,
        allow_attribute_overrides: bool = True,
        audit_log: AuditLog,
    ) -> None:
        self._operations = operations
        self._content = VolumeContent(operations)
        self._volumes = volumes
        self._events = events
        self._secret_controller = secret_controller
        self._history = history
        self._clock = clock
        self._jobs = jobs
        self._allow_attribute_overrides = allow_attribute_overrides
        self._audit_log = audit_log

    async def deliver(
        self,
        request: PublishRequest,
        spc: SecretProviderClass,
        resolved: ResolvedProvider,
        decision: Decision,
        *,
        volume: Volume | None,
        not_before: float | None = None,
    ) -> PublishResult:
        """Fetch, mount, write, record, sync the Secrets.

        A failed fetch has no effect: only a provider that may write the files itself needs the
        mount first.

        Args:
            request: the call of kubelet, or of a refresh.
            spc: the checked SecretProviderClass.
            resolved: its provider.
            decision: `Mount`, `Resume` or `Refresh`.
            volume: the volume in the table before this call.
            not_before: see `MountCall`.

        Raises:
            KeyferryError: the content could not be fetched, written or recorded.
        """
        started, started_at = self._clock.monotonic(), self._clock.wall()
        is_refresh = isinstance(decision, Refresh)
        call, options = self._mount_call(request, spc, is_refresh=is_refresh, not_before=not_before)
        marks = self._history.marks(request, spc)
        if resolved.writes_files_itself:
            await self._operations.mount(Path(request.target_path), request.group)
        previous = volume.versions if volume else ()
        known = None if isinstance(decision, Mount) or _is_of_another_pod(request) else previous
        result, file_changes = await self._fetch_and_write(
            request, spc, resolved, call, options=options, previous=known
        )
        writes_itself = resolved.writes_files_itself and not result.files
        if started - result.oldest_content_age < (call.not_before or 0.0):
            marks = volume.refresh_marks if volume else NO_MARKS
        status = self._history.status_for(request, result.versions, marks, result.expiries)
        fetched_at = started_at - timedelta(seconds=result.oldest_content_age)
        volume = _new_volume(request, spc, fetched_at, status.objects)
        problems = await self._record(
            _with_result(volume, result, status, options),
            spc,
            status,
            fetch_started=started,
            expiries=result.expiries,
            changed=bool(file_changes) or writes_itself or not is_refresh,
            is_refresh=is_refresh,
            written_atomically=not writes_itself,
            stale=result.stale,
        )
        _log_published(spc, decision, result, file_changes)
        return PublishResult(
            decision,
            file_changes,
            version_changes(previous, status.objects),
            problems,
            result.expiries,
            secret_warnings=self._secret_controller.warnings(spc),
            missing=result.missing,
            seconds=self._clock.monotonic() - started,
        )

    async def _fetch_and_write(
        self,
        request: PublishRequest,
        spc: SecretProviderClass,
        resolved: ResolvedProvider,
        call: MountCall,
        *,
        options: VolumeOptions,
        previous: Sequence[ObjectVersion] | None,
    ) -> tuple[MountResult, FileChanges]:
        """Return what the provider delivered, completed, and the files that changed.

        Args:
            request: the call of kubelet, or of a refresh.
            spc: the SecretProviderClass.
            resolved: its provider.
            call: of the provider.
            options: of the volume.
            previous: the versions in the volume; None for one without content, or with content of
                another pod.
        """
        target = Path(request.target_path)
        subject = subject_of(call, spc.provider, is_refresh=call.purpose is Purpose.REFRESH)
        if not resolved.writes_files_itself and previous is not None:
            call, previous = await self._with_versions(call, request, previous)
        with audited(self._audit_log, subject, previous or (), clock=self._clock) as audit:
            try:
                result = await resolved.mount(call)
            except KeyferryError as error:
                raise with_placeholder_remedy(error, spc.parameters) from error.__cause__
            audit.result = result
            if spc.secret_objects:
                # Reports an invalid file name before any file is written.
                await resolved.named_files(spc.parameters)
            if resolved.writes_files_itself and not result.files:
                check_written_by_provider(options, spc)
                await self._operations.mount(target, request.group)
                return result, NO_CHANGES
            if result.missing and previous is not None:
                # A driver that was just started knows them from the pod status only.
                previous = previous or await self._recorded_versions(request)
            result = await self._content.complete(result, options, target=target, previous=previous)
            tenant = request.pod.namespace
            files = await with_derived_files(
                result.files, result.missing, options, jobs=self._jobs, tenant=tenant
            )
            file_changes = await self._operations.mount_and_write(
                target, request.group, files, tenant=tenant
            )
        return result, file_changes

    async def _with_versions(
        self, call: MountCall, request: PublishRequest, previous: Sequence[ObjectVersion]
    ) -> tuple[MountCall, Sequence[ObjectVersion]]:
        """Return the call with the versions in the volume, if `find` selects objects for it."""
        if not selects_objects(call.attributes):
            return call, previous
        previous = previous or await self._recorded_versions(request)
        return replace(call, current_versions=tuple(previous)), previous

    async def _recorded_versions(self, request: PublishRequest) -> Sequence[ObjectVersion]:
        """Return the versions in the pod status of a volume; none if it cannot be read."""
        try:
            status = await self._history.find(request)
        except StoreError:
            return ()
        return status.objects if status else ()

    async def adopt(self, request: PublishRequest, spc: SecretProviderClass) -> PublishResult:
        """Take over a volume that an earlier process filled and recorded, without a vault request.

        Its Secrets may be missing, because they are made after the pod status.

        Raises:
            KeyferryError: the pod status or the files cannot be read.
        """
        status = await self._history.find(request)
        if status is None:
            return PublishResult(Adopt())
        started = self._clock.monotonic()
        written_at = await self._operations.written_at(Path(request.target_path))
        volume = replace(
            _new_volume(request, spc, written_at, status.objects),
            refresh_marks=status.refresh_marks,
            refresh_interval=refresh_interval_of(spc.parameters, request.context),
        )
        problems = await self._record(
            volume, spc, status, fetch_started=started, expiries=None, changed=True
        )
        return PublishResult(Adopt(), secret_problems=problems)

    async def track(self, request: PublishRequest, spc: SecretProviderClass) -> None:
        """Sync the Secrets of a volume that has content, but no pod status, and failed to refresh.

        The volume stays due for a refresh.

        Raises:
            VolumeError: its files cannot be read.
        """
        self._volumes.put(
            _new_volume(request, spc, await self._operations.written_at(Path(request.target_path)))
        )
        await self._sync_secrets(spc, changed=True)

    async def _record(
        self,
        volume: Volume,
        spc: SecretProviderClass,
        status: PodStatus,
        *,
        fetch_started: float,
        expiries: tuple[Expiry, ...] | None,
        changed: bool,
        is_refresh: bool = False,
        written_atomically: bool = True,
        stale: tuple[StaleContent, ...] = (),
    ) -> tuple[SecretProblem, ...]:
        """Make the content of a volume known: in the table, in its pod status, in its Secrets.

        The pod status is written in the background, so that no pod waits for the Kubernetes API,
        with three exceptions:

        1. A refresh: its outcome is written to the pod status, which must exist.
        2. A Secret of the volume can have no other owner than the pod status.
        3. The provider wrote the files itself. They do not show whether they are complete, so after
           a crash only the pod status does.

        Returns:
            The Secrets that could not be synced.
        """
        with self._volumes.publishing(volume, fetch_started=fetch_started) as entry:
            if is_refresh:
                await self._events.publish(VolumeRefreshed(entry, spc, status, expiries or ()))
            else:
                is_owner = bool(spc.secret_objects) and self._secret_controller.needs_status_owner(
                    entry
                )
                required = is_owner or not written_atomically
                await self._events.publish(
                    VolumePublished(entry, spc, status, required, expiries, stale)
                )
            return await self._sync_secrets(spc, changed=changed)

    async def _sync_secrets(
        self, spc: SecretProviderClass, *, changed: bool
    ) -> tuple[SecretProblem, ...]:
        # A call, not a subscriber: the pod may read its Secrets as soon as kubelet has its answer,
        # and the problems are part of the result.
        if not spc.secret_objects:
            return ()
        return await self._secret_controller.reconcile_now(spc, changed=changed)

    def _mount_call(
        self,
        request: PublishRequest,
        spc: SecretProviderClass,
        *,
        is_refresh: bool,
        not_before: float | None,
    ) -> tuple[MountCall, VolumeOptions]:
        if not self._allow_attribute_overrides:
            check_attributes(request)
        call = mount_call(request, spc, Purpose.REFRESH if is_refresh else Purpose.FIRST)
        bounds = [at for at in (not_before, self._history.asked_at(request)) if at is not None]
        options = parse_volume_options(call.attributes)
        call = replace(
            call,
            refresh_interval=options.refresh_interval or None,
            not_before=max(bounds, default=None),
        )
        return call, options


def _is_of_another_pod(request: PublishRequest) -> bool:
    """Return whether the path of a volume names another pod, whose content it may have."""
    path = parse_volume_path(request.target_path)
    return path is not None and path.pod_uid != request.pod.uid


def _log_published(
    spc: SecretProviderClass, decision: Decision, result: MountResult, changes: FileChanges
) -> None:
    # A refresh that changes nothing happens in every interval for every volume.
    log = _log.info if changes or not isinstance(decision, Refresh) else _log.debug
    log(
        "volume published",
        provider=spc.provider,
        decision=type(decision).__name__.lower(),
        objects=len(result.versions),
        changed=len(changes.added + changes.changed + changes.removed),
    )


def _with_result(
    volume: Volume, result: MountResult, status: PodStatus, options: VolumeOptions
) -> Volume:
    return replace(
        volume,
        refresh_slots=result.refresh_slots,
        missing=result.missing,
        refresh_marks=status.refresh_marks,
        refresh_interval=options.refresh_interval,
    )


def _new_volume(
    request: PublishRequest,
    spc: SecretProviderClass,
    fetched_at: datetime,
    versions: tuple[ObjectVersion, ...] = (),
) -> Volume:
    return Volume(
        request.target_path,
        request.pod,
        request.class_name,
        fetched_at,
        provider=spc.provider,
        versions=versions,
        request=request,
        secret_names=spc.secret_names,
    )
