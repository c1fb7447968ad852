"""The story of one volume: publish and unpublish.

Every arrow goes out from here to a leaf and comes back: what is there (`mounts`), what is to be
done (`plan`), the class (`store`, `spc`), the content (`plugins` and the provider behind it), the
files (`atomic`), the record (`podstatus`) and the Kubernetes Secrets (`sync`). Source: driver.md,
sections 1.5 and 1.6; where it differs on purpose, `plan` and docs/compatibility.md say so.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from keyferry.contract import Purpose
from keyferry.driver.atomic import NOTHING_WRITTEN, Written, read_volume, write_volume
from keyferry.driver.events import mount_failed, rotation_done, rotation_failed
from keyferry.driver.locks import TargetLocks
from keyferry.driver.plan import Adopt, Mount, Refresh, Resume, Skip, VolumeState, decide
from keyferry.driver.podstatus import pod_status
from keyferry.driver.request import PublishRequest, UnpublishRequest, mount_call, require_readonly
from keyferry.driver.spc import check_class
from keyferry.driver.threads import run_whole
from keyferry.errors import KeyferryError
from keyferry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry.contract import NamedFile, SecretFile
    from keyferry.driver.expiry_watch import ExpiryWatch
    from keyferry.driver.mounts import Mounts
    from keyferry.driver.plan import Decision
    from keyferry.driver.plugins import Plugin, Plugins
    from keyferry.driver.sync import SecretProblem, SecretSync
    from keyferry.metrics import Metrics
    from keyferry.store import ClassObject, ObjectStore, OwnerReference, PodStatus

_log = get_logger("publish")


@dataclass(frozen=True, slots=True)
class Published:
    """How a publish ended.

    Attributes:
        decision: what there was to do.
        written: which files changed.
        secret_problems: Kubernetes Secrets that could not be brought in step; the volume itself is
            fine.
        near_expiry: a sentence for each object that has expired or soon will, if its class asks.
        stale: why a refresh or an adoption failed, and the volume keeps what it had; else None.
    """

    decision: Decision
    written: Written = NOTHING_WRITTEN
    secret_problems: tuple[SecretProblem, ...] = ()
    near_expiry: tuple[str, ...] = ()
    stale: KeyferryError | None = None


class Publisher:
    """Publishes and unpublishes volumes.

    Args:
        store: where classes are read and statuses, Secrets and events go.
        mounts: how the files of a volume are kept.
        plugins: the providers.
        sync: the Kubernetes Secrets of a volume.
        metrics: what is counted.
        expiries: who hears of objects that end.
        node: the name of this node, for pod statuses.
        rotation_interval: seconds that content is left alone before a repeated publish refreshes
            it; None when rotation is off.
        clock: seconds from an arbitrary start.
    """

    def __init__(
        self,
        *,
        store: ObjectStore,
        mounts: Mounts,
        plugins: Plugins,
        sync: SecretSync,
        metrics: Metrics,
        expiries: ExpiryWatch,
        node: str,
        rotation_interval: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._mounts = mounts
        self._plugins = plugins
        self._sync = sync
        self._metrics = metrics
        self._expiries = expiries
        self._node = node
        self._rotation_interval = rotation_interval
        self._clock = clock
        self._locks = TargetLocks()
        self._fetched: dict[str, float] = {}
        """When this process last brought each published volume up to date."""

    async def publish(self, request: PublishRequest) -> Published:
        """Makes the volume hold what its class says; repeatable.

        Raises:
            KeyferryError: the volume is not usable. A failed first mount has left nothing behind. A
                failed refresh of a published volume is no error of this call (see
                `Published.stale`). An unpublish of the same volume ends this call, so that a pod
                that leaves does not wait for a vault.
        """
        with self._metrics.publish() as observed:
            async with self._locks.to_fill(request.target_path):
                target = Path(request.target_path)
                decision = await self._decide(request, target)
                if isinstance(decision, Skip):
                    return Published(decision)
                if isinstance(decision, Adopt):
                    return await self._adopt(request)
                cls = await self._read_class(request)
                observed.provider = cls.provider
                require_readonly(request)
                plugin = self._plugins.find(cls.provider)
                match decision:
                    case Mount():
                        return await self._mount(request, cls, plugin)
                    case Resume():
                        return await self._deliver(request, cls, plugin, decision)
                    case Refresh():
                        return await self._refresh(request, cls, plugin)
                    case _:
                        assert_never(decision)

    async def unpublish(self, request: UnpublishRequest) -> None:
        """Takes the volume away; fine when nothing is there.

        Raises:
            VolumeError: it cannot be unmounted.
            StoreError: what only it kept in the store cannot be let go.
        """
        with self._metrics.unpublish():
            async with self._locks.to_empty(request.target_path):
                await run_whole(self._mounts.unmount, Path(request.target_path))
                self._forget(request.target_path)
                await self._store.volume_gone(request.target_path)
        _log.info("volume unpublished")

    async def _decide(self, request: PublishRequest, target: Path) -> Decision:
        state = await run_whole(self._mounts.inspect, target)
        fetched = self._fetched.get(request.target_path)
        finished = fetched is not None or (
            state is VolumeState.WRITTEN and await self._find_record(request) is not None
        )
        return decide(
            state,
            finished=finished,
            rotation_interval=self._rotation_interval,
            age=None if fetched is None else self._clock() - fetched,
        )

    async def _find_record(self, request: PublishRequest) -> PodStatus | None:
        """The pod status by which an earlier publish of this very volume ended."""
        wanted = pod_status(request.pod, request.class_name, request.target_path, self._node, ())
        status = await self._store.find_pod_status(wanted.namespace, wanted.name)
        if status is None or status.pod.uid != request.pod.uid:
            return None
        return status if status.target_path == request.target_path else None

    async def _read_class(self, request: PublishRequest) -> ClassObject:
        return check_class(await self._store.get_class(request.pod.namespace, request.class_name))

    async def _mount(self, request: PublishRequest, cls: ClassObject, plugin: Plugin) -> Published:
        """The first mount: when anything fails, a cancelled call included, nothing is left."""
        target = Path(request.target_path)
        folder_was_there = target.is_dir()
        try:
            return await self._deliver(request, cls, plugin, Mount())
        except BaseException as error:
            await run_whole(self._mounts.unmount, target, keep_folder=folder_was_there)
            self._forget(request.target_path)
            if isinstance(error, KeyferryError):
                await self._store.record_event(mount_failed(request.pod, cls, error))
            raise

    async def _adopt(self, request: PublishRequest) -> Published:
        """Makes the Secrets that an earlier process may not have come to; no vault is asked."""
        try:
            cls = await self._read_class(request)
            plugin = self._plugins.find(cls.provider)
            if record := await self._find_record(request):
                owner = await self._store.apply_pod_status(record)
                named = _named_files(cls, plugin)
                problems = await self._sync_secrets(request, cls, named, (), owner)
                self._fetched[request.target_path] = self._clock()
                return Published(Adopt(), secret_problems=problems)
        except KeyferryError as error:
            _log.error(
                "Secrets of a volume that was there at start are not looked after",
                **error.log_pairs(),
            )
            return Published(Adopt(), stale=error)
        return Published(Adopt())

    async def _refresh(
        self, request: PublishRequest, cls: ClassObject, plugin: Plugin
    ) -> Published:
        """A published volume is due: from the provider on, failures are told, not returned.

        Kubelet would answer an error by failing the running pod's volume, which still is whole. A
        provider that finds a mistake in the class (an `AuthorError`) is no exception.
        """
        start = self._clock()
        try:
            published = await self._deliver(request, cls, plugin, Refresh())
        except KeyferryError as error:
            _log.error(
                "refresh failed, the volume keeps what it had",
                provider=cls.provider,
                **error.log_pairs(),
            )
            self._metrics.refresh_failed(cls.provider, error)
            await self._store.record_event(rotation_failed(request.pod, cls, error))
            return Published(Refresh(), stale=error)
        rotated = bool(published.written)
        self._metrics.refreshed(cls.provider, rotated=rotated, seconds=self._clock() - start)
        if rotated:
            await self._store.record_event(rotation_done(request.pod, cls, published.written))
        return published

    async def _deliver(
        self, request: PublishRequest, cls: ClassObject, plugin: Plugin, decision: Decision
    ) -> Published:
        """Fetch, mount, write, record, sync: the steps that all decisions share.

        The content is fetched before anything is mounted, so a refused fetch has no effect at all;
        only a provider that may write the files itself needs the mount first. The record comes
        before the Secrets because they name it as their owner.
        """
        target = Path(request.target_path)
        if plugin.writes_itself:
            await run_whole(self._mounts.mount, target)
        purpose = Purpose.REFRESH if isinstance(decision, Refresh) else Purpose.FIRST
        result = await plugin.provider.mount(mount_call(request, cls, purpose))
        named = _named_files(cls, plugin)
        await run_whole(self._mounts.mount, target)
        written = NOTHING_WRITTEN
        if result.files:
            written = await run_whole(write_volume, target, result.files)
        owner = await self._store.apply_pod_status(
            pod_status(
                request.pod, request.class_name, request.target_path, self._node, result.versions
            )
        )
        problems = await self._sync_secrets(request, cls, named, result.files, owner)
        near_expiry = await self._expiries.delivered(
            request.target_path, request.pod, cls, result.expiries
        )
        self._fetched[request.target_path] = self._clock()
        _log.info(
            "volume published",
            provider=cls.provider,
            decision=type(decision).__name__.lower(),
            objects=len(result.versions),
            changed=len(written.added + written.changed + written.removed),
        )
        return Published(decision, written, problems, near_expiry)

    def _forget(self, target: str) -> None:
        self._fetched.pop(target, None)
        self._expiries.gone(target)

    async def _sync_secrets(
        self,
        request: PublishRequest,
        cls: ClassObject,
        named: tuple[NamedFile, ...],
        files: tuple[SecretFile, ...],
        owner: OwnerReference,
    ) -> tuple[SecretProblem, ...]:
        """Brings the Secrets in step with `files`, or with those of the volume if empty."""
        if not cls.secret_objects:
            return ()
        problems = await self._sync.sync(
            cls,
            request.pod,
            files=files or await run_whole(read_volume, Path(request.target_path)),
            named=named,
            owner=owner,
        )
        self._metrics.secrets_synced(cls.provider, len(cls.secret_objects) - len(problems))
        return problems


def _named_files(cls: ClassObject, plugin: Plugin) -> tuple[NamedFile, ...]:
    """What the Secrets of `cls` may call its files; found out before anything is written."""
    return plugin.named_files(cls.parameters) if cls.secret_objects else ()
