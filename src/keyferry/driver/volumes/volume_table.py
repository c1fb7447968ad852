"""The volumes that are published on this node, as far as this process knows."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from keyferry.driver.request import PublishRequest
    from keyferry.kubernetes.objects import OwnerReference, PodRef
    from keyferry.providers.api import ObjectVersion


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume that holds what its class said.

    Attributes:
        target_path: where it is.
        pod: whose it is.
        class_name: which class fills it, in the namespace of the pod.
        fetched_at: when its content was fetched, or not before; with a time zone.
        fetched_monotonic: the same by the clock of this process; None when no publish of this
            process has reached its end, or the class has changed since it began.
        provider: that filled it; "" when it is not known.
        versions: of its objects.
        owner: its pod status, by which a Secret can name it; None until the store has it.
        request: the last call of kubelet for it; None when an earlier process had it.
        secret_names: what its class named when it was last seen.
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


class VolumeTable:
    """The table of them, by target path."""

    def __init__(self) -> None:
        self._by_target: dict[str, Volume] = {}
        self._invalidated_at: dict[str, float] = {}
        self.restored = False
        """Whether those of an earlier process are among them."""

    def __iter__(self) -> Iterator[Volume]:
        """All of them, those first that were published first."""
        return iter(list(self._by_target.values()))

    def __len__(self) -> int:
        """How many there are."""
        return len(self._by_target)

    def get(self, target_path: str) -> Volume | None:
        """The volume at that path."""
        return self._by_target.get(target_path)

    def put(self, volume: Volume) -> None:
        """It stands there now, in place of what was known of it."""
        self._by_target[volume.target_path] = volume

    def drop(self, target_path: str) -> Volume | None:
        """It is gone; returns what was known of it."""
        self._invalidated_at.pop(target_path, None)
        return self._by_target.pop(target_path, None)

    def touch(self, request: PublishRequest) -> None:
        """Kubelet called for it once more; its tokens may be fresher."""
        if volume := self._by_target.get(request.target_path):
            self._by_target[request.target_path] = replace(volume, request=request)

    def mark_published(self, target_path: str, fetch_started: float) -> None:
        """A publish of it reached its end, with content as old as its beginning."""
        if (volume := self._by_target.get(target_path)) is None:
            return
        if self._invalidated_at.get(target_path, -math.inf) <= fetch_started:
            self._by_target[target_path] = replace(volume, fetched_monotonic=fetch_started)

    def invalidate(self, target_path: str, now: float) -> None:
        """Its content is due, however fresh it is, and so is that of a publish under way."""
        if volume := self._by_target.get(target_path):
            self._by_target[target_path] = replace(volume, fetched_monotonic=None)
            self._invalidated_at[target_path] = now

    def set_owner(self, target_path: str, owner: OwnerReference) -> None:
        """The store has its pod status."""
        if volume := self._by_target.get(target_path):
            self._by_target[target_path] = replace(volume, owner=owner)

    def set_secret_names(self, target_path: str, secret_names: frozenset[str]) -> None:
        """Its class names these Secrets."""
        volume = self._by_target.get(target_path)
        if volume and volume.secret_names != secret_names:
            self._by_target[target_path] = replace(volume, secret_names=secret_names)

    def in_namespace(self, namespace: str) -> list[Volume]:
        """Those of the pods of a namespace."""
        return [volume for volume in self if volume.pod.namespace == namespace]

    def oldest_content_age(self, now: datetime) -> float:
        """Seconds since the fetch that is longest ago; 0 without volumes."""
        return max(((now - volume.fetched_at).total_seconds() for volume in self), default=0.0)

    def version_counts(self) -> Counter[tuple[str, str, str, str]]:
        """How many volumes hold what, by namespace, class, object and version."""
        return Counter(
            (volume.pod.namespace, volume.class_name, version.id, version.version)
            for volume in self
            for version in volume.versions
        )

    def secret_keys(self) -> set[tuple[str, str]]:
        """Namespace and name of every Secret that a class of theirs names."""
        return {(volume.pod.namespace, name) for volume in self for name in volume.secret_names}
