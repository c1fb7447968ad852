"""Plans the change from a live Secret to the one that a SecretSync defines. [pure]

Only one process writes the Secrets of SecretSyncs, so they need no annotations: the label, the
owner and `managedFields` say what belongs to the SecretSync. Keys that others add stay, as with
upstream's controller.

Source: https://github.com/kubernetes-sigs/secrets-store-sync-controller
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from keyferry.errors import SecretConflictError, SecretNotManagedError
from keyferry.kubernetes.live_secret import CLASS_ANNOTATION
from keyferry.kubernetes.markings import MANAGED_LABEL, SYNC_MARKING
from keyferry.kubernetes.secret_change import Adopt, Create, Keep, Recreate, Update
from keyferry.kubernetes.syncs.groups import SYNC_KIND

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.kubernetes.live_secret import LiveSecret
    from keyferry.kubernetes.objects import DesiredSecret, OwnerReference, SyncClaim
    from keyferry.kubernetes.secret_change import SecretChange

_DEFAULT_TYPE = "Opaque"


def plan_synced_secret(
    desired: DesiredSecret, claim: SyncClaim, live: LiveSecret | None
) -> SecretChange:
    """Return how to change the live Secret to the desired one.

    1. Missing: create it.
    2. Of somebody else: raise, or adopt it if the SecretSync says so.
    3. Another type, or immutable: recreate it.
    4. As desired: keep it. The same if only somebody else changed it, and the SecretSync ignores
       that.
    5. Otherwise: update it.

    Args:
        desired: the desired Secret.
        claim: of its SecretSync.
        live: the live Secret, or None.

    Raises:
        SecretNotManagedError: somebody else created it, and it is not or cannot be adopted.
        SecretConflictError: it belongs to another SecretSync, or to a SecretProviderClass.
    """
    if live is None:
        return Create()
    if not _is_own(claim, live):
        _check_adoptable(desired, claim, live)
        return Adopt()
    ignored = claim.ignores_drift and claim.is_unchanged
    if desired.type != (live.type or _DEFAULT_TYPE):
        return Recreate()
    if ignored or _is_equal(desired, live):
        return Keep()
    if live.immutable and (_differs(desired, live) or _stale_keys(desired, live)):
        return Recreate()
    return Update(reverts=claim.is_unchanged or _is_edited(desired, live))


def _is_own(claim: SyncClaim, live: LiveSecret) -> bool:
    """Return whether the Secret is of this SecretSync, or of an earlier one of its name."""
    if not live.owners:
        return SYNC_MARKING.label in live.labels  # deleted with --cascade=orphan
    if any(owner.uid == claim.owner.uid for owner in live.owners):
        return True  # whatever owner somebody else added
    return all(_is_earlier(claim.owner, owner) for owner in live.owners)


def _is_earlier(sync: OwnerReference, owner: OwnerReference) -> bool:
    """Return whether an owner was a SecretSync of the same name."""
    same = owner.kind == SYNC_KIND and owner.name == sync.name
    return same and _group(owner.api_version) == _group(sync.api_version)


def _group(api_version: str) -> str:
    return api_version.partition("/")[0]


def _check_adoptable(desired: DesiredSecret, claim: SyncClaim, live: LiveSecret) -> None:
    subject = f"Secret {desired.namespace}/{desired.name}"
    for other in live.owners:
        if other.kind == SYNC_KIND:
            is_namesake = other.name == claim.owner.name
            raise SecretConflictError(
                f"{subject} belongs to the {SYNC_KIND} {other.name} of {other.api_version}",
                "Delete one of the two SecretSyncs."
                if is_namesake
                else "Delete the Secret, or give the SecretSync another name.",
            )
    owner_class = live.annotations.get(CLASS_ANNOTATION, "")
    if MANAGED_LABEL in live.labels and claim.class_name:
        named = owner_class or claim.class_name
        raise SecretConflictError(
            f"{subject} belongs to SecretProviderClass {desired.namespace}/{named}, whose"
            " secretObjects name it",
            "Remove it from secretObjects, or give the SecretSync another name.",
            owner_class=named,
        )
    if not claim.adopt:
        raise SecretNotManagedError(
            f"{subject} exists, and does not belong to this SecretSync",
            "Delete it, give the SecretSync another name, or annotate both with"
            " keyferry.dev/adopt=true to take the Secret over.",
        )
    if live.owners and MANAGED_LABEL not in live.labels:
        owner = live.owners[0]
        raise SecretNotManagedError(
            f"{subject} cannot be adopted: it belongs to the {owner.kind} {owner.name}",
            f"Delete that {owner.kind} with --cascade=orphan first, so that it no longer writes the"
            " Secret.",
        )
    if desired.type != (live.type or _DEFAULT_TYPE):
        raise SecretNotManagedError(
            f"{subject} cannot be adopted: it has type {live.type}, and the SecretSync says"
            f" {desired.type}; the type of a Secret cannot be changed",
            f"Set secretObject.type: {live.type}, or delete the Secret.",
        )
    if live.immutable:
        raise SecretNotManagedError(
            f"{subject} cannot be adopted: it is immutable",
            "Delete it, or give the SecretSync another name.",
        )


def _is_equal(desired: DesiredSecret, live: LiveSecret) -> bool:
    """Return whether the Secret has all of the SecretSync, and nothing that it had before."""
    owners = {(owner.kind, owner.name, owner.uid) for owner in live.owners}
    wanted = {(owner.kind, owner.name, owner.uid) for owner in desired.owners}
    return (
        owners == wanted
        and not live.former_managers
        and not _differs(desired, live)
        and not _stale_keys(desired, live)
        and _has_texts(desired.all_labels, live.labels, live.applied_keys.labels)
        and _has_texts(desired.annotations, live.annotations, live.applied_keys.annotations)
    )


def _has_texts(wanted: Mapping[str, str], live: Mapping[str, str], applied: frozenset[str]) -> bool:
    same = all(live.get(key) == value for key, value in wanted.items())
    return same and not (applied - wanted.keys())


def _differs(desired: DesiredSecret, live: LiveSecret) -> bool:
    return any(live.data.get(key) != _encoded(value) for key, value in desired.data.items())


def _stale_keys(desired: DesiredSecret, live: LiveSecret) -> frozenset[str]:
    """Return the keys that the SecretSync had before, and has no longer.

    Which keys a former manager has is unknown: perhaps all.
    """
    before = live.data.keys() if live.former_managers else live.applied_keys.data
    return frozenset(before - desired.data.keys() - desired.kept_keys)


def _encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _is_edited(desired: DesiredSecret, live: LiveSecret) -> bool:
    """Return whether somebody else replaced a value of the SecretSync.

    The values of a former manager are those of an earlier controller.
    """
    return not live.former_managers and any(
        key in live.data and key not in live.applied_keys.data and live.data[key] != _encoded(value)
        for key, value in desired.data.items()
    )
