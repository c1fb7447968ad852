"""Plans the change from a live Secret to the desired one. [pure]

Several nodes manage the same Secret. Its annotations record its SecretProviderClass, the version of
that class, and when its content was fetched. So a node distinguishes a manual edit, which it
reverts, from a newer write of another node, which it keeps.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from keyferry.errors import SecretConflictError, SecretNotManagedError
from keyferry.kubernetes.live_secret import (
    ADOPTED_ANNOTATION,
    CLASS_ANNOTATION,
    CLASS_VERSION_ANNOTATION,
    FETCHED_AT_ANNOTATION,
    AppliedKeys,
)
from keyferry.kubernetes.markings import MANAGED_LABEL, SYNC_LABEL
from keyferry.kubernetes.objects import SecretClaim, SyncClaim
from keyferry.kubernetes.secret_change import Adopt, Create, Keep, Recreate, Update
from keyferry.kubernetes.syncs.groups import SYNC_KIND
from keyferry.kubernetes.syncs.synced_secret import plan_synced_secret
from keyferry.records import replace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.kubernetes.live_secret import LiveSecret
    from keyferry.kubernetes.objects import DesiredSecret
    from keyferry.kubernetes.secret_change import SecretChange

_VOLATILE_ANNOTATIONS = {CLASS_VERSION_ANNOTATION, FETCHED_AT_ANNOTATION}
"""Annotations whose difference alone is no reason to write."""


def for_live_secret(desired: DesiredSecret, live: LiveSecret | None) -> DesiredSecret:
    """Return the desired Secret as it is written to the live one.

    Keys of objects that disappeared keep their values, also if another node wrote them.

    To a Secret that somebody else created, Keyferry writes only its own keys, and no owners:
    Kubernetes would delete the Secret with them.
    """
    if live is None:
        return desired
    if desired.kept_keys:
        values = _applied_values(live, desired.kept_keys)
        desired = replace(desired, data={**values, **desired.data})
    if isinstance(desired.claim, SyncClaim):
        return desired
    named = desired.claim is not None and desired.claim.adopt
    # Somebody may have removed the annotation of an adopted Secret.
    lost_record = not live.owners and bool(live.data.keys() - live.applied_keys.data)
    if not (live.adopted or (named and (not live.managed or lost_record))):
        return desired
    return replace(desired, adopted=True, owners=(), removed_owner_uids=frozenset())


def last_values(live: LiveSecret, class_name: str, keys: frozenset[str]) -> dict[str, bytes]:
    """Return the values that a SecretProviderClass wrote to a Secret; empty if it did not.

    Args:
        live: the Secret.
        class_name: the SecretProviderClass.
        keys: of the values.
    """
    if not live.managed or live.owner_class != class_name:
        return {}
    return _applied_values(live, keys)


def _applied_values(live: LiveSecret, keys: frozenset[str]) -> dict[str, bytes]:
    written = keys & live.data.keys() & live.applied_keys.data
    return {key: base64.b64decode(live.data[key]) for key in written}


def plan_secret(desired: DesiredSecret, live: LiveSecret | None) -> SecretChange:
    """Return how to change the live Secret to the desired one.

    That of a SecretSync: see `plan_synced_secret`. Otherwise:

    1. Missing: create it.
    2. Not managed, or of another SecretProviderClass: raise.
    3. Adopted, and another type or immutable: raise, because it cannot be recreated.
    4. Not managed, and the SecretProviderClass adopts it: adopt it.
    5. Equal, or written for a newer generation of the class: keep it.
    6. Another type, or immutable: recreate it.
    7. Written by another node with newer content: keep it.
    8. Otherwise: update it.

    Args:
        desired: the desired Secret, as `for_live_secret` returns it.
        live: the live Secret, or None.

    Raises:
        SecretNotManagedError: Keyferry does not manage it, and the class does not adopt it, or it
            cannot be adopted.
        SecretConflictError: another SecretProviderClass owns it.
    """
    claim = desired.claim
    if isinstance(claim, SyncClaim):
        return plan_synced_secret(desired, claim, live)
    if live is None:
        return Create()
    return _plan_existing(desired, claim, live)


def _plan_existing(
    desired: DesiredSecret, claim: SecretClaim | None, live: LiveSecret
) -> SecretChange:
    _check_ownership(desired, claim, live)
    same_class = claim is not None and live.owner_class == claim.class_name
    edited = _is_edited(live)
    ahead = claim is not None and same_class and not edited and _is_newer_generation(claim, live)
    if desired.adopted:
        _check_adoptable(desired, live)
        if not live.adopted:
            return Adopt()
    if ahead or (desired.type == live.type and _is_equal(desired, live)):
        return Keep()
    if desired.adopted and live.immutable:
        raise _immutable_error(desired)
    if not desired.adopted and (desired.type != live.type or live.immutable):
        return Recreate()
    if claim and same_class and not edited:
        return _keep_or_update(desired, claim, live)
    lost_claim = not live.owner_class and bool(live.applied_keys.data)
    return Update(reverts=edited and (same_class or lost_claim))


def _keep_or_update(desired: DesiredSecret, claim: SecretClaim, live: LiveSecret) -> Keep | Update:
    """Decide for a Secret of this class that differs and that only Keyferry wrote."""
    if _has_different_values(desired, live) and has_newer_content(claim.fetched_at, live):
        return Keep()
    written_for_this = live.annotations.get(CLASS_VERSION_ANNOTATION, "") == claim.class_version
    return Update(reverts=written_for_this and not _has_applied_keys(desired, live))


def desired_annotations(desired: DesiredSecret) -> dict[str, str]:
    """Return all annotations, including those of Keyferry."""
    claim = desired.claim
    if not isinstance(claim, SecretClaim):
        return dict(desired.annotations)
    annotations = {
        CLASS_ANNOTATION: claim.class_name,
        FETCHED_AT_ANNOTATION: claim.fetched_at.astimezone(UTC).isoformat(timespec="microseconds"),
    }
    if claim.class_version:
        annotations[CLASS_VERSION_ANNOTATION] = claim.class_version
    if desired.adopted:
        keys = AppliedKeys(
            frozenset(desired.data), frozenset(desired.labels), frozenset(desired.annotations)
        )
        annotations[ADOPTED_ANNOTATION] = keys.to_json()
    return {**desired.annotations, **annotations}


def desired_data(desired: DesiredSecret) -> dict[str, str]:
    """Return the values in base64."""
    return {key: base64.b64encode(value).decode() for key, value in desired.data.items()}


def replaced_keys(desired: DesiredSecret, live: LiveSecret) -> tuple[str, ...]:
    """Return the keys of an adopted Secret whose values of somebody else will be replaced."""
    data = desired_data(desired)
    theirs = live.data.keys() - live.adopted_keys.data if desired.adopted else ()
    return tuple(sorted(key for key in theirs if data.get(key, live.data[key]) != live.data[key]))


def _check_adoptable(desired: DesiredSecret, live: LiveSecret) -> None:
    if desired.type != (live.type or "Opaque"):
        raise SecretNotManagedError(
            f"Secret {desired.namespace}/{desired.name} cannot be adopted: it has type"
            f" {live.type}, and secretObjects of the SecretProviderClass says {desired.type};"
            " the type of a Secret cannot be changed",
            f"Set type: {live.type} in secretObjects, or choose another secretName.",
        )
    if live.immutable and not live.adopted:
        raise _immutable_error(desired)


def _immutable_error(desired: DesiredSecret) -> SecretNotManagedError:
    return SecretNotManagedError(
        f"Secret {desired.namespace}/{desired.name} belongs to another client and is immutable, so"
        " no keys can be added to it",
        "Delete the Secret, or choose another secretName.",
    )


def _check_ownership(desired: DesiredSecret, claim: SecretClaim | None, live: LiveSecret) -> None:
    subject = f"Secret {desired.namespace}/{desired.name}"
    if SYNC_LABEL in live.labels:
        raise SecretConflictError(
            f"{subject} belongs to the {SYNC_KIND} of its name",
            f"Remove it from secretObjects, or delete the {SYNC_KIND}.",
        )
    if not live.managed and not (claim and claim.adopt):
        raise SecretNotManagedError(
            f"{subject} is not managed by Keyferry: it exists without label {MANAGED_LABEL}",
            "Choose another secretName, delete the Secret, or add its name to the annotation"
            " keyferry.dev/adopt-secrets of the SecretProviderClass to add keys to it.",
        )
    if claim and live.owner_class != claim.class_name and live.owner_class in claim.contenders:
        raise SecretConflictError(
            f"{subject} belongs to SecretProviderClass {desired.namespace}/{live.owner_class},"
            f" which also names it",
            "Choose another secretName in one of the two SecretProviderClasses.",
            owner_class=live.owner_class,
        )


def _is_equal(desired: DesiredSecret, live: LiveSecret) -> bool:
    """Return whether the Secret has all desired keys and no stale key of Keyferry."""
    kept = live.data
    if desired.adopted:
        recorded = live.adopted_keys.data | live.applied_keys.data
        kept = {k: v for k, v in live.data.items() if k in recorded or k in desired.data}
    return desired_data(desired) == kept and all(
        _matches(desired_texts, live_texts, applied)
        for desired_texts, live_texts, applied in (
            (desired.all_labels, live.labels, live.applied_keys.labels),
            (desired_annotations(desired), live.annotations, live.applied_keys.annotations),
        )
    )


def _matches(
    desired: Mapping[str, str], live: Mapping[str, str], applied_keys: frozenset[str]
) -> bool:
    return all(
        key in live and (key in _VOLATILE_ANNOTATIONS or live[key] == value)
        for key, value in desired.items()
    ) and not (applied_keys - _VOLATILE_ANNOTATIONS - desired.keys())


def _is_edited(live: LiveSecret) -> bool:
    """Return whether another client changed a value or an ownership annotation."""
    claimed = {CLASS_ANNOTATION, FETCHED_AT_ANNOTATION} <= live.applied_keys.annotations
    keys = live.adopted_keys.data if live.adopted else live.data.keys()
    return keys != live.applied_keys.data or not claimed


def _has_applied_keys(desired: DesiredSecret, live: LiveSecret) -> bool:
    """Return whether all keys exist unchanged as written for this SecretProviderClass version.

    Keys of optional objects may come and go without another version.
    """
    return (
        live.applied_keys.data ^ desired.data.keys() <= desired.optional_keys
        and live.applied_keys.labels == desired.all_labels.keys()
        and live.applied_keys.annotations
        >= desired_annotations(desired).keys() - _VOLATILE_ANNOTATIONS
    )


def _has_different_values(desired: DesiredSecret, live: LiveSecret) -> bool:
    """Return whether the content differs, and the keys are those of the same entry.

    Keys of optional objects may be in only one of them.
    """
    keys = live.adopted_keys.data if live.adopted else live.data.keys()
    changed = keys ^ desired.data.keys()
    return changed <= desired.optional_keys and (
        bool(changed)
        or any(live.data.get(key) != value for key, value in desired_data(desired).items())
    )


def _is_newer_generation(claim: SecretClaim, live: LiveSecret) -> bool:
    """Return whether it was written for a later generation that this node has not seen yet."""
    uid, _, generation = claim.class_version.partition("/")
    their_uid, _, theirs = live.annotations.get(CLASS_VERSION_ANNOTATION, "").partition("/")
    if uid != their_uid or not (generation.isdecimal() and theirs.isdecimal()):
        return False
    return int(theirs) > int(generation)


def has_newer_content(fetched_at: datetime, live: LiveSecret) -> bool:
    """Return whether another node wrote content that was fetched after `fetched_at`."""
    try:
        theirs = datetime.fromisoformat(live.annotations[FETCHED_AT_ANNOTATION])
    except (KeyError, ValueError):
        return False
    # Without an API there is only one writer, and a manual edit looks like its own write.
    return bool(live.resource_version) and theirs.tzinfo is not None and theirs > fetched_at
