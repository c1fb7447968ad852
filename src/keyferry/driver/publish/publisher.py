"""Entry point: publishes, refreshes and unpublishes one volume.

A publish reads from top to bottom: decide what to do (`planner`, `plan`), read the
SecretProviderClass, find its provider, deliver the content (`delivery`). Where this differs from
upstream on purpose, `plan` and docs/reference/compatibility.md say so.

Source: docs/reference/upstream-driver.md#nodepublishvolume
Source: docs/reference/upstream-driver.md#nodeunpublishvolume
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from msgspec import Struct

from keyferry.driver.publish.delivery import PublishResult
from keyferry.driver.publish.plan import Adopt, Mount, Refresh, Resume, Skip
from keyferry.driver.request import require_readonly
from keyferry.driver.status.events import mount_failed, rotation_completed, rotation_failed
from keyferry.driver.volumes.locks import TargetLocks
from keyferry.driver.volumes.volume_events import VolumeRefreshFailed, VolumeRemoved
from keyferry.errors import (
    IdentityError,
    KeyferryError,
    StoreUnavailableError,
    VolumeError,
    descriptor_error,
)
from keyferry.kubernetes.class_check import check_class
from keyferry.telemetry.logs import get_logger
from keyferry.telemetry.metrics import PublishLabels

if TYPE_CHECKING:
    from keyferry.aio.foreground import Foreground
    from keyferry.driver.publish.delivery import ContentDelivery
    from keyferry.driver.publish.planner import PublishPlanner
    from keyferry.driver.request import PublishRequest, UnpublishRequest
    from keyferry.driver.status.unknown_field_reporter import UnknownFieldReporter
    from keyferry.driver.volumes.operations import VolumeOperations
    from keyferry.driver.volumes.volume_events import VolumeEvents
    from keyferry.driver.volumes.volume_table import Volume, VolumeTable
    from keyferry.kubernetes import ObjectStore, SecretProviderClass
    from keyferry.plugins.providers import Providers, ResolvedProvider
    from keyferry.telemetry.metrics import Metrics

_log = get_logger("publish")


class Demand(Struct, frozen=True):
    """A request for a refresh that does not wait until the volume is due.

    Attributes:
        not_before: content that was validated before this time is too old, in monotonic seconds;
            None to use what is fresh by the schedule.
    """

    not_before: float | None = None


class Publisher:
    """Publishes, refreshes and unpublishes volumes; one call at a time for each mount point.

    Args:
        store: reads SecretProviderClasses and records Kubernetes events.
        operations: unmounts volumes.
        providers: finds the provider that a SecretProviderClass names.
        planner: decides what a publish has to do.
        delivery: brings content into volumes.
        volumes: the published volumes of this node.
        events: notifies subscribers of failed refreshes and removed volumes.
        field_reporter: reports fields that have no effect.
        foreground: counts publishes in flight, to which background work gives way.
        metrics: counts calls.
    """

    def __init__(
        self,
        *,
        store: ObjectStore,
        operations: VolumeOperations,
        providers: Providers,
        planner: PublishPlanner,
        delivery: ContentDelivery,
        volumes: VolumeTable,
        events: VolumeEvents,
        field_reporter: UnknownFieldReporter,
        foreground: Foreground,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._operations = operations
        self._providers = providers
        self._planner = planner
        self._delivery = delivery
        self._volumes = volumes
        self._events = events
        self._field_reporter = field_reporter
        self._foreground = foreground
        self._metrics = metrics
        self._locks = TargetLocks()

    @property
    def is_idle(self) -> bool:
        """Whether no call holds or awaits the lock of a volume."""
        return not len(self._locks)

    async def publish(self, request: PublishRequest) -> PublishResult:
        """Make the volume hold the content that its SecretProviderClass names; idempotent.

        Raises:
            KeyferryError: the volume is not usable. A failed first mount leaves nothing behind. A
                failed refresh of a published volume is not an error (see
                `PublishResult.masked_error`). An unpublish of the volume ends this call with
                `VolumeUnpublishedError`.
        """
        with self._metrics.publish() as labels:
            if self._is_up_to_date(request):
                return PublishResult(Skip())
            with self._foreground.call():
                async with self._locks.for_publish(request.target_path):
                    volume = self._volumes.touch(request)
                    return await self._publish(request, volume, labels)

    async def refresh(
        self, request: PublishRequest, *, rebuilt: bool, demand: Demand | None = None
    ) -> PublishResult:
        """Refresh a published volume without a call of kubelet, if it is due.

        Args:
            request: the call that kubelet would make.
            rebuilt: the request was built without kubelet, so it may lack tokens.
            demand: asks for a refresh of a volume that is not due; None without one.

        Raises:
            KeyferryError: the SecretProviderClass cannot be read.
        """
        async with self._locks.for_publish(request.target_path):
            volume = self._volumes.get(request.target_path)
            if volume is None:
                return PublishResult(Skip())  # unpublished while this call waited
            labels = PublishLabels()
            return await self._publish(request, volume, labels, rebuilt=rebuilt, demand=demand)

    async def unpublish(self, request: UnpublishRequest) -> None:
        """Unmount the volume; a no-op if nothing is mounted.

        Raises:
            VolumeError: the volume cannot be unmounted.
            StoreError: objects that only this volume used cannot be deleted.
        """
        target = request.target_path
        with self._metrics.unpublish():
            async with self._locks.for_unpublish(target):
                # Removed from the table first, so that no Secret is built from files that vanish.
                with self._volumes.removing(target) as volume:
                    await self._operations.unmount(Path(target))
                await self._events.publish(VolumeRemoved(target, volume, unpublished=True))
        _log.info("volume unpublished")

    def _is_up_to_date(self, request: PublishRequest) -> bool:
        """Record the call and return True if the volume is idle and known to be up to date."""
        if not self._locks.is_free(request.target_path):
            return False
        volume = self._volumes.touch(request)
        return volume is not None and self._planner.is_up_to_date(volume)

    async def _publish(
        self,
        request: PublishRequest,
        volume: Volume | None,
        labels: PublishLabels,
        *,
        rebuilt: bool = False,
        demand: Demand | None = None,
    ) -> PublishResult:
        decision = await self._planner.decide(request, volume, forced=demand is not None)
        if isinstance(decision, Skip):
            return PublishResult(decision)
        if isinstance(decision, Adopt):
            return await self._adopt(request)
        try:
            spc = await self._read_class(request)
        except StoreUnavailableError as error:
            if not isinstance(decision, Refresh):
                raise
            _log.warning(
                "SecretProviderClass cannot be read, refresh postponed", **error.log_pairs()
            )
            return PublishResult(decision, masked_error=error)
        labels.provider = spc.provider
        require_readonly(request)
        resolved = self._providers.resolve(spc.provider)
        self._field_reporter.report_later(request, spc)
        match decision:
            case Mount():
                return await self._mount(request, spc, resolved, volume)
            case Resume():
                return await self._deliver(request, spc, resolved, decision, volume=volume)
            case Refresh():
                return await self._refresh(
                    request, spc, resolved, volume, rebuilt=rebuilt, demand=demand
                )
            case _:
                assert_never(decision)

    async def _read_class(self, request: PublishRequest) -> SecretProviderClass:
        return check_class(await self._store.get_class(request.pod.namespace, request.class_name))

    async def _deliver(
        self,
        request: PublishRequest,
        spc: SecretProviderClass,
        resolved: ResolvedProvider,
        decision: Mount | Resume | Refresh,
        *,
        volume: Volume | None,
        demand: Demand | None = None,
    ) -> PublishResult:
        not_before = demand.not_before if demand else None
        try:
            return await self._delivery.deliver(
                request, spc, resolved, decision, volume=volume, not_before=not_before
            )
        except OSError as error:
            translated = descriptor_error(error)
            if translated is None:
                raise
            raise translated from error

    async def _mount(
        self,
        request: PublishRequest,
        spc: SecretProviderClass,
        resolved: ResolvedProvider,
        volume: Volume | None,
    ) -> PublishResult:
        """Mount for the first time; a failed or cancelled call leaves nothing behind."""
        target = Path(request.target_path)
        folder_existed = target.is_dir()
        try:
            return await self._deliver(request, spc, resolved, Mount(), volume=volume)
        except BaseException as error:
            removed = self._volumes.drop(request.target_path)
            try:
                await self._operations.unmount(target, keep_folder=folder_existed)
            except VolumeError as failure:
                # The caller gets the first error, which is usually the cause of this one.
                _log.error("failed to clean up after a failed mount", **failure.log_pairs())
            await self._events.publish(
                VolumeRemoved(request.target_path, removed, unpublished=False)
            )
            if isinstance(error, KeyferryError):
                await self._store.record_event(mount_failed(request.pod, spc, error))
            raise

    async def _adopt(self, request: PublishRequest) -> PublishResult:
        try:
            return await self._delivery.adopt(request, await self._read_class(request))
        except KeyferryError as error:
            _log.error(
                "failed to sync the Secrets of a volume that an earlier process published",
                **error.log_pairs(),
            )
            return PublishResult(Adopt(), masked_error=error)

    async def _refresh(
        self,
        request: PublishRequest,
        spc: SecretProviderClass,
        resolved: ResolvedProvider,
        volume: Volume | None,
        *,
        rebuilt: bool,
        demand: Demand | None,
    ) -> PublishResult:
        """Refresh a published volume; report failures of the provider instead of raising them.

        Kubelet would answer an error by failing the volume of a running pod, although its content
        is complete. This includes mistakes in the SecretProviderClass (`AuthorError`).
        """
        try:
            result = await self._deliver(
                request, spc, resolved, Refresh(), volume=volume, demand=demand
            )
        except KeyferryError as error:
            if rebuilt and isinstance(error, IdentityError):
                # Repeated in every interval until kubelet calls.
                _log.debug("refresh postponed until kubelet sends tokens", **error.log_pairs())
                return PublishResult(Refresh(), masked_error=error)
            _log.error(
                "refresh failed, previous content retained",
                provider=spc.provider,
                **error.log_pairs(),
            )
            self._metrics.refresh_failed(spc.provider, error)
            await self._events.publish(VolumeRefreshFailed(request, error))
            await self._store.record_event(rotation_failed(request.pod, spc, error))
            # Looked up again: the volumes of an earlier process may have been restored meanwhile.
            if self._volumes.get(request.target_path) is None:
                await self._delivery.track(request, spc)
            return PublishResult(Refresh(), masked_error=error)
        rotated = bool(result.file_changes)
        self._metrics.refreshed(spc.provider, rotated=rotated, seconds=result.seconds)
        self._metrics.volumes.objects_rotated(spc.provider, len(result.version_changes))
        if rotated:
            event = rotation_completed(
                request.pod, spc, result.file_changes, result.version_changes
            )
            await self._store.record_event(event)
        return result
