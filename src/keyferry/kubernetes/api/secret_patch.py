"""The two patches that make a Secret of the cluster as desired. [pure]

The content is server-side applied; a merge patch then adds owners and removes foreign keys. An
apply of owners would drop those that other nodes add at the same time.
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
    """Return the manifest for server-side apply: everything but the owners.

    Args:
        desired: the Secret to write.
        resource_version: that the existing Secret must have; None to create it.
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
    """Return the merge patch that must follow the apply; None if none is needed.

    Args:
        desired: as it is to be.
        applied: as it is after the apply, which leaves the keys of other managers.
        previous_owners: owners of the Secret before it was recreated, to be kept.
        keep_data: its data are right as they are, even if they are not those of `desired`.
    """
    all_owners = merge_owners(previous_owners, desired.owners)
    present = {(owner.name, owner.uid) for owner in applied.owners}
    owners = [owner for owner in all_owners if (owner.name, owner.uid) not in present]
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
