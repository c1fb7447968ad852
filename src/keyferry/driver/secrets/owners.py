"""Chooses the owners of a Secret: Kubernetes deletes it with the last one. [pure]

Source: docs/reference/upstream-driver.md#owner-references
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keyferry.kubernetes.objects import OwnerReference, Pod


def owners_of(
    consumers: Iterable[tuple[Pod | None, OwnerReference | None]],
) -> tuple[tuple[OwnerReference, ...], frozenset[str]]:
    """Choose the owners of a Secret from the volumes that use it.

    1. The owners of the pod, if it has any: they outlive the pod.
    2. Otherwise the pod status of the volume.

    Args:
        consumers: for each volume its pod (None while unknown) and its pod status (None until
            written).

    Returns:
        The owners, and the uids of pod statuses that owned the Secret before the owners of their
        pods were known.
    """
    owners: dict[str, OwnerReference] = {}
    replaced = set()
    for pod, status in consumers:
        if pod is not None and pod.owners:
            owners |= {owner.uid: owner for owner in pod.owners}
            replaced |= {status.uid} if status else set()
        elif status is not None:
            owners[status.uid] = status
    return tuple(owners.values()), frozenset(replaced - owners.keys())
