"""Who owns a Secret, so that Kubernetes deletes it with the last of them. [pure]

Source: driver.md, section 4.7: the owners of the pods that use it, or, for a bare pod, its pod
status. So two Deployments with any number of pods are two owners.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keyferry.kubernetes.cluster import Pod
    from keyferry.kubernetes.objects import OwnerReference


def owners_of(
    consumers: Iterable[tuple[Pod | None, OwnerReference | None]],
) -> tuple[tuple[OwnerReference, ...], frozenset[str]]:
    """The owners, each once, and the uids of those that stood in for them before.

    Args:
        consumers: of each volume its pod, None while it is not known, and its pod status, None
            while the store does not have it.
    """
    owners: dict[str, OwnerReference] = {}
    stand_ins = set()
    for pod, status in consumers:
        if pod is not None and pod.owners:
            owners |= {owner.uid: owner for owner in pod.owners}
            stand_ins |= {status.uid} if status else set()
        elif status is not None:
            owners[status.uid] = status
    return tuple(owners.values()), frozenset(stand_ins - owners.keys())
