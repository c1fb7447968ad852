"""The SecretProviderClassPodStatus of one volume. [pure]

Source: docs/reference/upstream-driver.md#secretproviderclasspodstatus
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.kubernetes.names import shortened
from keyferry.kubernetes.objects import NO_MARKS, PodRef, PodStatus, RefreshMarks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keyferry.content import ObjectVersion


MAX_EXPIRIES = 500
"""Expiries in a pod status: Kubernetes limits the annotations of an object to 256 KiB."""


@dataclass(frozen=True, slots=True)
class VersionChange:
    """A changed version of an object of a volume.

    Attributes:
        id: of the object.
        before: "" when it is new, or was not known.
        after: "" if it was removed.
    """

    id: str
    before: str
    after: str

    def __str__(self) -> str:
        """Describe the change: `secret/db from version 1 to 2`."""
        match bool(self.before), bool(self.after):
            case True, True:
                return f"{self.id} from version {self.before} to {self.after}"
            case False, _:
                return f"{self.id} at version {self.after}"
            case _:
                return f"{self.id} removed"


def version_changes(
    before: Iterable[ObjectVersion], after: Iterable[ObjectVersion]
) -> tuple[VersionChange, ...]:
    """Return the changes, sorted by the id of the object."""
    old = {version.id: version.version for version in before}
    new = {version.id: version.version for version in after}
    return tuple(
        VersionChange(id_, old.get(id_, ""), new.get(id_, ""))
        for id_ in sorted(old.keys() | new.keys())
        if old.get(id_) != new.get(id_)
    )


def pod_status_name(pod: PodRef, class_name: str) -> str:
    """Return the name of the pod status of `pod` and a SecretProviderClass.

    A name that is too long for Kubernetes is shortened with a digest of the whole name. Upstream
    fails the mount in that case, so no name that works changes.
    """
    return shortened(f"{pod.name}-{pod.namespace}-{class_name}")


def pod_status(
    pod: PodRef,
    class_name: str,
    target_path: str,
    node: str,
    versions: Iterable[ObjectVersion],
    *,
    marks: RefreshMarks = NO_MARKS,
    expiries: Iterable[tuple[str, int]] = (),
) -> PodStatus:
    """Return the pod status of the volume of `pod` and `class_name` at `target_path`.

    The objects are sorted by id; of a repeated id the last version is used. Of the expiries, the
    first ones are kept.

    Args:
        pod: owns the volume.
        class_name: the SecretProviderClass.
        target_path: of the volume.
        node: of the pod.
        versions: of the objects.
        marks: the annotations that the content answers.
        expiries: ids of objects, and seconds since 1970.
    """
    by_id = {version.id: version for version in versions}
    soonest = sorted({id_: at for id_, at in expiries if id_ in by_id}.items(), key=_by_time)
    return PodStatus(
        namespace=pod.namespace,
        name=pod_status_name(pod, class_name),
        pod=pod,
        class_name=class_name,
        target_path=target_path,
        node=node,
        objects=tuple(by_id[id_] for id_ in sorted(by_id)),
        refresh_marks=marks,
        expiries=tuple(sorted(soonest[:MAX_EXPIRIES])),
    )


def _by_time(expiry: tuple[str, int]) -> tuple[int, str]:
    return expiry[1], expiry[0]
