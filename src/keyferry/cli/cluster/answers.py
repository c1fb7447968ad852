"""Which volumes and SecretSyncs have answered a request of `keyferry refresh`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.cli.cluster.reader import ClusterReader
from keyferry.cli.cluster.targets import Target, TargetKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keyferry.cli.cluster.connection import Cluster
    from keyferry.kubernetes.object_codec import Manifest
    from keyferry.kubernetes.syncs.objects import SecretSync


class Answer(Struct, frozen=True):
    """One volume or one SecretSync.

    Attributes:
        target: the pod of the volume, or the SecretSync.
        is_refreshed: whether it was refreshed after the request.
        problem: why its last refresh failed; "" after success.
    """

    target: Target
    is_refreshed: bool
    problem: str


class Answers:
    """Reads the answers to one request.

    Args:
        cluster: has the objects.
        target: what was annotated.
        mark: the value of the annotation.
    """

    def __init__(self, cluster: Cluster, target: Target, mark: str) -> None:
        self._reader = ClusterReader(cluster, missing="are not waited for")
        self._target = target
        self._mark = mark

    async def read(self) -> list[Answer]:
        """Return the answers of all volumes and SecretSyncs that the request is for.

        Raises:
            StoreError: the statuses cannot be read.
        """
        if self._target.kind is TargetKind.POD:
            return await self._volumes(None)
        if self._target.kind is TargetKind.SYNC:
            syncs = await self._reader.syncs(required=True) or []
            return [self._answer(sync) for sync in self._annotated(syncs)]
        known = await self._reader.syncs()
        used = [sync for sync in known or () if sync.class_name == self._target.name]
        return [*await self._volumes(known), *map(self._answer, used)]

    async def _volumes(self, syncs: list[SecretSync] | None) -> list[Answer]:
        from keyferry.formats.fields import FieldTypeError
        from keyferry.inventory.objects import refresh_problem
        from keyferry.kubernetes.object_codec import parse_pod_status

        found, name = [], self._target.name
        of_pod = self._target.kind is TargetKind.POD
        completed = frozenset(_completed(await self._reader.pods(report=False)))
        for manifest in await self._reader.pod_statuses(syncs):
            try:
                status, problem = parse_pod_status(manifest), refresh_problem(manifest)
            except FieldTypeError:
                continue
            if name != (status.pod.name if of_pod else status.class_name):
                continue
            if status.pod.name in completed:
                continue  # its volume is not refreshed any more
            marks = status.refresh_marks
            answered = self._mark == (marks.of_pod if of_pod else marks.of_class)
            found.append(Answer(Target(TargetKind.POD, status.pod.name), answered, problem))
        return found

    def _annotated(self, syncs: list[SecretSync]) -> list[SecretSync]:
        """Return the SecretSync; of those with one name, the one with the annotation."""
        named = [sync for sync in syncs if sync.ref.name == self._target.name]
        marked = [sync for sync in named if sync.options.refresh_mark == self._mark]
        return marked or named

    def _answer(self, sync: SecretSync) -> Answer:
        """Return whether a SecretSync answers; its status has the marks `SYNC/CLASS`."""
        from keyferry.inventory.syncs import is_ready, sync_problem

        observed, status = sync.status.observed_refresh, sync.status
        if self._target.kind is TargetKind.SYNC:
            answered = observed.startswith(f"{self._mark}/")
        else:
            answered = observed.endswith(f"/{self._mark}")
        problem = sync_problem(sync)
        if not problem and status.sync_hash and not status.observed_generation:
            problem = _NO_ANSWERS
        return Answer(Target(TargetKind.SYNC, sync.ref.name), answered and is_ready(sync), problem)


_NO_ANSWERS = (
    "its status has no observedRefresh. Check that Keyferry's controller handles it, and install"
    " the CRD of Keyferry's chart"
)


def _completed(pods: tuple[Manifest, ...]) -> Iterator[str]:
    """Yield the names of pods that have ended."""
    from keyferry.kubernetes.object_codec import parse_pod

    for manifest in pods:
        pod = parse_pod(manifest)
        if pod is not None and pod.completed:
            yield pod.name
