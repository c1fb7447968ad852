"""Refreshes volumes on demand: when somebody changes the annotation `keyferry.dev/refresh`.

The annotation of a SecretProviderClass concerns all its pods on all nodes, that of a pod only this
pod. The nodes spread their requests, so that no vault is flooded; the volumes of a node share what
they fetch. A pod status records what it answers, so that a restart of the driver neither repeats
nor forgets a request.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from keyferry.driver.status.events import refresh_requested
from keyferry.errors import StoreError
from keyferry.kubernetes.cluster import PodChanged, SpcChanged
from keyferry.kubernetes.objects import NO_MARKS, ClassRef, PodRef, RefreshMarks
from keyferry.resilience.freshness import phase_of
from keyferry.telemetry.logs import ObjectName, get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keyferry.aio.clock import Clock
    from keyferry.driver.rotation.rotator import Rotator
    from keyferry.driver.volumes.volume_table import Volume, VolumeTable
    from keyferry.kubernetes import ObjectStore, SecretProviderClass
    from keyferry.kubernetes.cluster import ClusterEvent
    from keyferry.kubernetes.objects import Pod

CHECK_SECONDS = 0.5
"""Seconds between two checks while requests are not answered."""
DELAY_SECONDS = 1.0
"""Longer than the age that a shared list of a vault may have, so that no list is too old."""
PODS_PER_SECOND = 100.0
MAX_SPREAD_SECONDS = 30.0
RETRY_SECONDS = 60.0
"""How often a refresh is repeated that has failed."""

_log = get_logger("rotation")


class RefreshRequests:
    """Turns annotations into refreshes.

    Args:
        rotator: refreshes volumes.
        volumes: the published volumes of this node.
        store: its cluster view knows SecretProviderClasses and pods; records events.
        node: the name of this node; each node has its own delay.
        clock: the time.
    """

    def __init__(
        self,
        rotator: Rotator,
        *,
        volumes: VolumeTable,
        store: ObjectStore,
        node: str,
        clock: Clock,
    ) -> None:
        self._rotator = rotator
        self._volumes = volumes
        self._store = store
        self._node = node
        self._clock = clock
        self._asked: dict[str, tuple[RefreshMarks, float]] = {}
        """By target path: the marks that were asked for, and when to ask again."""
        self._new: list[ClassRef | PodRef] = []
        """The objects whose annotation changed."""
        self._restored = False
        """Whether the volumes of an earlier process may have to be asked for."""
        self._wanted = asyncio.Event()
        """Set when there may be something to ask for."""

    def on_cluster_event(self, event: ClusterEvent) -> None:
        """Note a changed annotation."""
        match event:
            case SpcChanged(before=before, after=after) if after and after.refresh_mark:
                if before is None or before.refresh_mark != after.refresh_mark:
                    about = ClassRef(after.namespace, after.name, after.uid)
                    self._note(about)
            case PodChanged(before=before, after=after) if after and after.refresh_mark:
                ref = PodRef(after.namespace, after.name, after.uid)
                if before is None:
                    # It was annotated before its volumes were mounted.
                    self._volumes.set_pod_mark(ref, after.refresh_mark)
                elif before.refresh_mark != after.refresh_mark:
                    self._note(ref)
            case _:
                pass

    def check_restored(self) -> None:
        """Look for requests that were made while the driver did not run."""
        self._restored = True
        self._wanted.set()

    def _note(self, about: ClassRef | PodRef) -> None:
        self._new.append(about)
        self._wanted.set()

    async def run(self) -> None:
        """Ask for refreshes until cancelled."""
        while True:
            if not self._asked:
                await self._wanted.wait()
            self._wanted.clear()
            await self._clock.sleep(CHECK_SECONDS)
            try:
                await self._check()
            except Exception as error:  # noqa: BLE001 - later checks must still run
                _log.error("internal error", type=type(error).__name__)

    async def _check(self) -> None:
        new, self._new, self._restored = self._new, [], False
        waiting = list(self._unanswered())
        self._asked = {
            volume.target_path: self._asked[volume.target_path]
            for volume, _ in waiting
            if volume.target_path in self._asked
        }
        spread: dict[str, float] = {}
        for volume, marks in waiting:
            now = self._clock.monotonic()
            asked, until = self._asked.get(volume.target_path, (NO_MARKS, 0.0))
            if asked == marks and now < until:
                continue
            delay = DELAY_SECONDS
            if marks.of_class not in ("", volume.refresh_marks.of_class):
                namespace = volume.pod.namespace
                if namespace not in spread:
                    spread[namespace] = await self._spread(namespace)
                delay += spread[namespace] * phase_of(self._node, volume.class_name)
            self._asked[volume.target_path] = (marks, now + delay + RETRY_SECONDS)
            self._rotator.refresh_later(volume.target_path, at=now + delay, not_before=now)
        for about in new:
            pods = len({volume.pod for volume, _ in waiting if _concerns(about, volume)})
            if pods:
                name = ObjectName(about.namespace, about.name)
                _log.info("refresh requested", about=name, pods=pods)
                await self._store.record_event(refresh_requested(about))

    def _unanswered(self) -> Iterable[tuple[Volume, RefreshMarks]]:
        """Yield the volumes whose content does not answer the annotations, with these."""
        classes: dict[str, dict[str, SecretProviderClass]] = {}
        for volume in self._volumes:
            namespace = volume.pod.namespace
            if namespace not in classes:
                found = self._store.cluster.classes(namespace)
                classes[namespace] = {spc.name: spc for spc in found if spc.refresh_mark}
            pod = self._pod(volume)
            spc = classes[namespace].get(volume.class_name)
            marks = RefreshMarks(spc.refresh_mark if spc else "", pod.refresh_mark if pod else "")
            answered = volume.refresh_marks
            if marks.of_class not in ("", answered.of_class) or (
                marks.of_pod not in ("", answered.of_pod)
            ):
                yield volume, marks

    def _pod(self, volume: Volume) -> Pod | None:
        pod = self._store.cluster.local_pod(volume.pod.namespace, volume.pod.name)
        return pod if pod is not None and pod.uid == volume.pod.uid else None

    async def _spread(self, namespace: str) -> float:
        """Return over how many seconds all nodes distribute the refreshes of a namespace."""
        try:
            pods = await self._store.cluster.count_pod_statuses(namespace)
        except StoreError:
            return MAX_SPREAD_SECONDS
        return min(MAX_SPREAD_SECONDS, pods / PODS_PER_SECOND)


def _concerns(about: ClassRef | PodRef, volume: Volume) -> bool:
    if volume.pod.namespace != about.namespace:
        return False
    return volume.class_name == about.name if isinstance(about, ClassRef) else volume.pod == about
