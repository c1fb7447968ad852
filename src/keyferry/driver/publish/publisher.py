"""The story of one volume: publish and unpublish.

Every arrow goes out from here to a leaf and comes back: what is there (`mounts`), what is to be
done (`plan`), the class (`store`, `spc`), the provider (`plugins`), and all that a fetch brings
with it (`deliver`). Where it differs on purpose, `plan` and docs/reference/compatibility.md say so.

Source: docs/reference/upstream-driver.md#nodepublishvolume
Source: docs/reference/upstream-driver.md#nodeunpublishvolume
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from keyferry.aio.threads import run_in_thread_uncancelled
from keyferry.driver.publish.delivery import PublishResult
from keyferry.driver.publish.history import PublishHistory
from keyferry.driver.publish.plan import Adopt, Completion, Mount, Refresh, Resume, Skip, decide
from keyferry.driver.request import PublishRequest, UnpublishRequest, check_class, require_readonly
from keyferry.driver.status.events import mount_failed, rotation_completed, rotation_failed
from keyferry.driver.volumes.locks import TargetLocks
from keyferry.driver.volumes.volume_table import pod_of
from keyferry.errors import IdentityError, KeyferryError, StoreUnavailableError
from keyferry.telemetry.logs import get_logger
from keyferry.telemetry.metrics import PublishLabels

if TYPE_CHECKING:
    from keyferry.aio.clock import Clock
    from keyferry.driver.providers import Providers, ResolvedProvider
    from keyferry.driver.publish.delivery import ContentDelivery
    from keyferry.driver.publish.plan import Decision
    from keyferry.driver.publish.schedule import RefreshSchedule
    from keyferry.driver.secrets.controller import SecretController
    from keyferry.driver.status.expiry_monitor import ExpiryMonitor
    from keyferry.driver.status.pod_status_writer import PodStatusWriter
    from keyferry.driver.status.refresh_condition import RefreshConditionWriter
    from keyferry.driver.volumes.mounter import Mounter
    from keyferry.driver.volumes.volume_table import VolumeTable
    from keyferry.kubernetes import ObjectStore, SecretProviderClass
    from keyferry.telemetry.metrics import Metrics

_log = get_logger("publish")


class Publisher:
    """Publishes and unpublishes volumes.

    Args:
        store: where classes are read and events go.
        mounter: how the files of a volume are kept.
        providers: the providers.
        delivery: fetches, writes, records, makes the Secrets.
        volumes: what is published here.
        status_writer: hears of volumes that go.
        secret_controller: the same.
        condition_writer: hears of refreshes that fail.
        expiry_monitor: hears of volumes that go.
        metrics: what is counted.
        node: the name of this node, for pod statuses.
        schedule: tells when a repeated publish refreshes content; None when rotation is off.
        clock: the time.
    """

    def __init__(
        self,
        *,
        store: ObjectStore,
        mounter: Mounter,
        providers: Providers,
        delivery: ContentDelivery,
        volumes: VolumeTable,
        status_writer: PodStatusWriter,
        secret_controller: SecretController,
        condition_writer: RefreshConditionWriter,
        expiry_monitor: ExpiryMonitor,
        metrics: Metrics,
        node: str,
        schedule: RefreshSchedule | None,
        clock: Clock,
    ) -> None:
        self._store = store
        self._mounter = mounter
        self._providers = providers
        self._delivery = delivery
        self._volumes = volumes
        self._status_writer = status_writer
        self._secret_controller = secret_controller
        self._condition_writer = condition_writer
        self._expiry_monitor = expiry_monitor
        self._metrics = metrics
        self._history = PublishHistory(store, node=node)
        self._schedule = schedule
        self._clock = clock
        self._locks = TargetLocks()

    async def publish(self, request: PublishRequest) -> PublishResult:
        """Makes the volume hold what its class says; repeatable.

        Raises:
            KeyferryError: the volume is not usable. A failed first mount has left nothing behind. A
                failed refresh of a published volume is no error of this call (see
                `Published.stale`). An unpublish of the same volume ends this call, so that
                nothing is written into a volume that goes.
        """
        with self._metrics.publish() as observed:
            async with self._locks.for_publish(request.target_path):
                self._volumes.touch(request)
                return await self._publish(request, observed)

    async def refresh(self, request: PublishRequest, *, rebuilt: bool) -> PublishResult:
        """Does what a publish would, without kubelet, to a volume that is due.

        Args:
            request: as kubelet would ask.
            rebuilt: it was made without kubelet, so that tokens may be missing in it.

        Raises:
            KeyferryError: the class cannot be read.
        """
        async with self._locks.for_publish(request.target_path):
            if self._volumes.get(request.target_path) is None:
                return PublishResult(Skip())  # unpublished meanwhile
            return await self._publish(request, PublishLabels(), rebuilt=rebuilt)

    async def unpublish(self, request: UnpublishRequest) -> None:
        """Takes the volume away; fine when nothing is there.

        Raises:
            VolumeError: it cannot be unmounted.
            StoreError: what only it kept in the store cannot be let go.
        """
        with self._metrics.unpublish():
            async with self._locks.for_unpublish(request.target_path):
                # First, so that nobody reads the files of a volume that is about to go.
                volume = self._volumes.drop(request.target_path)
                try:
                    await run_in_thread_uncancelled(
                        self._mounter.unmount, Path(request.target_path)
                    )
                except BaseException:
                    if volume is not None:
                        self._volumes.put(volume)
                    raise
                await self._remove_state(request.target_path)
                self._providers.volume_removed(request.target_path)
                await self._store.volume_removed(request.target_path)
                if volume is not None:
                    self._secret_controller.volume_removed(volume)
        _log.info("volume unpublished")

    async def _publish(
        self, request: PublishRequest, observed: PublishLabels, *, rebuilt: bool = False
    ) -> PublishResult:
        decision = await self._decide(request, Path(request.target_path))
        if isinstance(decision, Skip) or self._needs_no_update(request, decision):
            return PublishResult(Skip())
        if isinstance(decision, Adopt):
            return await self._adopt(request)
        try:
            cls = await self._read_class(request)
        except StoreUnavailableError as error:
            if not isinstance(decision, Refresh):
                raise
            _log.warning("the class is not known while the API is away", **error.log_pairs())
            return PublishResult(decision, masked_error=error)
        observed.provider = cls.provider
        require_readonly(request)
        plugin = self._providers.resolve(cls.provider)
        match decision:
            case Mount():
                return await self._mount(request, cls, plugin)
            case Resume():
                return await self._delivery.deliver(request, cls, plugin, decision)
            case Refresh():
                return await self._refresh(request, cls, plugin, rebuilt=rebuilt)
            case _:
                assert_never(decision)

    async def _decide(self, request: PublishRequest, target: Path) -> Decision:
        state = await run_in_thread_uncancelled(self._mounter.inspect, target)
        volume = self._volumes.get(request.target_path)
        ending = Completion.REMEMBERED
        if volume is None or volume.fetched_monotonic is None:
            ending = await self._history.completion(request, state)
        return decide(
            state,
            completion=ending,
            rotation_enabled=self._schedule is not None,
            due=bool(volume and self._schedule and self._schedule.is_due(volume)),
        )

    def _needs_no_update(self, request: PublishRequest, decision: Decision) -> bool:
        """The pod needs nothing more: it has ended, or is about to, with a volume that is whole."""
        volume = self._volumes.get(request.target_path)
        pod = None if volume is None else pod_of(volume, self._store.cluster)
        over = pod is not None and (pod.completed or pod.terminating)
        return over and isinstance(decision, Refresh | Adopt)

    async def _read_class(self, request: PublishRequest) -> SecretProviderClass:
        return check_class(await self._store.get_class(request.pod.namespace, request.class_name))

    async def _mount(
        self, request: PublishRequest, spc: SecretProviderClass, resolved: ResolvedProvider
    ) -> PublishResult:
        """The first mount: when anything fails, a cancelled call included, nothing is left."""
        target = Path(request.target_path)
        folder_was_there = target.is_dir()
        try:
            return await self._delivery.deliver(request, spc, resolved, Mount())
        except BaseException as error:
            volume = self._volumes.drop(request.target_path)
            await run_in_thread_uncancelled(
                self._mounter.unmount, target, keep_folder=folder_was_there
            )
            await self._remove_state(request.target_path)
            if volume is not None:
                self._secret_controller.volume_removed(volume)
            if isinstance(error, KeyferryError):
                await self._store.record_event(mount_failed(request.pod, spc, error))
            raise

    async def _adopt(self, request: PublishRequest) -> PublishResult:
        """Makes the Secrets that an earlier process may not have come to; no vault is asked."""
        try:
            cls = await self._read_class(request)
            if record := await self._history.find(request):
                problems = await self._delivery.adopt(request, cls, record)
                return PublishResult(Adopt(), secret_problems=problems)
        except KeyferryError as error:
            _log.error(
                "Secrets of a volume that was there at start are not looked after",
                **error.log_pairs(),
            )
            return PublishResult(Adopt(), masked_error=error)
        return PublishResult(Adopt())

    async def _refresh(
        self,
        request: PublishRequest,
        spc: SecretProviderClass,
        resolved: ResolvedProvider,
        *,
        rebuilt: bool,
    ) -> PublishResult:
        """A published volume is due: from the provider on, failures are told, not returned.

        Kubelet would answer an error by failing the running pod's volume, which still is whole. A
        provider that finds a mistake in the class (an `AuthorError`) is no exception.
        """
        start = self._clock.monotonic()
        try:
            published = await self._delivery.deliver(request, spc, resolved, Refresh())
        except KeyferryError as error:
            if rebuilt and isinstance(error, IdentityError):
                _log.info("a refresh waits for kubelet, which has tokens", **error.log_pairs())
                return PublishResult(Refresh(), masked_error=error)
            _log.error(
                "refresh failed, the volume keeps what it had",
                provider=spc.provider,
                **error.log_pairs(),
            )
            self._metrics.refresh_failed(spc.provider, error)
            self._condition_writer.record_failure(self._history.empty_status(request), error)
            await self._store.record_event(rotation_failed(request.pod, spc, error))
            if self._volumes.get(request.target_path) is None:
                await self._delivery.track(request, spc)
            return PublishResult(Refresh(), masked_error=error)
        rotated = bool(published.file_changes)
        seconds = self._clock.monotonic() - start
        self._metrics.refreshed(spc.provider, rotated=rotated, seconds=seconds)
        self._metrics.volumes.objects_rotated(spc.provider, len(published.version_changes))
        if rotated:
            event = rotation_completed(
                request.pod, spc, published.file_changes, published.version_changes
            )
            await self._store.record_event(event)
        return published

    async def _remove_state(self, target_path: str) -> None:
        await self._status_writer.discard(target_path)
        self._condition_writer.remove(target_path)
        self._expiry_monitor.remove(target_path)
        self._providers.release_cache(target_path)
