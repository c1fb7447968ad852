"""Queues the Secrets of this node for reconciliation: after publishes, cluster events, and time.

It only adds keys to a work queue; `reconciler` alone decides what is done for a key.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from operator import itemgetter
from typing import TYPE_CHECKING, assert_never

from keyferry.aio.backoff import exponential_backoff
from keyferry.aio.work_queue import After, WorkQueue
from keyferry.driver.secrets.unused import UnusedSecrets
from keyferry.driver.volumes.volume_events import PodStatusWritten, VolumeRemoved
from keyferry.driver.volumes.volume_table import pod_of
from keyferry.kubernetes.cluster import (
    PodChanged,
    PodStatusDeleted,
    Reconnected,
    SecretChanged,
    SpcChanged,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from keyferry.aio.clock import Clock
    from keyferry.driver.secrets.reconciler import SecretProblem, SecretReconciler
    from keyferry.driver.volumes.volume_events import VolumeEvent
    from keyferry.driver.volumes.volume_table import Volume, VolumeTable
    from keyferry.kubernetes.cluster import ClusterEvent, ClusterView
    from keyferry.kubernetes.names import NamespacedName
    from keyferry.kubernetes.objects import Pod, PodStatus, SecretProviderClass

MAX_RETRY_SECONDS = 30.0
"""The longest delay before a failed Secret is retried: the cause may be removed at any moment."""
RELEASE_SECONDS = 5.0
"""The longest time that an unpublish waits until the Secrets of a pod without owners are marked."""
RESYNC_SECONDS = 300.0
"""How often Secrets are reconciled without an event, as in upstream; not those that a watch shows
unchanged, because each takes a request."""


class SecretController:
    """Feeds the work queue of Secrets.

    Args:
        reconciler: reconciles one Secret.
        volumes: the published volumes of this node.
        cluster: the pods, pod statuses and SecretProviderClasses of the cluster.
        clock: delays.
        unused: the Secrets whose grace period runs; the reconciler has the same.
        backoff: seconds to wait after this number of consecutive failures.
    """

    def __init__(
        self,
        reconciler: SecretReconciler,
        *,
        volumes: VolumeTable,
        cluster: ClusterView,
        clock: Clock,
        unused: UnusedSecrets | None = None,
        backoff: Callable[[int], float] = exponential_backoff,
    ) -> None:
        self._reconciler = reconciler
        self._unused = unused or UnusedSecrets(clock)
        self._volumes = volumes
        self._cluster = cluster
        self._clock = clock
        self._queue: WorkQueue[NamespacedName] = WorkQueue(
            self._reconcile,
            group_of=itemgetter(0),
            clock=clock,
            name="Secrets",
            backoff=lambda failures: min(backoff(failures), MAX_RETRY_SECONDS),
        )

    async def _reconcile(self, key: NamespacedName) -> bool | After:
        result = await self._reconciler.reconcile(key)
        self.update_watch()
        return result

    def __len__(self) -> int:
        """The number of Secrets in the queue."""
        return len(self._queue)

    async def reconcile_now(
        self, spc: SecretProviderClass, *, changed: bool
    ) -> tuple[SecretProblem, ...]:
        """Reconcile every Secret of `spc` and wait.

        Args:
            spc: the SecretProviderClass of a volume that was published.
            changed: the volume is new or its files changed. If not, Secrets that are known to be
                unchanged since the last reconciliation are skipped.

        Returns:
            One problem for each Secret that could not be synced.
        """
        self.update_watch()
        keys = [(spc.namespace, name) for name in spc.secret_names]
        stale = [key for key in keys if changed or not self._is_unchanged(key)]
        await asyncio.gather(*(self._queue.run_and_wait(key) for key in stale))
        return self._reconciler.problems(spc)

    def warnings(self, spc: SecretProviderClass) -> tuple[str, ...]:
        """Return what the last reconciliations of the Secrets of `spc` replaced in others."""
        return self._reconciler.warnings(spc)

    def needs_status_owner(self, volume: Volume) -> bool:
        """Return whether only the pod status of `volume` can own its Secrets.

        True for a pod without owners, and while the pod is unknown.
        """
        pod = pod_of(volume, self._cluster)
        return pod is None or not pod.owners

    def enqueue_all(self) -> None:
        """Queue every Secret of this node."""
        for key in self._volumes.secret_keys() | self._reconciler.failing():
            self._queue.add(key)

    def load_secret_names(self) -> None:
        """Set the Secret names of restored volumes from their SecretProviderClasses."""
        for volume in self._volumes:
            for spc in self._cluster.classes(volume.pod.namespace):
                if spc.name == volume.class_name:
                    self._volumes.set_secret_names(volume.target_path, spc.secret_names)
        self.update_watch()

    @property
    def unused_secrets(self) -> frozenset[NamespacedName]:
        """The Secrets whose grace period this node counts."""
        return frozenset(self._unused.tracked())

    async def restore_unused(self) -> None:
        """Continue the grace periods that an earlier process started."""
        await self._unused.load()
        for key in self._unused.tracked():
            self._queue.add(key, after=self._unused.remaining(key))
        self.update_watch()

    def update_watch(self) -> None:
        """Watch Secrets in the namespaces where this node has some, and in no others.

        Also the Secrets of other clients whose names SecretProviderClasses of this node use.
        """
        keys = self._volumes.secret_keys() | self._unused.tracked()
        self._cluster.watch_secrets(
            frozenset(namespace for namespace, _ in keys), self._reconciler.unmanaged() & keys
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Reconcile Secrets while the block runs."""
        async with self._queue.running():
            resync = asyncio.create_task(self._resync())
            try:
                yield
            finally:
                resync.cancel()
                await asyncio.gather(resync, return_exceptions=True)

    async def _resync(self) -> None:
        while True:
            await self._clock.sleep(RESYNC_SECONDS)
            for key in self._volumes.secret_keys() | self._reconciler.failing():
                if not self._is_unchanged(key):
                    self._queue.add(key)

    # --- events ----------------------------------------------------------------------------------

    async def on_volume_event(self, event: VolumeEvent) -> None:
        """Queue the Secrets of a removed volume, and those that can have an owner now.

        New content of a volume is not handled here: `publish.delivery` calls `reconcile_now`.
        """
        match event:
            case VolumeRemoved(volume=volume) if volume is not None:
                # It may have been the last volume that used its Secrets.
                self._enqueue(volume.pod.namespace, volume.secret_names)
                if self._unused.grace_period > 0 and self.needs_status_owner(volume):
                    await self._wait_for_release(volume)
            case PodStatusWritten(status=status):
                volume = self._volumes.get(status.target_path)
                if volume is not None and self.needs_status_owner(volume):
                    self._enqueue(volume.pod.namespace, volume.secret_names)
            case _:
                pass

    def on_cluster_event(self, event: ClusterEvent) -> None:
        """Queue the Secrets that `event` affects."""
        match event:
            case SpcChanged(before=before, after=after):
                self._on_spc_changed(before, after)
            case PodChanged(before=before, after=after):
                self._on_pod_changed(before, after)
            case PodStatusDeleted(status=status):
                self._on_pod_status_deleted(status)
            case SecretChanged():
                self._on_secret_changed(event)
            case Reconnected():
                self._queue.retry_failed()
                # Perhaps a permission was granted.
                for key in self._reconciler.failing():
                    self._queue.add(key)
            case _:
                assert_never(event)

    async def _wait_for_release(self, volume: Volume) -> None:
        """Wait until the Secrets of the volume are marked, if they are unused now.

        Kubernetes deletes the pod when the unpublish has returned, and with the pod status the
        Secrets that only it owns.
        """
        keys = [(volume.pod.namespace, name) for name in volume.secret_names]
        with suppress(TimeoutError):
            async with asyncio.timeout(RELEASE_SECONDS):
                await asyncio.gather(*map(self._queue.run_and_wait, keys))

    def _on_secret_changed(self, event: SecretChanged) -> None:
        key = (event.namespace, event.name)
        if event.deleted and self._reconciler.note_deleted(key, event.resource_version):
            self._queue.add(key)
        if key in self._volumes.secret_keys():
            if not self._is_unchanged(key):
                self._queue.add(key)
        elif not event.unused_since:
            self._unused.forget(key)
        elif self._unused.grace_period > 0 and self._unused.observe(key, event.unused_since):
            self._queue.add(key, after=self._unused.remaining(key))

    def _on_spc_changed(
        self, before: SecretProviderClass | None, after: SecretProviderClass | None
    ) -> None:
        spc = after or before
        assert spc is not None
        names = set[str]()
        for version in (before, after):
            names |= version.secret_names if version else frozenset()
        in_use = {volume.class_name for volume in self._volumes.in_namespace(spc.namespace)}
        concerned = {
            name
            for namespace, name in self._reconciler.failing() | self._unused.tracked()
            if namespace == spc.namespace
        }
        # A SecretProviderClass that no pod of this node uses still matters to a Secret that could
        # not be synced because of it, or whose grace period runs.
        self._enqueue(spc.namespace, names if spc.name in in_use else names & concerned)

    def _on_pod_changed(self, before: Pod | None, after: Pod | None) -> None:
        pod = after or before
        assert pod is not None
        if before and after and _relevant_fields(before) == _relevant_fields(after):
            return
        for volume in self._volumes.in_namespace(pod.namespace):
            if volume.pod.name == pod.name:
                self._enqueue(pod.namespace, volume.secret_names)

    def _on_pod_status_deleted(self, status: PodStatus) -> None:
        # Its pod no longer counts as a user of the Secrets.
        for spc in self._cluster.classes(status.namespace):
            if spc.name == status.class_name:
                self._enqueue(spc.namespace, spc.secret_names)

    def _is_unchanged(self, key: NamespacedName) -> bool:
        """Whether the watch shows the Secret at the version of its last reconciliation."""
        version = self._reconciler.synced_version(key)
        return version is not None and version == self._cluster.secret_resource_version(*key)

    def _enqueue(self, namespace: str, names: Iterable[str]) -> None:
        for name in names:
            self._queue.add((namespace, name))


def _relevant_fields(pod: Pod) -> tuple[object, ...]:
    return pod.uid, pod.owners, pod.completed, pod.terminating
