"""What makes the Secrets of this node be looked at: publishes, the cluster, and time.

Everything only adds keys to the queue; what is done for a key is decided by `sync` alone.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from keyferry.driver.secret_users import pod_of
from keyferry.driver.work_queue import WorkQueue, backoff

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from keyferry.clocks import Clock
    from keyferry.driver.secret_users import Key
    from keyferry.driver.statuses import StatusKeeper
    from keyferry.driver.sync import SecretProblem, SecretSync
    from keyferry.driver.volumes import Volume, Volumes
    from keyferry.store.cluster import Cluster, PodFacts
    from keyferry.store.interface import ClassObject, PodStatus

RESYNC_SECONDS = 300.0
"""How often every Secret is looked at though nothing has happened, as upstream."""


class SecretLoop:
    """Feeds the queue of Secrets; hears the cluster (`ClusterListener`).

    Args:
        sync: does the work.
        volumes: what is published here.
        cluster: tells what happens.
        statuses: hear that the API is back, and tell of a pod status that was late.
        clock: by which it waits.
        pause: seconds to wait after so many failures in a row.
    """

    def __init__(
        self,
        sync: SecretSync,
        *,
        volumes: Volumes,
        cluster: Cluster,
        statuses: StatusKeeper,
        clock: Clock,
        pause: Callable[[int], float] = backoff,
    ) -> None:
        self._sync = sync
        self._volumes = volumes
        self._cluster = cluster
        self._clock = clock
        self._queue: WorkQueue[Key] = WorkQueue(
            sync.reconcile, clock=clock, what="Secrets", pause=pause
        )
        self.on_class_change: list[Callable[[ClassObject | None, ClassObject | None], None]] = []
        """Called with what a class was and is."""
        self.on_api_back: list[Callable[[], None]] = [statuses.retry]
        """Called when the API answers again."""
        statuses.on_late = self.status_written
        cluster.subscribe(self)

    def __len__(self) -> int:
        """How many Secrets wait."""
        return len(self._queue)

    async def settle(self, cls: ClassObject, *, changed: bool) -> tuple[SecretProblem, ...]:
        """Makes the Secrets of `cls` right, now; returns what could not be made.

        Args:
            cls: the class of a volume that was published.
            changed: the volume is new or its files have changed; else Secrets that are known to
                stand as they were left are not looked at.
        """
        self.watch()
        keys = [(cls.namespace, name) for name in cls.secret_names]
        wanted = [key for key in keys if changed or not self._stands(key)]
        await asyncio.gather(*(self._queue.settle(key) for key in wanted))
        return self._sync.problems(cls)

    def needs_status(self, volume: Volume) -> bool:
        """Whether a Secret of it can be owned by nothing but its pod status, as far as is known."""
        pod = pod_of(volume, self._cluster)
        return pod is None or not pod.owners

    def left(self, volume: Volume) -> None:
        """A volume is gone, and maybe the last one that used its Secrets."""
        self._add(volume.pod.namespace, volume.secret_names)
        self.watch()

    def add_all(self) -> None:
        """Look at every Secret of this node."""
        for key in self._volumes.secret_keys() | self._sync.troubled():
            self._queue.add(key)

    def read_classes(self) -> None:
        """Learn what the classes of restored volumes name."""
        for volume in self._volumes:
            for cls in self._cluster.classes(volume.pod.namespace):
                if cls.name == volume.class_name:
                    self._volumes.named(volume.target_path, cls.secret_names)
        self.watch()

    def watch(self) -> None:
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
            self.add_all()

    # --- ClusterListener -------------------------------------------------------------------------

    def class_changed(self, before: ClassObject | None, after: ClassObject | None) -> None:
        """What it names now and did before, if a pod of this node has it or waits for its place."""
        for tell in self.on_class_change:
            tell(before, after)
        cls = after or before
        assert cls is not None
        names = set[str]()
        for each in (before, after):
            names |= each.secret_names if each else frozenset()
        used = {volume.class_name for volume in self._volumes.within(cls.namespace)}
        troubled = {name for namespace, name in self._sync.troubled() if namespace == cls.namespace}
        self._add(cls.namespace, names if cls.name in used else names & troubled)

    def pod_changed(self, before: PodFacts | None, after: PodFacts | None) -> None:
        """Its owners became known, or it has finished, or is about to."""
        pod = after or before
        assert pod is not None
        if before and after and _matters(before) == _matters(after):
            return
        for volume in self._volumes.within(pod.namespace):
            if volume.pod.name == pod.name:
                self._add(pod.namespace, volume.secret_names)

    def status_gone(self, status: PodStatus) -> None:
        """Nobody counts that pod any more."""
        for cls in self._cluster.classes(status.namespace):
            if cls.name == status.class_name:
                self._add(cls.namespace, cls.secret_names)

    def secret_changed(self, namespace: str, name: str) -> None:
        """By hand, by another node, or by this one."""
        key = (namespace, name)
        if key in self._volumes.secret_keys() and not self._stands(key):
            self._queue.add(key)

    def api_back(self) -> None:
        """What could not be done may be possible now."""
        for tell in self.on_api_back:
            tell()
        self._queue.retry_failed()

    def status_written(self, status: PodStatus) -> None:
        """A Secret can be owned by it now."""
        volume = self._volumes.get(status.target_path)
        if volume is not None and self.needs_status(volume):
            self._add(volume.pod.namespace, volume.secret_names)

    def _stands(self, key: Key) -> bool:
        """The watch tells that the Secret is as it was left."""
        version = self._sync.version(key)
        return version is not None and version == self._cluster.secret_version(*key)

    def _add(self, namespace: str, names: Iterable[str]) -> None:
        for name in names:
            self._queue.add((namespace, name))


def _matters(pod: PodFacts) -> tuple[object, ...]:
    return pod.uid, pod.owners, pod.finished, pod.leaving
