"""Restores the volumes that an earlier process published.

A pod status names a volume, but anybody with write access to pod statuses could name the volume of
another pod. It counts only if a pod of this node, with the same uid, has such a volume with that
SecretProviderClass.

Source: docs/reference/upstream-driver.md#secret-sync
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from keyferry.driver.rotation.republish import rebuild_request
from keyferry.driver.volumes.state import HAS_CONTENT, VolumeState
from keyferry.driver.volumes.target_paths import parse_volume_path
from keyferry.driver.volumes.volume_table import Volume
from keyferry.errors import VolumeError
from keyferry.kubernetes.object_codec import POD_STATUS_API_VERSION, POD_STATUS_KIND
from keyferry.kubernetes.objects import OwnerReference, PodRef
from keyferry.providers.known_fields.attributes import SPC_ATTRIBUTE
from keyferry.records import replace
from keyferry.rendering.class_options import refresh_interval_of
from keyferry.telemetry.logs import ObjectName, get_logger

if TYPE_CHECKING:
    from keyferry.driver.request import PublishRequest
    from keyferry.driver.volumes.operations import VolumeOperations
    from keyferry.driver.volumes.volume_table import VolumeTable
    from keyferry.kubernetes import PodStatus
    from keyferry.kubernetes.cluster import ClusterView
    from keyferry.kubernetes.objects import CsiVolume, Pod
    from keyferry.plugins.providers import Providers

_log = get_logger("restore")


async def restore_volumes(
    volumes: VolumeTable, cluster: ClusterView, operations: VolumeOperations, *, driver_name: str
) -> list[PublishRequest]:
    """Add the mounted volumes of this node to `volumes`.

    1. Volumes with a pod status, if the pod status matches the pod and the volume has content.
    2. Mounted volumes without a pod status: the process was killed before it wrote one.

    Args:
        volumes: the table to fill.
        cluster: the pods and pod statuses of this node.
        operations: inspects mount points.
        driver_name: the name of the CSI driver.

    Returns:
        Requests that refresh the volumes without a pod status, so that they get one.
    """
    restored = 0
    for status in cluster.local_pod_statuses():
        pod = cluster.local_pod(status.namespace, status.pod.name)
        if pod is None or pod.uid != status.pod.uid or pod.completed:
            continue
        csi = csi_volume_at(status.target_path, status.class_name, pod, driver_name=driver_name)
        if csi is None:
            _log.warning(
                "pod status ignored: its pod does not have the volume that it names",
                status=ObjectName(status.namespace, status.name),
            )
            continue
        volume = await _recorded_volume(status, operations)
        if volume is not None and volumes.get(status.target_path) is None:
            interval = volume_interval(volume, csi, cluster)
            volumes.put(replace(volume, refresh_interval=interval))
            restored += 1
    requests = []
    for target in await operations.mounted_paths():
        if parse_volume_path(target) and volumes.get(target) is None:
            request = await _restore_unrecorded(
                target, volumes, cluster, operations, driver_name=driver_name
            )
            requests += [request] if request else []
    volumes.restored = True
    _log.info("restored volumes", count=restored, withoutStatus=len(requests))
    return requests


async def restore_leases(providers: Providers, operations: VolumeOperations) -> None:
    """Let the providers restore their leases, now and after each restart of theirs.

    This must finish before the first call of kubelet.

    Args:
        providers: the providers.
        operations: inspects mount points.
    """
    providers.on_restart(lambda targets: _revoke_unused(targets, providers, operations))
    await _revoke_unused(await providers.restore(), providers, operations)


async def _revoke_unused(
    targets: frozenset[str], providers: Providers, operations: VolumeOperations
) -> None:
    """Revoke the leases of removed volumes.

    A volume counts as removed when nothing is mounted at its target path, whatever the state of its
    pod: kubelet still unpublishes a mounted volume.
    """
    for target in sorted(targets):
        try:
            state = await operations.inspect(Path(target))
        except VolumeError:
            continue  # not known to be removed
        if state is VolumeState.ABSENT:
            providers.volume_removed(target, unpublished=True)


def csi_volume_at(
    target_path: str, class_name: str, pod: Pod, *, driver_name: str
) -> CsiVolume | None:
    """Return the volume of `pod` at a target path with a SecretProviderClass; None without one.

    Args:
        target_path: the mount point.
        class_name: the SecretProviderClass.
        pod: the pod.
        driver_name: the name of the CSI driver.
    """
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


def volume_interval(volume: Volume, csi: CsiVolume | None, cluster: ClusterView) -> float | None:
    """Return the refresh interval of a volume; None for that of the driver.

    Args:
        volume: the volume.
        csi: the volume in its pod; None if the pod is unknown.
        cluster: knows its SecretProviderClass.
    """
    classes = cluster.classes(volume.pod.namespace)
    spc = next((each for each in classes if each.name == volume.class_name), None)
    attributes = csi.attributes if csi else volume.request.context if volume.request else {}
    return refresh_interval_of(spc.parameters if spc else {}, attributes)


async def _restore_unrecorded(
    target: str,
    volumes: VolumeTable,
    cluster: ClusterView,
    operations: VolumeOperations,
    *,
    driver_name: str,
) -> PublishRequest | None:
    """Add the volume at `target` if it is complete and belongs to a pod; return its request."""
    path = parse_volume_path(target)
    pod = next((pod for pod in cluster.local_pods() if path and pod.uid == path.pod_uid), None)
    if path is None or pod is None or pod.completed:
        return None
    for csi in pod.volumes:
        if (csi.name, csi.driver) != (path.volume_name, driver_name):
            continue
        ref = PodRef(pod.namespace, pod.name, pod.uid)
        volume = await _volume_in_state(
            target, ref, csi.attributes.get(SPC_ATTRIBUTE, ""), operations
        )
        if volume is not None and volumes.get(target) is None:
            volumes.put(volume)
            # Only kubelet reads the Secret of nodePublishSecretRef.
            return None if csi.secret_ref else rebuild_request(volume, pod, csi)
    return None


async def _recorded_volume(status: PodStatus, operations: VolumeOperations) -> Volume | None:
    owner = OwnerReference(POD_STATUS_API_VERSION, POD_STATUS_KIND, status.name, status.uid)
    volume = await _volume_in_state(
        status.target_path, status.pod, status.class_name, operations, HAS_CONTENT
    )
    return volume and replace(
        volume, versions=status.objects, owner=owner, refresh_marks=status.refresh_marks
    )


async def _volume_in_state(
    target_path: str,
    pod: PodRef,
    class_name: str,
    operations: VolumeOperations,
    states: frozenset[VolumeState] = frozenset({VolumeState.WRITTEN}),
) -> Volume | None:
    """Return the volume at a target path; None when it is in none of `states`."""
    target = Path(target_path)
    try:
        if await operations.inspect(target) not in states:
            return None
        written = await operations.written_at(target)
    except VolumeError:
        return None
    return Volume(target_path, pod, class_name, written)
