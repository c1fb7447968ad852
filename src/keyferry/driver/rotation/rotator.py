"""Refreshes due volumes without waiting for kubelet.

With `requiresRepublish`, kubelet's repeated publishes refresh volumes, too. Both follow
`publish.schedule`, so the first of the two refreshes the volume and the other skips it.

Source: docs/reference/upstream-driver.md#rotation
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from keyferry.driver.publish.publisher import Demand
from keyferry.driver.rotation.republish import has_expired_token, rebuild_request
from keyferry.driver.rotation.restore import csi_volume_at, volume_interval
from keyferry.driver.volumes.volume_table import pod_of
from keyferry.errors import KeyferryError, StoreError
from keyferry.kubernetes.cluster import SpcChanged
from keyferry.records import replace
from keyferry.rendering.class_options import ROTATION_POLL_INTERVAL
from keyferry.telemetry.logs import ObjectName, get_logger, log_context

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.aio.clock import Clock
    from keyferry.driver.publish.publisher import Publisher
    from keyferry.driver.publish.schedule import RefreshSchedule
    from keyferry.driver.request import PublishRequest
    from keyferry.driver.volumes.volume_table import Volume, VolumeTable
    from keyferry.kubernetes.cluster import ClusterEvent, ClusterView
    from keyferry.kubernetes.objects import CsiVolume

CHECK_SECONDS = 1.0
"""Seconds between two checks for due volumes."""
MAX_CONCURRENT_REFRESHES = 16
"""The maximum number of concurrent refreshes."""

_log = get_logger("rotation")


class Rotator:
    """Refreshes volumes that are due.

    Args:
        publisher: refreshes a volume.
        volumes: the published volumes of this node.
        cluster: knows the pods and reads the Secrets of `nodePublishSecretRef`.
        schedule: knows when a volume is due; None when rotation is off, so that only requests
            refresh volumes.
        driver_name: the name of the CSI driver.
        clock: the time.
    """

    def __init__(
        self,
        publisher: Publisher,
        *,
        volumes: VolumeTable,
        cluster: ClusterView,
        schedule: RefreshSchedule | None,
        driver_name: str,
        clock: Clock,
    ) -> None:
        self._publisher = publisher
        self._volumes = volumes
        self._cluster = cluster
        self._schedule = schedule
        self._driver_name = driver_name
        self._clock = clock
        self._last_attempts: dict[str, float] = {}
        """By target path: monotonic seconds of the last attempt, or of the first check."""
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_REFRESHES)
        self._requested: dict[str, Demand] = {}
        self._delayed: dict[str, tuple[float, Demand]] = {}
        """By target path: when to refresh the volume, in monotonic seconds."""
        self._warned: set[str] = set()
        """Target paths with a logged warning that the refresh waits for kubelet."""
        self._next_due = -math.inf
        """When the next volume is due, in monotonic seconds, while the table does not change."""
        self._checked_revision = -1
        """The revision of the table that `_next_due` is for."""

    async def run(self) -> None:
        """Refresh due volumes until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                for volume, demand in self._due():
                    tasks.create_task(self._refresh(volume, demand))
                await self._clock.sleep(CHECK_SECONDS)

    def on_cluster_event(self, event: ClusterEvent) -> None:
        """Refresh volumes at once when their SecretProviderClass names other content."""
        if self._schedule is None or not isinstance(event, SpcChanged):
            return
        before, after = event.before, event.after
        if before is None or after is None:
            return
        if (before.provider, before.parameters) == (after.provider, after.parameters):
            return
        changed = before.provider != after.provider or (
            _without_interval(before.parameters) != _without_interval(after.parameters)
        )
        for volume in self._volumes.in_namespace(after.namespace):
            if volume.class_name == after.name:
                interval = volume_interval(volume, self._csi_volume(volume), self._cluster)
                self._volumes.set_refresh_interval(volume.target_path, interval)
                if changed and interval != 0:
                    self.refresh_now(volume.target_path)

    def refresh_now(self, target_path: str) -> None:
        """Make a volume due at once, whatever the age of its content."""
        self._volumes.invalidate(target_path, self._clock.monotonic())
        self._requested[target_path] = Demand()

    def refresh_later(self, target_path: str, *, at: float, not_before: float) -> None:
        """Refresh a volume at a time, whether it is due or not.

        Args:
            target_path: of the volume.
            at: monotonic seconds.
            not_before: content that was validated earlier is too old.
        """
        self._delayed[target_path] = (at, Demand(not_before))

    def _due(self) -> list[tuple[Volume, Demand | None]]:
        """Return the volumes to refresh now, and remember them as attempted."""
        now = self._clock.monotonic()
        for target, (at, demand) in list(self._delayed.items()):
            if at <= now:
                del self._delayed[target]
                self._requested[target] = demand
        if (
            now < self._next_due
            and not self._requested
            and self._checked_revision == self._volumes.revision
        ):
            return []
        attempts: dict[str, float] = {}
        due: list[tuple[Volume, Demand | None]] = []
        next_due = math.inf
        for volume in self._volumes:
            target = volume.target_path
            # Restored volumes are refreshed over an interval, not all at once.
            default = now if volume.fetched_monotonic is None else 0.0
            attempts[target] = self._last_attempts.get(target, default)
            schedule, wanted = self._schedule, self._requested.get(target)
            if wanted is not None or (
                schedule and schedule.is_due(volume, last_attempt=attempts[target])
            ):
                due.append((volume, wanted))
                attempts[target] = now
            if schedule:
                next_due = min(next_due, schedule.next_due(volume, last_attempt=attempts[target]))
        self._next_due, self._checked_revision = next_due, self._volumes.revision
        self._last_attempts = attempts
        self._requested.clear()
        self._warned &= attempts.keys()
        return due

    def _csi_volume(self, volume: Volume) -> CsiVolume | None:
        pod = pod_of(volume, self._cluster)
        if pod is None:
            return None
        return csi_volume_at(
            volume.target_path, volume.class_name, pod, driver_name=self._driver_name
        )

    async def _refresh(self, volume: Volume, demand: Demand | None) -> None:
        with log_context(**_log_fields(volume)):
            async with self._slots:
                await self._try_refresh(volume, demand)

    async def _try_refresh(self, volume: Volume, demand: Demand | None) -> None:
        try:
            request = await self._build_request(volume)
            if request is not None:
                rebuilt = volume.request is None
                await self._publisher.refresh(request, rebuilt=rebuilt, demand=demand)
        except KeyferryError as error:
            _log.error("failed to refresh a due volume", **error.log_pairs())
        except Exception as error:  # noqa: BLE001 - other volumes must still be refreshed
            _log.error("internal error", type=type(error).__name__)

    async def _build_request(self, volume: Volume) -> PublishRequest | None:
        """Build kubelet's request for `volume`; None when there is nothing to refresh now.

        1. The pod is completed or terminating: no refresh.
        2. Kubelet has called for the volume: its last request, unless a token in it has expired.
        3. Only an earlier process received a request: one without tokens, if the pod is known.
        """
        pod = pod_of(volume, self._cluster)
        if pod is not None and (pod.completed or pod.terminating):
            return None
        csi = self._csi_volume(volume)
        request = volume.request
        if request is None:
            if pod is None or csi is None:
                return None
            request = rebuild_request(volume, pod, csi)
        if has_expired_token(request, self._clock.wall()):
            if volume.target_path not in self._warned:
                self._warned.add(volume.target_path)
                _log.warning(
                    "refresh postponed until kubelet sends new tokens: those of its last call have"
                    " expired; check requiresRepublish of the CSIDriver"
                )
            return None
        self._warned.discard(volume.target_path)
        if csi is not None and csi.secret_ref:
            request = await self._with_publish_secret(request, csi.secret_ref)
        return request

    async def _with_publish_secret(self, request: PublishRequest, name: str) -> PublishRequest:
        """Return `request` with the current data of its `nodePublishSecretRef`, if readable."""
        try:
            texts = await self._cluster.get_node_publish_secret(request.pod.namespace, name)
        except StoreError as error:
            _log.debug(
                "nodePublishSecretRef cannot be read, using the data of kubelet's last call",
                secret=ObjectName(request.pod.namespace, name),
                error=str(error),
            )
            return request
        return replace(request, secrets={**request.secrets, **texts})


def _without_interval(parameters: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in parameters.items() if name != ROTATION_POLL_INTERVAL}


def _log_fields(volume: Volume) -> dict[str, object]:
    return {
        "pod": ObjectName(volume.pod.namespace, volume.pod.name),
        "spc": ObjectName(volume.pod.namespace, volume.class_name),
        "targetPath": volume.target_path,
    }
