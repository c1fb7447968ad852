"""What is to be done about one Secret in the cluster. [pure]

The content is server-side applied; owners are added and foreign keys taken out by a merge. So nodes
that write the same Secret at the same time lose no owner of each other's: an apply would drop those
that it does not name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.store.fields import Field
from keyferry.store.manifest_codec import merged_owners, secret_manifest, with_owners

if TYPE_CHECKING:
    from keyferry.store.interface import OwnerReference, SecretManifest
    from keyferry.store.manifest_codec import Manifest
    from keyferry.store.present_secret import PresentSecret


def applied_content(secret: SecretManifest, *, version: str | None) -> Manifest:
    """What is server-side applied: everything but the owners.

    Args:
        secret: as it is to be.
        version: the resourceVersion that it must have; None when it was not there.
    """
    manifest = secret_manifest(secret, ())
    if version is None:
        return manifest
    metadata = {**Field(manifest)["metadata"].mapping(), "resourceVersion": version}
    return {**manifest, "metadata": metadata}


def correction(
    secret: SecretManifest,
    applied: PresentSecret,
    *,
    earlier: tuple[OwnerReference, ...] = (),
    keep: bool = False,
) -> Manifest | None:
    """The merge that is still missing after the apply; None when nothing is.

    Args:
        secret: as it is to be.
        applied: as it is after the apply, which leaves the keys of other managers.
        earlier: owners that it had before it was made anew, and keeps.
        keep: its data are right as they are, even if they are not those of `secret`.
    """
    wanted = merged_owners(earlier, secret.owners)
    there = {(owner.name, owner.uid) for owner in applied.owners}
    owners = [owner for owner in wanted if (owner.name, owner.uid) not in there]
    patch = with_owners({}, [owner for owner in owners if owner.uid not in secret.disowned])
    references = Field(patch)["metadata"]["ownerReferences"].value or []
    gone = sorted({owner.uid for owner in applied.owners} & secret.disowned)
    assert isinstance(references, list)
    references += [{"$patch": "delete", "uid": uid} for uid in gone]
    result: Manifest = {"metadata": {"ownerReferences": references}} if references else {}
    foreign = sorted(applied.data.keys() - secret.data.keys())
    if foreign and not keep:
        result["data"] = dict.fromkeys(foreign)
    return result or None
