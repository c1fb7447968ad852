"""Gathers the facts about a volume that decide what a publish has to do.

`plan` decides from them. The facts are the state of the mount point, what this process remembers,
and the pod status, by which it is known that an earlier process published the volume.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from keyferry.driver.publish.plan import Adopt, Completion, Refresh, Skip, decide
from keyferry.driver.volumes.state import HAS_CONTENT, VolumeState
from keyferry.driver.volumes.target_paths import parse_volume_path
from keyferry.driver.volumes.volume_table import pod_of
from keyferry.errors import StoreUnavailableError
from keyferry.kubernetes.cluster import PodChanged, SpcChanged
from keyferry.kubernetes.objects import NO_MARKS, ClassRef, PodRef, RefreshMarks
from keyferry.kubernetes.pod_status import pod_status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keyferry.aio.clock import Clock
    from keyferry.content import ObjectVersion
    from keyferry.driver.publish.plan import Decision
    from keyferry.driver.publish.schedule import RefreshSchedule
    from keyferry.driver.request import PublishRequest
    from keyferry.driver.volumes.operations import VolumeOperations
    from keyferry.driver.volumes.volume_table import Volume
    from keyferry.kubernetes import ObjectStore, PodStatus, SecretProviderClass
    from keyferry.kubernetes.cluster import ClusterEvent
    from keyferry.kubernetes.objects import Pod
    from keyferry.providers.expiry import Expiry


class PublishHistory:
    """The pod statuses of volumes, as evidence of earlier publishes.

    Args:
        store: where pod statuses are read.
        node: the name of this node, for new pod statuses.
        clock: the time.
    """

    def __init__(self, store: ObjectStore, *, node: str, clock: Clock) -> None:
        self._store = store
        self._node = node
        self._clock = clock
        self._asked: dict[tuple[type[ClassRef | PodRef], str, str], float] = {}
        """By annotated object: when its annotation changed, in monotonic seconds."""

    def on_cluster_event(self, event: ClusterEvent) -> None:
        """Remember when an annotation changed while this process ran."""
        match event:
            case SpcChanged(before=before, after=after):
                self._note(ClassRef, before, after)
            case PodChanged(before=before, after=after):
                self._note(PodRef, before, after)
            case _:
                pass

    def _note(
        self,
        kind: type[ClassRef | PodRef],
        before: SecretProviderClass | Pod | None,
        after: SecretProviderClass | Pod | None,
    ) -> None:
        if before is None:
            return
        key = (kind, before.namespace, before.name)
        if after is None or not after.refresh_mark:
            self._asked.pop(key, None)
        elif after.refresh_mark != before.refresh_mark:
            self._asked[key] = self._clock.monotonic()

    def status_for(
        self,
        request: PublishRequest,
        versions: Iterable[ObjectVersion] = (),
        marks: RefreshMarks = NO_MARKS,
        expiries: Iterable[Expiry] = (),
    ) -> PodStatus:
        """Return the pod status that records a publish of these object versions.

        Args:
            request: the publish.
            versions: of the objects in the volume.
            marks: the annotations that the content answers.
            expiries: when objects expire.
        """
        moments = ((each.object_id, each.expires_at) for each in expiries if each.object_id)
        return pod_status(
            request.pod,
            request.class_name,
            request.target_path,
            self._node,
            versions,
            marks=marks,
            expiries=moments,
        )

    def marks(self, request: PublishRequest, spc: SecretProviderClass) -> RefreshMarks:
        """Return the annotations that content answers which is fetched from now on."""
        pod = self._store.cluster.local_pod(request.pod.namespace, request.pod.name)
        known = pod is not None and pod.uid == request.pod.uid
        return RefreshMarks(spc.refresh_mark, pod.refresh_mark if pod and known else "")

    def asked_at(self, request: PublishRequest) -> float | None:
        """Return when content must have been validated to answer the annotations.

        None without a bound: this process has fetched nothing before the annotations changed.
        """
        namespace = request.pod.namespace
        keys = (ClassRef, namespace, request.class_name), (PodRef, namespace, request.pod.name)
        return max((self._asked[key] for key in keys if key in self._asked), default=None)

    async def find(self, request: PublishRequest) -> PodStatus | None:
        """Return the pod status that an earlier publish of this volume wrote.

        A pod status of another pod with the same name, or of another volume, does not count.

        Raises:
            StoreError: the pod status cannot be read.
        """
        expected = self.status_for(request)
        status = await self._store.find_pod_status(expected.namespace, expected.name)
        if status is None or status.pod.uid != request.pod.uid:
            return None
        return status if status.target_path == request.target_path else None

    async def completion(self, request: PublishRequest, state: VolumeState) -> Completion:
        """Find out whether an earlier process completed a publish of this volume.

        Raises:
            StoreError: the pod status cannot be read although the Kubernetes API is available.
        """
        if state not in HAS_CONTENT:
            return Completion.UNKNOWN
        try:
            if await self.find(request) is not None:
                return Completion.RECORDED
        except StoreUnavailableError:
            return Completion.RECORDED  # there may be a pod status, and the content stays usable
        path = parse_volume_path(request.target_path)
        own = path is not None and path.pod_uid == request.pod.uid
        return Completion.EVIDENT if own and state is VolumeState.WRITTEN else Completion.UNKNOWN


class PublishPlanner:
    """Decides what a publish has to do.

    Args:
        operations: inspects mount points.
        history: knows what earlier processes published.
        store: its cluster view knows the pods of this node.
        schedule: knows when a volume is due for a refresh; None when rotation is off.
    """

    def __init__(
        self,
        *,
        operations: VolumeOperations,
        history: PublishHistory,
        store: ObjectStore,
        schedule: RefreshSchedule | None,
    ) -> None:
        self._operations = operations
        self._history = history
        self._store = store
        self._schedule = schedule

    def is_up_to_date(self, volume: Volume) -> bool:
        """Return whether `decide` would return `Skip`, if that is known without waiting.

        Most calls of kubelet are for such volumes.
        """
        if volume.fetched_monotonic is None or not self._operations.is_unchanged(
            volume.target_path
        ):
            return False
        schedule = None if volume.refresh_interval == 0 else self._schedule
        return schedule is None or not schedule.is_due(volume)

    async def decide(
        self, request: PublishRequest, volume: Volume | None, *, forced: bool = False
    ) -> Decision:
        """Return what to do for `request`.

        Args:
            request: the call of kubelet, or of a refresh.
            volume: the volume in the table; None when this process does not know it.
            forced: refresh the volume whether it is due or not, and whether rotation is on or off.

        Raises:
            VolumeError: the mount point cannot be inspected.
            StoreError: the pod status cannot be read although the Kubernetes API is available.
        """
        state = await self._operations.inspect(Path(request.target_path))
        completion = Completion.REMEMBERED
        if volume is None or volume.fetched_monotonic is None:
            completion = await self._history.completion(request, state)
        schedule = None if volume and volume.refresh_interval == 0 else self._schedule
        decision = decide(
            state,
            completion=completion,
            rotation_enabled=forced or schedule is not None,
            due=forced or bool(volume and schedule and schedule.is_due(volume)),
        )
        if isinstance(decision, Refresh | Adopt) and self._is_pod_ending(volume):
            return Skip()  # the volume has content, and nobody will read newer content
        return decision

    def _is_pod_ending(self, volume: Volume | None) -> bool:
        pod = None if volume is None else pod_of(volume, self._store.cluster)
        return pod is not None and (pod.completed or pod.terminating)
