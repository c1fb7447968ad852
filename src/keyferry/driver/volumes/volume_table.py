"""The volumes that this process knows to be published on this node."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyferry.kubernetes.objects import NO_MARKS, RefreshMarks
from keyferry.records import replace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from keyferry.content import MissingObject, ObjectVersion
    from keyferry.driver.request import PublishRequest
    from keyferry.kubernetes.cluster import ClusterView
    from keyferry.kubernetes.objects import OwnerReference, Pod, PodRef
    from keyferry.resilience.freshness import RefreshSlot


@dataclass(frozen=True, slots=True)
class Volume:
    """A published volume: it has the content that its SecretProviderClass names.

    Attributes:
        target_path: its mount point.
        pod: the pod that it belongs to.
        class_name: its SecretProviderClass, in the namespace of the pod.
        fetched_at: wall time with a zone; its content is not older than this.
        fetched_monotonic: `fetched_at` by the monotonic clock of this process, in seconds. None
            when no publish of this process has completed, or when the SecretProviderClass changed
            after the publish began.
        provider: the provider that filled it; "" when unknown.
        versions: the versions of its objects.
        owner: its pod status as an owner of Secrets; None until the pod status is written.
        request: kubelet's last call for it; None when only an earlier process received one.
        secret_names: the Secrets that its SecretProviderClass named when it was last read.
        refresh_slots: when its identities are to be refreshed; empty when unknown.
        missing: the optional objects that it lacks, or whose last content it keeps.
        refresh_marks: the annotations that its content answers.
        refresh_interval: seconds between two refreshes, 0 for none; None for that of the driver.
    """

    target_path: str
    pod: PodRef
    class_name: str
    fetched_at: datetime
    fetched_monotonic: float | None = None
    provider: str = ""
    versions: tuple[ObjectVersion, ...] = ()
    owner: OwnerReference | None = None
    request: PublishRequest | None = field(default=None, repr=False)
    secret_names: frozenset[str] = frozenset()
    refresh_slots: tuple[RefreshSlot, ...] = ()
    missing: tuple[MissingObject, ...] = ()
    refresh_marks: RefreshMarks = NO_MARKS
    refresh_interval: float | None = None


class VolumeTable:
    """The published volumes of this node by target path."""

    def __init__(self) -> None:
        self._by_target: dict[str, Volume] = {}
        self._invalidated_at: dict[str, float] = {}
        self._secret_users: Counter[tuple[str, str]] = Counter()
        """The number of volumes whose SecretProviderClass names a Secret."""
        self.restored = False
        """Whether the volumes of an earlier process have been added."""
        self.revision = 0
        """Changes whenever anything but the request of a volume changes."""

    def __iter__(self) -> Iterator[Volume]:
        """All volumes, in the order of their first publish."""
        return iter(list(self._by_target.values()))

    def __len__(self) -> int:
        """The number of volumes."""
        return len(self._by_target)

    def get(self, target_path: str) -> Volume | None:
        """Return the volume at `target_path`."""
        return self._by_target.get(target_path)

    def put(self, volume: Volume) -> None:
        """Add `volume`, or replace the entry at its target path."""
        self._count_secrets(self._by_target.get(volume.target_path), -1)
        self._by_target[volume.target_path] = volume
        self._count_secrets(volume, 1)
        self.revision += 1

    def drop(self, target_path: str) -> Volume | None:
        """Remove the volume at `target_path` and return its last entry."""
        self._invalidated_at.pop(target_path, None)
        self.revision += 1
        volume = self._by_target.pop(target_path, None)
        self._count_secrets(volume, -1)
        return volume

    def _count_secrets(self, volume: Volume | None, change: int) -> None:
        if volume is None:
            return
        for name in volume.secret_names:
            key = (volume.pod.namespace, name)
            self._secret_users[key] += change
            if not self._secret_users[key]:
                del self._secret_users[key]

    @contextmanager
    def publishing(self, volume: Volume, *, fetch_started: float) -> Iterator[Volume]:
        """Enter `volume` for the block, in which its pod status and its Secrets are written.

        They are written from the table, so the entry must exist before they are.

        1. The block succeeds: the volume counts as fetched at `fetch_started`, unless it was
           invalidated since then.
        2. The block fails or is cancelled: the earlier entry is put back.
        3. The block fails and there was no earlier entry: the volume is removed.

        Args:
            volume: the new entry; it takes over the owner of the earlier one.
            fetch_started: monotonic seconds at which the fetch of its content began.

        Yields:
            The entry as it is in the table.
        """
        target = volume.target_path
        before = self._by_target.get(target)
        entry = replace(volume, owner=before.owner if before else None)
        self.put(entry)
        try:
            yield entry
        except BaseException:
            if before is None:
                self.drop(target)
            else:
                self.put(before)
            raise
        if (current := self._by_target.get(target)) is None:
            return
        if self._invalidated_at.get(target, -math.inf) <= fetch_started:
            self.put(replace(current, fetched_monotonic=fetch_started))

    @contextmanager
    def removing(self, target_path: str) -> Iterator[Volume | None]:
        """Remove the volume at `target_path` for the block; a failed block puts it back.

        Yields:
            The last entry of the volume, or None when it has none.
        """
        volume = self.drop(target_path)
        try:
            yield volume
        except BaseException:
            if volume is not None:
                self.put(volume)
            raise

    def touch(self, request: PublishRequest) -> Volume | None:
        """Record kubelet's repeated call, whose tokens may be newer, and return the volume."""
        volume = self._by_target.get(request.target_path)
        if volume is not None and volume.request != request:
            volume = replace(volume, request=request)
            self._by_target[request.target_path] = volume
        return volume

    def invalidate(self, target_path: str, now: float) -> None:
        """Make a refresh due, also when a publish is in flight.

        Args:
            target_path: the mount point of the volume.
            now: monotonic seconds; a fetch that began earlier does not make the content fresh.
        """
        if volume := self._by_target.get(target_path):
            self.put(replace(volume, fetched_monotonic=None))
            self._invalidated_at[target_path] = now

    def set_owner(self, target_path: str, owner: OwnerReference) -> None:
        """Record the pod status of a volume as the owner of its Secrets."""
        if volume := self._by_target.get(target_path):
            self.put(replace(volume, owner=owner))

    def set_secret_names(self, target_path: str, secret_names: frozenset[str]) -> None:
        """Record the Secrets that the SecretProviderClass of a volume names."""
        volume = self._by_target.get(target_path)
        if volume and volume.secret_names != secret_names:
            self.put(replace(volume, secret_names=secret_names))

    def set_refresh_interval(self, target_path: str, interval: float | None) -> None:
        """Record how often a volume is refreshed."""
        volume = self._by_target.get(target_path)
        if volume and volume.refresh_interval != interval:
            self.put(replace(volume, refresh_interval=interval))

    def set_pod_mark(self, pod: PodRef, mark: str) -> None:
        """Record that the volumes of a pod answer its annotation."""
        for volume in self:
            if volume.pod == pod and not volume.refresh_marks.of_pod:
                marks = replace(volume.refresh_marks, of_pod=mark)
                self.put(replace(volume, refresh_marks=marks))

    def in_namespace(self, namespace: str) -> list[Volume]:
        """Return the volumes of pods in `namespace`."""
        return [volume for volume in self if volume.pod.namespace == namespace]

    def oldest_content_age(self, now: datetime) -> float:
        """Return the age of the oldest content in seconds; 0 without volumes."""
        return max(((now - volume.fetched_at).total_seconds() for volume in self), default=0.0)

    def version_counts(self) -> Counter[tuple[str, str, str, str]]:
        """Count volumes by (namespace, SecretProviderClass, object id, object version)."""
        return Counter(
            (volume.pod.namespace, volume.class_name, version.id, version.version)
            for volume in self
            for version in volume.versions
        )

    def secret_keys(self) -> set[tuple[str, str]]:
        """Return (namespace, name) of every Secret that a volume's SecretProviderClass names."""
        return set(self._secret_users)


def pod_of(volume: Volume, cluster: ClusterView) -> Pod | None:
    """Return the pod of `volume`; None while it is unknown, or when its name has another uid."""
    pod = cluster.local_pod(volume.pod.namespace, volume.pod.name)
    return pod if pod is not None and pod.uid == volume.pod.uid else None
