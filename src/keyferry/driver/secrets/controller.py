"""What makes the Secrets of this node be looked at: publishes, the cluster, and time.

Everything only adds keys to the queue; what is done for a key is decided by `sync` alone.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from keyferry.aio.work_queue import WorkQueue, exponential_backoff
from keyferry.driver.secrets.usage import pod_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from keyferry.aio.clock import Clock
    from keyferry.driver.secrets.reconciler import SecretProblem, SecretReconciler
    from keyferry.driver.secrets.usage import NamespacedName
    from keyferry.driver.status.pod_status_writer import PodStatusWriter
    from keyferry.driver.volumes.volume_table import Volume, VolumeTable
    from keyferry.kubernetes.cluster import ClusterView, Pod
    from keyferry.kubernetes.objects import PodStatus, SecretProviderClass

RESYNC_SECONDS = 300.0
"""How often every Secret is looked at though nothing has happened, as upstream."""


class SecretController:
    """Feeds the queue of Secrets; hears the cluster (`ClusterListener`).

    Args:
        reconciler: does the work.
        volumes: what is published here.
        cluster: tells what happens.
        status_writer: hear that the API is back, and tell of a pod status that was late.
        clock: by which it waits.
        backoff: seconds to wait after so many failures in a row.
    """

    def __init__(
        self,
        reconciler: SecretReconciler,
        *,
        volumes: VolumeTable,
        cluster: ClusterView,
        status_writer: PodStatusWriter,
        clock: Clock,
        backoff: Callable[[int], float] = exponential_backoff,
    ) -> None:
        self._reconciler = reconciler
        self._volumes = volumes
        self._cluster = cluster
        self._clock = clock
        self._queue: WorkQueue[NamespacedName] = WorkQueue(
            reconciler.reconcile, clock=clock, name="Secrets", backoff=backoff
        )
        self.class_change_callbacks: list[
            Callable[[SecretProviderClass | None, SecretProviderClass | None], None]
        ] = []
        """Called with what a class was and is."""
        self.reconnect_callbacks: list[Callable[[], None]] = [status_writer.retry]
        """Called when the API answers again."""
        status_writer.on_background_write = self.status_written
        cluster.subscribe(self)

    def __len__(self) -> int:
        """How many Secrets wait."""
        return len(self._queue)

    async def reconcile_now(
        self, spc: SecretProviderClass, *, changed: bool
    ) -> tuple[SecretProblem, ...]:
        """Makes the Secrets of `spc` right, now; returns what could not be made.

        Args:
            spc: the class of a volume that was published.
            changed: the volume is new or its files have changed; else Secrets that are known to
                stand as they were left are not looked at.
        """
        self.update_watch()
        keys = [(spc.namespace, name) for name in spc.secret_names]
        wanted = [key for key in keys if changed or not self._is_unchanged(key)]
        await asyncio.gather(*(self._queue.run_and_wait(key) for key in wanted))
        return self._reconciler.problems(spc)

    def needs_status_owner(self, volume: Volume) -> bool:
        """Whether a Secret of it can be owned by nothing but its pod status, as far as is known."""
        pod = pod_of(volume, self._cluster)
        return pod is None or not pod.owners

    def volume_removed(self, volume: Volume) -> None:
        """A volume is gone, and maybe the last one that used its Secrets."""
        self._enqueue(volume.pod.namespace, volume.secret_names)
        self.update_watch()

    def enqueue_all(self) -> None:
        """Look at every Secret of this node."""
        for key in self._volumes.secret_keys() | self._reconciler.failing():
            self._queue.add(key)

    def load_secret_names(self) -> None:
        """Learn what the classes of restored volumes name."""
        for volume in self._volumes:
            for cls in self._cluster.classes(volume.pod.namespace):
                if cls.name == volume.class_name:
                    self._volumes.set_secret_names(volume.target_path, cls.secret_names)
        self.update_watch()

    def update_watch(self) -> None:
        """Hear of edits by hand where this node has Secrets, and nowhere else."""
        keys = self._volumes.secret_keys()
        self._cluster.watch_secrets(frozenset(namespace for namespace, _ in keys))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Looks after the Secrets while the block runs."""
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
            self.enqueue_all()

    # --- ClusterListener -------------------------------------------------------------------------

    def class_changed(
        self, before: SecretProviderClass | None, after: SecretProviderClass | None
    ) -> None:
        """What it names now and did before, if a pod of this node has it or waits for its place."""
        for tell in self.class_change_callbacks:
            tell(before, after)
        cls = after or before
        assert cls is not None
        names = set[str]()
        for each in (before, after):
            names |= each.secret_names if each else frozenset()
        used = {volume.class_name for volume in self._volumes.in_namespace(cls.namespace)}
        troubled = {
            name for namespace, name in self._reconciler.failing() if namespace == cls.namespace
        }
        self._enqueue(cls.namespace, names if cls.name in used else names & troubled)

    def pod_changed(self, before: Pod | None, after: Pod | None) -> None:
        """Its owners became known, or it has finished, or is about to."""
        pod = after or before
        assert pod is not None
        if before and after and _relevant_fields(before) == _relevant_fields(after):
            return
        for volume in self._volumes.in_namespace(pod.namespace):
            if volume.pod.name == pod.name:
                self._enqueue(pod.namespace, volume.secret_names)

    def status_deleted(self, status: PodStatus) -> None:
        """Nobody counts that pod any more."""
        for cls in self._cluster.classes(status.namespace):
            if cls.name == status.class_name:
                self._enqueue(cls.namespace, cls.secret_names)

    def secret_changed(self, namespace: str, name: str) -> None:
        """By hand, by another node, or by this one."""
        key = (namespace, name)
        if key in self._volumes.secret_keys() and not self._is_unchanged(key):
            self._queue.add(key)

    def on_reconnected(self) -> None:
        """What could not be done may be possible now."""
        for tell in self.reconnect_callbacks:
            tell()
        self._queue.retry_failed()

    def status_written(self, status: PodStatus) -> None:
        """A Secret can be owned by it now."""
        volume = self._volumes.get(status.target_path)
        if volume is not None and self.needs_status_owner(volume):
            self._enqueue(volume.pod.namespace, volume.secret_names)

    def _is_unchanged(self, key: NamespacedName) -> bool:
        """The watch tells that the Secret is as it was left."""
        version = self._reconciler.synced_version(key)
        return version is not None and version == self._cluster.secret_resource_version(*key)

    def _enqueue(self, namespace: str, names: Iterable[str]) -> None:
        for name in names:
            self._queue.add((namespace, name))


def _relevant_fields(pod: Pod) -> tuple[object, ...]:
    return pod.uid, pod.owners, pod.completed, pod.terminating
