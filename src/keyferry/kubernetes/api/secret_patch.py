"""What is to be done about one Secret in the cluster. [pure]

The content is server-side applied; owners are added and foreign keys taken out by a merge. So nodes
that write the same Secret at the same time lose no owner of each other's: an apply would drop those
that it does not name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.formats.fields import Field
from keyferry.kubernetes.object_codec import merge_owners, secret_manifest, with_owners

if TYPE_CHECKING:
    from keyferry.kubernetes.live_secret import LiveSecret
    from keyferry.kubernetes.object_codec import Manifest
    from keyferry.kubernetes.objects import DesiredSecret, OwnerReference


def applied_content(desired: DesiredSecret, *, resource_version: str | None) -> Manifest:
    """What is server-side applied: everything but the owners.

    Args:
        desired: as it is to be.
        resource_version: the resourceVersion that it must have; None when it was not there.
    """
    manifest = secret_manifest(desired, ())
    if resource_version is None:
        return manifest
    metadata = {**Field(manifest)["metadata"].mapping(), "resourceVersion": resource_version}
    return {**manifest, "metadata": metadata}


def follow_up_patch(
    desired: DesiredSecret,
    applied: LiveSecret,
    *,
    previous_owners: tuple[OwnerReference, ...] = (),
    keep_data: bool = False,
) -> Manifest | None:
    """The merge that is still missing after the apply; None when nothing is.

    Args:
        desired: as it is to be.
        applied: as it is after the apply, which leaves the keys of other managers.
        previous_owners: owners of the Secret before it was recreated, to be kept.
        keep_data: its data are right as they are, even if they are not those of `desired`.
    """
    wanted = merge_owners(previous_owners, desired.owners)
    there = {(owner.name, owner.uid) for owner in applied.owners}
    owners = [owner for owner in wanted if (owner.name, owner.uid) not in there]
    patch = with_owners(
        {}, [owner for owner in owners if owner.uid not in desired.removed_owner_uids]
    )
    references = Field(patch)["metadata"]["ownerReferences"].value or []
    removed = sorted({owner.uid for owner in applied.owners} & desired.removed_owner_uids)
    assert isinstance(references, list)
    references += [{"$patch": "delete", "uid": uid} for uid in removed]
    result: Manifest = {"metadata": {"ownerReferences": references}} if references else {}
    foreign = sorted(applied.data.keys() - desired.data.keys())
    if foreign and not keep_data:
        result["data"] = dict.fromkeys(foreign)
    return result or None
