"""The requests that make a Secret of the cluster as desired. [pure]

The content is server-side applied, together with all owners: an apply without the owners that it
applied before would remove them. A patch of an unchanged Secret only adds and removes owners.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.formats.fields import Field
from keyferry.kubernetes.live_secret import KEYFERRY_ANNOTATIONS, UNUSED_SINCE_ANNOTATION
from keyferry.kubernetes.markings import MANAGED_LABEL
from keyferry.kubernetes.object_codec import merge_owners, secret_manifest, with_owners
from keyferry.kubernetes.objects import SyncClaim

if TYPE_CHECKING:
    from keyferry.formats.kubernetes_yaml import Value
    from keyferry.kubernetes.live_secret import LiveSecret
    from keyferry.kubernetes.object_codec import Manifest
    from keyferry.kubernetes.objects import DesiredSecret, OwnerReference

CLASS_KIND = "SecretProviderClass"
_NO_VERSION = "1"
"""A resourceVersion that no Secret has: the revision of an empty etcd."""


def planned_owners(desired: DesiredSecret, live: LiveSecret | None) -> tuple[OwnerReference, ...]:
    """Return the owners of the Secret after the write.

    That of a SecretSync has only this owner. Otherwise:

    1. The existing owners, and those of the pods that use it.
    2. Without `removed_owner_uids`.
    3. Without its SecretProviderClass, which owned it while no pod used it.
    """
    if isinstance(desired.claim, SyncClaim):
        return desired.owners
    existing = live.owners if live else ()
    if desired.adopted:
        return existing
    return tuple(
        owner
        for owner in merge_owners(existing, desired.owners)
        if owner.uid not in desired.removed_owner_uids
        and not (desired.owners and owner.kind == CLASS_KIND)
    )


def applied_content(desired: DesiredSecret, live: LiveSecret) -> Manifest:
    """Return the manifest for server-side apply to a Secret that must not change meanwhile.

    Args:
        desired: the Secret to write.
        live: the existing Secret.
    """
    # The owners of an adopted Secret belong to its creator.
    owners = () if desired.adopted else planned_owners(desired, live)
    return _with_resource_version(secret_manifest(desired, owners), live.resource_version)


def created_content(desired: DesiredSecret, previous: LiveSecret | None) -> Manifest:
    """Return the manifest for server-side apply that only creates.

    If another node has created the Secret meanwhile, an apply would remove the owners that the
    other node has written, because the field manager is the same. The API server compares the
    resourceVersion only with that of an existing object, so such an apply is a conflict.

    Args:
        desired: the Secret to create.
        previous: the deleted Secret, whose owners are kept; None if there was none.
    """
    manifest = secret_manifest(desired, planned_owners(desired, previous))
    return _with_resource_version(manifest, _NO_VERSION)


def kept_owners_patch(desired: DesiredSecret, previous: LiveSecret) -> Manifest:
    """Return the merge patch that adds the owners of a deleted Secret to its successor."""
    return with_owners({}, planned_owners(desired, previous))


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
    marking = desired.marking
    if isinstance(desired.claim, SyncClaim) and marking.label not in applied.labels:
        # The controller finds the Secret by it, also if it ignores drift.
        metadata["labels"] = {marking.label: marking.label_value}
    result: Manifest = {"metadata": metadata} if metadata else {}
    foreign = sorted(applied.data.keys() - desired.data.keys())
    if foreign and not (keep_data or desired.leaves_foreign_keys):
        result["data"] = dict.fromkeys(foreign)
    return result or None


def takeover_patch(desired: DesiredSecret, live: LiveSecret) -> Manifest | None:
    """Return the merge patch that gives a Secret to a SecretSync; None if it has it already.

    Admission policies demand that it has exactly one owner after each write, and an apply cannot
    remove the owners that somebody else wrote.

    Args:
        desired: the Secret to write.
        live: the existing Secret, which must not change meanwhile.
    """
    if not isinstance(desired.claim, SyncClaim):
        return None
    kept = {owner.uid for owner in desired.owners}
    removed = sorted({owner.uid for owner in live.owners} - kept)
    marking = desired.marking
    if not removed and marking.label in live.labels:
        return None
    references = Field(with_owners({}, desired.owners))["metadata"]["ownerReferences"].value
    assert isinstance(references, list)
    deleted: list[Value] = [{"$patch": "delete", "uid": uid} for uid in removed]
    metadata: Manifest = {
        "labels": {
            marking.label: marking.label_value,
            **dict.fromkeys({MANAGED_LABEL} & live.labels.keys()),
        },
        "ownerReferences": [*references, *deleted],
    }
    if stale := sorted(KEYFERRY_ANNOTATIONS & live.annotations.keys()):
        metadata["annotations"] = dict.fromkeys(stale)
    return _with_resource_version({"metadata": metadata}, live.resource_version)


def release_fields(namespace: str, name: str, live: LiveSecret) -> Manifest:
    """Return the manifest whose server-side apply removes the entry of a field manager.

    It has the uid, because an apply to a Secret that was deleted meanwhile would create an empty
    one.

    Args:
        namespace: of the Secret.
        name: of the Secret.
        live: the Secret, which must not change meanwhile.
    """
    manifest: Manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "uid": live.uid},
    }
    return _with_resource_version(manifest, live.resource_version)


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
    return _with_resource_version(patch, live.resource_version)


def unmark_patch(live: LiveSecret) -> Manifest:
    """Return the merge patch that removes the mark of `unused_patch`."""
    patch: Manifest = {"metadata": {"annotations": {UNUSED_SINCE_ANNOTATION: None}}}
    return _with_resource_version(patch, live.resource_version)


def _with_resource_version(manifest: Manifest, version: str) -> Manifest:
    metadata = Field(manifest)["metadata"].mapping()
    return {**manifest, "metadata": {**metadata, "resourceVersion": version}}
