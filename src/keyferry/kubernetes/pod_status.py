"""The SecretProviderClassPodStatus of one volume. [pure]

Source: docs/reference/upstream-driver.md#secretproviderclasspodstatus
"""

from __future__ import annotations

import zlib
from datetime import timedelta
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.kubernetes.names import shortened
from keyferry.kubernetes.objects import NO_MARKS, PodRef, PodStatus, RefreshMarks
from keyferry.records import replace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keyferry.content import ObjectVersion
    from keyferry.kubernetes.objects import RefreshCondition


REWRITE_INTERVAL = timedelta(days=1)
"""How old the time of the last refresh in a pod status becomes if nothing else changes."""
_REWRITE_SPREAD = 0.25
"""The part of `REWRITE_INTERVAL` over which the pod statuses of a cluster are spread."""
MAX_EXPIRIES = 500
"""Expiries in a pod status: Kubernetes limits the annotations of an object to 256 KiB."""


class VersionChange(Struct, frozen=True):
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


def continued_condition(
    known: RefreshCondition | None, condition: RefreshCondition
) -> RefreshCondition:
    """Return `condition` with the times that it takes over from the `known` one."""
    if known is None:
        return condition
    return replace(
        condition,
        refreshed_at=condition.refreshed_at or known.refreshed_at,
        transitioned_at=(
            known.transitioned_at if known.ok == condition.ok else condition.transitioned_at
        ),
    )


def is_recorded(known: PodStatus | None, status: PodStatus, *, with_condition: bool = True) -> bool:
    """Return whether the `known` pod status needs no write to say what `status` does.

    Args:
        known: as it is in the cluster; None if it does not exist.
        status: to write.
        with_condition: whether the condition counts.
    """
    if known is None or known != status:
        return False
    if not with_condition or status.refresh is None:
        return True
    return known.refresh is not None and is_condition_recorded(
        known.refresh, status.refresh, rewrite_interval(status.namespace, status.name)
    )


def is_condition_recorded(
    known: RefreshCondition, condition: RefreshCondition, interval: timedelta
) -> bool:
    """Return whether a condition needs no write: it is equal, and its time is not too old.

    The rest of a message may contain a time or a request id, and change with every refresh.
    """
    if _significant(known) != _significant(condition):
        return False
    if known.refreshed_at is None or condition.refreshed_at is None:
        return known.refreshed_at == condition.refreshed_at
    return condition.refreshed_at - known.refreshed_at < interval


def rewrite_interval(namespace: str, name: str) -> timedelta:
    """Return how often the time of the last refresh is written if nothing changes.

    It differs between pod statuses, so that pods that started together do not write together.
    """
    part = zlib.crc32(f"{namespace}/{name}".encode()) / 2**32
    return REWRITE_INTERVAL * (1 - _REWRITE_SPREAD * part)


def _significant(condition: RefreshCondition) -> tuple[str, str, str]:
    stage, _, _ = condition.message.partition(":")
    return condition.reason, stage, condition.note
