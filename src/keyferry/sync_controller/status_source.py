"""What the status page of the controller shows: its caches, pod statuses and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.net.page_reader import PageReader
from keyferry.status_page.facts import ClassFacts, ClusterFacts, ProcessFacts
from keyferry.status_page.reading import ClassReader, Notes, read_processes, read_volumes
from keyferry.status_page.scraping import MAX_BYTES

if TYPE_CHECKING:
    from types import TracebackType

    from keyferry.aio.clock import Clock
    from keyferry.kubernetes.api.client import KubeApi
    from keyferry.kubernetes.api.syncs.cache import SyncCache
    from keyferry.status_page.scraping import Target
    from keyferry.telemetry.metrics import Metrics

_SUBJECT = "The SecretSync controller"


class ControllerSource:
    """Implements `StatusSource` in the controller; opens connections in a block.

    SecretSyncs and SecretProviderClasses come from the caches, which every replica has. Secrets are
    not read.

    Args:
        api: the Kubernetes API.
        cache: of the cluster.
        metrics: of this process.
        namespace: of this pod, and of the drivers whose metrics are read; "" reads none.
        pod: the name of this pod.
        clock: the time.
    """

    def __init__(
        self,
        api: KubeApi,
        *,
        cache: SyncCache,
        metrics: Metrics,
        namespace: str,
        pod: str,
        clock: Clock,
    ) -> None:
        self._api = api
        self._cache = cache
        self._metrics = metrics
        self._namespace = namespace
        self._pod = pod
        self._clock = clock
        self._classes = ClassReader()
        self._pages = PageReader()

    async def __aenter__(self) -> ControllerSource:
        await self._pages.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._pages.__aexit__(kind, error, traceback)

    async def read_cluster(self) -> ClusterFacts:
        """Read the objects of the cluster: one list, of the pod statuses."""
        notes = Notes(_SUBJECT)
        if problem := self._cache.problem():
            notes.found.append(f"SecretSyncs are incomplete: {problem}.")
        volumes = await read_volumes(self._api, "*", notes)
        cached = self._cache.all_classes()
        classes = await self._classes.facts(each.valid for each in cached if each.valid)
        invalid = tuple(
            ClassFacts(each.namespace, each.name, problem=each.problem)
            for each in cached
            if not each.valid
        )
        syncs = tuple(each for each in self._cache.syncs() if not each.terminating)
        facts = (volumes, syncs, classes + invalid, tuple(notes.found))
        return ClusterFacts(self._clock.wall(), *facts)

    async def read_processes(self) -> ProcessFacts:
        """Read the metrics of the processes in the namespace of this pod."""
        if not self._namespace:
            note = "The namespace of this process is unknown, so the state of vaults is, too."
            return ProcessFacts(self._clock.wall(), notes=(note,))
        notes = Notes(_SUBJECT)
        return await read_processes(self._api, self._namespace, self, notes, self._clock.wall)

    async def read(self, target: Target) -> bytes:
        """Implement `MetricsReader`: without a request for the metrics of this process."""
        if target.pod == self._pod:
            return await self._metrics.read()
        return await self._pages.read(target.address, target.port, "/metrics", max_bytes=MAX_BYTES)
