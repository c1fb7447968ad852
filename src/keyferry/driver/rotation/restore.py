"""Finds, after a restart, the volumes that an earlier process published.

A pod status says where a volume is; but whoever may write one could name the volume of another pod.
So it is believed only where the pod of this node, by its uid, has such a volume with that class.

Source: docs/reference/upstream-driver.md#secret-sync
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from keyferry.aio.threads import run_in_thread_uncancelled
from keyferry.driver.request import SPC_ATTRIBUTE
from keyferry.driver.rotation.republish import rebuild_request
from keyferry.driver.volumes.atomic_writer import written_at
from keyferry.driver.volumes.state import HAS_CONTENT, VolumeState
from keyferry.driver.volumes.target_paths import parse_volume_path
from keyferry.driver.volumes.volume_table import Volume
from keyferry.errors import VolumeError
from keyferry.formats.mountinfo import mount_points
from keyferry.kubernetes.object_codec import POD_STATUS_API_VERSION, POD_STATUS_KIND
from keyferry.kubernetes.objects import OwnerReference, PodRef
from keyferry.telemetry.logs import ObjectName, get_logger

if TYPE_CHECKING:
    from keyferry.driver.providers import Providers
    from keyferry.driver.request import PublishRequest
    from keyferry.driver.volumes.mounter import Mounter
    from keyferry.driver.volumes.volume_table import VolumeTable
    from keyferry.kubernetes import PodStatus
    from keyferry.kubernetes.cluster import ClusterView
    from keyferry.kubernetes.objects import CsiVolume, Pod

_log = get_logger("restore")


async def restore_volumes(
    volumes: VolumeTable, cluster: ClusterView, mounter: Mounter, *, driver_name: str
) -> list[PublishRequest]:
    """Puts into `volumes` what the pod statuses of this node tell and is really there.

    Then what stands without one: its process was killed before it was written.

    Returns:
        The calls by which those without a status are refreshed, and get one.
    """
    found = 0
    for status in cluster.local_pod_statuses():
        pod = cluster.local_pod(status.namespace, status.pod.name)
        if pod is None or pod.uid != status.pod.uid or pod.completed:
            continue
        if (
            csi_volume_at(status.target_path, status.class_name, pod, driver_name=driver_name)
            is None
        ):
            _log.warning(
                "a pod status names a volume that its pod does not have; it is not believed",
                status=ObjectName(status.namespace, status.name),
            )
            continue
        volume = await _recorded_volume(status, mounter)
        if volume is not None and volumes.get(status.target_path) is None:
            volumes.put(volume)
            found += 1
    calls = []
    for target in await run_in_thread_uncancelled(_mounted_paths, mounter.source):
        if volumes.get(target) is None:
            request = await _restore_unrecorded(
                target, volumes, cluster, mounter, driver_name=driver_name
            )
            calls += [request] if request else []
    volumes.restored = True
    _log.info("volumes of an earlier process", count=found, withoutStatus=len(calls))
    return calls


async def restore_leases(providers: Providers, mounter: Mounter) -> None:
    """Lets the providers go on with what they held; what was for volumes that went is given back.

    A volume counts as gone when nothing is mounted there, whatever the cluster says of its pod: of
    one that still stands kubelet asks us to take it away. No call of kubelet may come before.
    """
    for target in sorted(providers.restore()):
        try:
            stands = (
                await run_in_thread_uncancelled(mounter.inspect, Path(target))
                is not VolumeState.ABSENT
            )
        except VolumeError:
            continue  # not known to be gone
        if not stands:
            providers.volume_removed(target)


def csi_volume_at(
    target_path: str, class_name: str, pod: Pod, *, driver_name: str
) -> CsiVolume | None:
    """The volume of `pod` at that path with that class; None when it has none such."""
    path = parse_volume_path(target_path)
    if path is None or path.pod_uid != pod.uid:
        return None
    return next(
        (
            volume
            for volume in pod.volumes
            if volume.name == path.volume_name
            and volume.driver == driver_name
            and volume.attributes.get(SPC_ATTRIBUTE) == class_name
        ),
        None,
    )


def _mounted_paths(source: str) -> list[str]:
    """The paths of our mounts for pods; a volume that is a mere folder is not among them."""
    if not source:
        return []
    return [at.path for at in mount_points() if at.source == source and parse_volume_path(at.path)]


async def _restore_unrecorded(
    target: str, volumes: VolumeTable, cluster: ClusterView, mounter: Mounter, *, driver_name: str
) -> PublishRequest | None:
    """Puts the volume there into `volumes`, if it is whole and a pod of this node has it."""
    path = parse_volume_path(target)
    pod = next((pod for pod in cluster.local_pods() if path and pod.uid == path.pod_uid), None)
    if path is None or pod is None or pod.completed:
        return None
    for csi in pod.volumes:
        if (csi.name, csi.driver) != (path.volume_name, driver_name):
            continue
        ref = PodRef(pod.namespace, pod.name, pod.uid)
        volume = await _volume_in_state(target, ref, csi.attributes.get(SPC_ATTRIBUTE, ""), mounter)
        if volume is not None and volumes.get(target) is None:
            volumes.put(volume)
            # What kubelet hands over from a Secret is missing in a call of ours.
            return None if csi.secret_ref else rebuild_request(volume, pod, csi)
    return None


async def _recorded_volume(status: PodStatus, mounter: Mounter) -> Volume | None:
    owner = OwnerReference(POD_STATUS_API_VERSION, POD_STATUS_KIND, status.name, status.uid)
    found = await _volume_in_state(
        status.target_path, status.pod, status.class_name, mounter, HAS_CONTENT
    )
    return found and replace(found, versions=status.objects, owner=owner)


async def _volume_in_state(
    target_path: str,
    pod: PodRef,
    class_name: str,
    mounter: Mounter,
    states: frozenset[VolumeState] = frozenset({VolumeState.WRITTEN}),
) -> Volume | None:
    """The volume at that path; None when it is in none of these states."""
    target = Path(target_path)
    try:
        if await run_in_thread_uncancelled(mounter.inspect, target) not in states:
            return None
        written = await run_in_thread_uncancelled(written_at, target)
    except VolumeError:
        return None
    return Volume(target_path, pod, class_name, written)
