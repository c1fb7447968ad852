"""The requests that make a Secret of the cluster as desired. [pure]

The content is server-side applied, together with all owners: an apply without the owners that it
applied before would remove them. A patch of an unchanged Secret only adds and removes owners.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.formats.fields import Field
from keyferry.kubernetes.live_secret import UNUSED_SINCE_ANNOTATION
from keyferry.kubernetes.object_codec import merge_owners, secret_manifest, with_owners

if TYPE_CHECKING:
    from keyferry.formats.kubernetes_yaml import Value
    from keyferry.kubernetes.live_secret import LiveSecret
    from keyferry.kubernetes.object_codec import Manifest
    from keyferry.kubernetes.objects import DesiredSecret, OwnerReference

CLASS_KIND = "SecretProviderClass"


def planned_owners(desired: DesiredSecret, live: LiveSecret | None) -> tuple[OwnerReference, ...]:
    """Return the owners of the Secret after the write.

    1. The existing owners, and those of the pods that use it.
    2. Without `removed_owner_uids`.
    3. Without its SecretProviderClass, which owned it while no pod used it.
    """
    existing = live.owners if live else ()
    if desired.adopted:
        return existing
    return tuple(
        owner
        for owner in merge_owners(existing, desired.owners)
        if owner.uid not in desired.removed_owner_uids
        and not (desired.owners and owner.kind == CLASS_KIND)
    )


def applied_content(desired: DesiredSecret, live: LiveSecret | None) -> Manifest:
    """Return the manifest for server-side apply.

    Args:
        desired: the Secret to write.
        live: the existing Secret, which must not change meanwhile; None to create it.
    """
    # The owners of an adopted Secret belong to its creator.
    owners = () if desired.adopted else planned_owners(desired, live)
    manifest = secret_manifest(desired, owners)
    if live is None:
        return manifest
    return _with_resource_version(manifest, live)


def recreated_content(desired: DesiredSecret, previous: LiveSecret) -> Manifest:
    """Return the manifest for server-side apply after `previous` was deleted; it keeps owners."""
    return secret_manifest(desired, planned_owners(desired, previous))


def follow_up_patch(
    desired: DesiredSecret, applied: LiveSecret, *, keep_data: bool = False
) -> Manifest | None:
    """Return the merge patch for what an apply cannot change; None if none is needed.

    Args:
        desired: as it is to be.
        applied: as it is after the apply, which leaves the keys of other managers.
        keep_data: its data are right as they are, even if they are not those of `desired`.
    """
    owners = planned_owners(desired, applied)
    present = {(owner.name, owner.uid) for owner in applied.owners}
    patch = with_owners({}, [o for o in owners if (o.name, o.uid) not in present])
    references = Field(patch)["metadata"]["ownerReferences"].value or []
    assert isinstance(references, list)
    removed = {owner.uid for owner in applied.owners} - {owner.uid for owner in owners}
    references += [{"$patch": "delete", "uid": uid} for uid in sorted(removed)]
    metadata: dict[str, Value] = {"ownerReferences": references} if references else {}
    if UNUSED_SINCE_ANNOTATION in applied.annotations:
        metadata["annotations"] = {UNUSED_SINCE_ANNOTATION: None}
    result: Manifest = {"metadata": metadata} if metadata else {}
    foreign = sorted(applied.data.keys() - desired.data.keys())
    if foreign and not (keep_data or desired.adopted):
        result["data"] = dict.fromkeys(foreign)
    return result or None


def unused_patch(live: LiveSecret, since: str, owner: OwnerReference | None) -> Manifest:
    """Return the merge patch that marks a Secret as unused.

    Args:
        live: the Secret, which must not change meanwhile.
        since: the time, as text.
        owner: its SecretProviderClass, so that Kubernetes does not delete the Secret with the pod;
            None to leave the owners.
    """
    annotated: Manifest = {"metadata": {"annotations": {UNUSED_SINCE_ANNOTATION: since}}}
    patch = with_owners(annotated, [owner] if owner else [])
    return _with_resource_version(patch, live)


def release_requests(namespace: str, name: str, live: LiveSecret) -> tuple[Manifest, Manifest]:
    """Return the merge patch and the apply that remove all of Keyferry from an adopted Secret.

    An apply without fields removes the fields that only Keyferry owns.
    """
    identity: Manifest = {"name": name, "namespace": namespace}
    patch: Manifest = {"metadata": {"annotations": {UNUSED_SINCE_ANNOTATION: None}}}
    return (
        _with_resource_version(patch, live),
        {"apiVersion": "v1", "kind": "Secret", "metadata": identity},
    )


def _with_resource_version(manifest: Manifest, live: LiveSecret) -> Manifest:
    metadata = Field(manifest)["metadata"].mapping()
    return {**manifest, "metadata": {**metadata, "resourceVersion": live.resource_version}}
