"""The story of one volume: publish and unpublish.

Every arrow goes out from here to a leaf and comes back: what is there (`mounts`), what is to be
done (`plan`), the class (`store`, `spc`), the provider (`plugins`), and all that a fetch brings
with it (`deliver`). Source: driver.md, sections 1.5 and 1.6; where it differs on purpose, `plan`
and docs/compatibility.md say so.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from keyferry.driver.deliver import Published
from keyferry.driver.events import mount_failed, rotation_done, rotation_failed
from keyferry.driver.locks import TargetLocks
from keyferry.driver.plan import Adopt, Ending, Mount, Refresh, Resume, Skip, decide
from keyferry.driver.records import Records
from keyferry.driver.request import PublishRequest, UnpublishRequest, require_readonly
from keyferry.driver.secret_users import pod_of
from keyferry.driver.spc import check_class
from keyferry.driver.threads import run_whole
from keyferry.errors import IdentityError, KeyferryError, StoreAwayError
from keyferry.logs import get_logger
from keyferry.metrics import Observed

if TYPE_CHECKING:
    from keyferry.clocks import Clock
    from keyferry.driver.deliver import Delivery
    from keyferry.driver.expiry_watch import ExpiryWatch
    from keyferry.driver.health import HealthKeeper
    from keyferry.driver.mounts import Mounts
    from keyferry.driver.plan import Decision
    from keyferry.driver.plugins import Plugin, Plugins
    from keyferry.driver.schedule import RefreshSchedule
    from keyferry.driver.secret_loop import SecretLoop
    from keyferry.driver.statuses import StatusKeeper
    from keyferry.driver.volumes import Volumes
    from keyferry.metrics import Metrics
    from keyferry.store import ClassObject, ObjectStore

_log = get_logger("publish")


class Publisher:
    """Publishes and unpublishes volumes.

    Args:
        store: where classes are read and events go.
        mounts: how the files of a volume are kept.
        plugins: the providers.
        delivery: fetches, writes, records, makes the Secrets.
        volumes: what is published here.
        statuses: hears of volumes that go.
        secrets: the same.
        health: hears of refreshes that fail.
        expiries: hears of volumes that go.
        metrics: what is counted.
        node: the name of this node, for pod statuses.
        schedule: tells when a repeated publish refreshes content; None when rotation is off.
        clock: the time.
    """

    def __init__(
        self,
        *,
        store: ObjectStore,
        mounts: Mounts,
        plugins: Plugins,
        delivery: Delivery,
        volumes: Volumes,
        statuses: StatusKeeper,
        secrets: SecretLoop,
        health: HealthKeeper,
        expiries: ExpiryWatch,
        metrics: Metrics,
        node: str,
        schedule: RefreshSchedule | None,
        clock: Clock,
    ) -> None:
        self._store = store
        self._mounts = mounts
        self._plugins = plugins
        self._delivery = delivery
        self._volumes = volumes
        self._statuses = statuses
        self._secrets = secrets
        self._health = health
        self._expiries = expiries
        self._metrics = metrics
        self._records = Records(store, node=node)
        self._schedule = schedule
        self._clock = clock
        self._locks = TargetLocks()

    async def publish(self, request: PublishRequest) -> Published:
        """Makes the volume hold what its class says; repeatable.

        Raises:
            KeyferryError: the volume is not usable. A failed first mount has left nothing behind. A
                failed refresh of a published volume is no error of this call (see
                `Published.stale`). An unpublish of the same volume ends this call, so that
                nothing is written into a volume that goes.
        """
        with self._metrics.publish() as observed:
            async with self._locks.to_fill(request.target_path):
                self._volumes.asked(request)
                return await self._publish(request, observed)

    async def refresh(self, request: PublishRequest, *, rebuilt: bool) -> Published:
        """Does what a publish would, without kubelet, to a volume that is due.

        Args:
            request: as kubelet would ask.
            rebuilt: it was made without kubelet, so that tokens may be missing in it.

        Raises:
            KeyferryError: the class cannot be read.
        """
        async with self._locks.to_fill(request.target_path):
            if self._volumes.get(request.target_path) is None:
                return Published(Skip())  # unpublished meanwhile
            return await self._publish(request, Observed(), rebuilt=rebuilt)

    async def unpublish(self, request: UnpublishRequest) -> None:
        """Takes the volume away; fine when nothing is there.

        Raises:
            VolumeError: it cannot be unmounted.
            StoreError: what only it kept in the store cannot be let go.
        """
        with self._metrics.unpublish():
            async with self._locks.to_empty(request.target_path):
                # First, so that nobody reads the files of a volume that is about to go.
                volume = self._volumes.drop(request.target_path)
                try:
                    await run_whole(self._mounts.unmount, Path(request.target_path))
                except BaseException:
                    if volume is not None:
                        self._volumes.put(volume)
                    raise
                await self._forget(request.target_path)
                self._plugins.unpublished(request.target_path)
                await self._store.volume_gone(request.target_path)
                if volume is not None:
                    self._secrets.left(volume)
        _log.info("volume unpublished")

    async def _publish(
        self, request: PublishRequest, observed: Observed, *, rebuilt: bool = False
    ) -> Published:
        decision = await self._decide(request, Path(request.target_path))
        if isinstance(decision, Skip) or self._is_over(request, decision):
            return Published(Skip())
        if isinstance(decision, Adopt):
            return await self._adopt(request)
        try:
            cls = await self._read_class(request)
        except StoreAwayError as error:
            if not isinstance(decision, Refresh):
                raise
            _log.warning("the class is not known while the API is away", **error.log_pairs())
            return Published(decision, stale=error)
        observed.provider = cls.provider
        require_readonly(request)
        plugin = self._plugins.find(cls.provider)
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
        state = await run_whole(self._mounts.inspect, target)
        volume = self._volumes.get(request.target_path)
        ending = Ending.REMEMBERED
        if volume is None or volume.fetched is None:
            ending = await self._records.ending(request, state)
        return decide(
            state,
            ending=ending,
            rotates=self._schedule is not None,
            due=bool(volume and self._schedule and self._schedule.is_due(volume)),
        )

    def _is_over(self, request: PublishRequest, decision: Decision) -> bool:
        """The pod needs nothing more: it has ended, or is about to, with a volume that is whole."""
        volume = self._volumes.get(request.target_path)
        pod = None if volume is None else pod_of(volume, self._store.cluster)
        over = pod is not None and (pod.finished or pod.leaving)
        return over and isinstance(decision, Refresh | Adopt)

    async def _read_class(self, request: PublishRequest) -> ClassObject:
        return check_class(await self._store.get_class(request.pod.namespace, request.class_name))

    async def _mount(self, request: PublishRequest, cls: ClassObject, plugin: Plugin) -> Published:
        """The first mount: when anything fails, a cancelled call included, nothing is left."""
        target = Path(request.target_path)
        folder_was_there = target.is_dir()
        try:
            return await self._delivery.deliver(request, cls, plugin, Mount())
        except BaseException as error:
            volume = self._volumes.drop(request.target_path)
            await run_whole(self._mounts.unmount, target, keep_folder=folder_was_there)
            await self._forget(request.target_path)
            if volume is not None:
                self._secrets.left(volume)
            if isinstance(error, KeyferryError):
                await self._store.record_event(mount_failed(request.pod, cls, error))
            raise

    async def _adopt(self, request: PublishRequest) -> Published:
        """Makes the Secrets that an earlier process may not have come to; no vault is asked."""
        try:
            cls = await self._read_class(request)
            if record := await self._records.find(request):
                problems = await self._delivery.adopt(request, cls, record)
                return Published(Adopt(), secret_problems=problems)
        except KeyferryError as error:
            _log.error(
                "Secrets of a volume that was there at start are not looked after",
                **error.log_pairs(),
            )
            return Published(Adopt(), stale=error)
        return Published(Adopt())

    async def _refresh(
        self, request: PublishRequest, cls: ClassObject, plugin: Plugin, *, rebuilt: bool
    ) -> Published:
        """A published volume is due: from the provider on, failures are told, not returned.

        Kubelet would answer an error by failing the running pod's volume, which still is whole. A
        provider that finds a mistake in the class (an `AuthorError`) is no exception.
        """
        start = self._clock.monotonic()
        try:
            published = await self._delivery.deliver(request, cls, plugin, Refresh())
        except KeyferryError as error:
            if rebuilt and isinstance(error, IdentityError):
                _log.info("a refresh waits for kubelet, which has tokens", **error.log_pairs())
                return Published(Refresh(), stale=error)
            _log.error(
                "refresh failed, the volume keeps what it had",
                provider=cls.provider,
                **error.log_pairs(),
            )
            self._metrics.refresh_failed(cls.provider, error)
            self._health.failed(self._records.blank(request), error)
            await self._store.record_event(rotation_failed(request.pod, cls, error))
            if self._volumes.get(request.target_path) is None:
                await self._delivery.take_up(request, cls)
            return Published(Refresh(), stale=error)
        rotated = bool(published.written)
        seconds = self._clock.monotonic() - start
        self._metrics.refreshed(cls.provider, rotated=rotated, seconds=seconds)
        self._metrics.volumes.rotated(cls.provider, len(published.changes))
        if rotated:
            event = rotation_done(request.pod, cls, published.written, published.changes)
            await self._store.record_event(event)
        return published

    async def _forget(self, target: str) -> None:
        await self._statuses.gone(target)
        self._health.forget(target)
        self._expiries.gone(target)
        self._plugins.volume_gone(target)
