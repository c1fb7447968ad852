"""What is to be done about one Secret, decided from the one that is there. [pure]

Several nodes look after one Secret. What they agree by stands on it: whose it is, for which version
of that class it was written, and when its content was fetched. So a node can tell an edit by hand,
which it reverts, from the work of another node that knows more, which it leaves.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from keyferry.errors import SecretClaimedError, SecretForeignError
from keyferry.store.present_secret import (
    CLASS_ANNOTATION,
    CLASS_VERSION_ANNOTATION,
    FETCHED_ANNOTATION,
    MANAGED_LABEL,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.store.interface import Claim, SecretManifest
    from keyferry.store.present_secret import PresentSecret

_MOVING = {CLASS_VERSION_ANNOTATION, FETCHED_ANNOTATION}
"""Annotations that are only written together with something else."""


@dataclass(frozen=True, slots=True)
class Create:
    """There is none."""


@dataclass(frozen=True, slots=True)
class Keep:
    """It is right, or another node knows better."""


@dataclass(frozen=True, slots=True)
class Update:
    """It is to change.

    Attributes:
        reverts: because somebody else changed it.
    """

    reverts: bool


@dataclass(frozen=True, slots=True)
class Recreate:
    """What is to change cannot change, so it is deleted and made anew."""


Verdict = Create | Keep | Update | Recreate


def judge(secret: SecretManifest, present: PresentSecret | None) -> Verdict:
    """What makes the Secret that is there right.

    Args:
        secret: as it is to be.
        present: as it is; None when there is none.

    Raises:
        SecretForeignError: Keyferry did not make it, and the class does not take it over.
        SecretClaimedError: another class has it.
    """
    if present is None:
        return Create()
    _check_right(secret, present)
    claim = secret.claim
    same_class = claim is not None and present.holder == claim.class_name
    edited = _is_edited(present)
    ahead = claim is not None and same_class and not edited and _is_ahead(claim, present)
    if ahead or (secret.type == present.type and _is_equal(secret, present)):
        return Keep()
    if secret.type != present.type or present.immutable:
        return Recreate()
    if claim and same_class and not edited:
        return _keep_or_update(secret, claim, present)
    lost_claim = not present.holder and bool(present.applied.data)
    return Update(reverts=edited and (same_class or lost_claim))


def _keep_or_update(secret: SecretManifest, claim: Claim, present: PresentSecret) -> Keep | Update:
    """It differs, for this very class, and every value is as some node of ours wrote it."""
    if _has_other_values(secret, present) and _fetched_later(claim, present):
        return Keep()
    written_for_this = present.annotations.get(CLASS_VERSION_ANNOTATION, "") == claim.class_version
    return Update(reverts=written_for_this and not _has_keys_of(secret, present))


def annotations_of(secret: SecretManifest) -> dict[str, str]:
    """All that it is to have, ours among them."""
    claim = secret.claim
    if claim is None:
        return dict(secret.annotations)
    ours = {
        CLASS_ANNOTATION: claim.class_name,
        FETCHED_ANNOTATION: claim.fetched_at.astimezone(UTC).isoformat(timespec="microseconds"),
    }
    if claim.class_version:
        ours[CLASS_VERSION_ANNOTATION] = claim.class_version
    return {**secret.annotations, **ours}


def labels_of(secret: SecretManifest) -> dict[str, str]:
    """All that it is to have, ours among them."""
    return {**secret.labels, MANAGED_LABEL: "true"}


def data_of(secret: SecretManifest) -> dict[str, str]:
    """Its values in base64."""
    return {key: base64.b64encode(value).decode() for key, value in secret.data.items()}


def _check_right(secret: SecretManifest, present: PresentSecret) -> None:
    who = f"Secret {secret.namespace}/{secret.name}"
    claim = secret.claim
    if not present.ours and not (claim and claim.adopt):
        raise SecretForeignError(
            f"{who} was not made by Keyferry: it is there without label {MANAGED_LABEL}",
            "Choose another secretName, or remove that Secret, or name it in the annotation"
            " keyferry.dev/adopt-secrets of the class.",
        )
    if claim and present.holder != claim.class_name and present.holder in claim.rivals:
        raise SecretClaimedError(
            f"{who} belongs to SecretProviderClass {secret.namespace}/{present.holder},"
            f" which names it too",
            "Choose another secretName in one of the two classes.",
            holder=present.holder,
        )


def _is_equal(secret: SecretManifest, present: PresentSecret) -> bool:
    """Nothing is missing and nothing of ours is left over."""
    return data_of(secret) == present.data and all(
        _is_in(wanted, there, applied)
        for wanted, there, applied in (
            (labels_of(secret), present.labels, present.applied.labels),
            (annotations_of(secret), present.annotations, present.applied.annotations),
        )
    )


def _is_in(wanted: Mapping[str, str], there: Mapping[str, str], applied: frozenset[str]) -> bool:
    return all(
        key in there and (key in _MOVING or there[key] == value) for key, value in wanted.items()
    ) and not (applied - _MOVING - wanted.keys())


def _is_edited(present: PresentSecret) -> bool:
    """Somebody else added or changed a value, or what tells whose it is."""
    claimed = {CLASS_ANNOTATION, FETCHED_ANNOTATION} <= present.applied.annotations
    return present.data.keys() != present.applied.data or not claimed


def _has_keys_of(secret: SecretManifest, present: PresentSecret) -> bool:
    """What was written for this version of the class is all there and as it was written."""
    return (
        present.applied.data == secret.data.keys()
        and present.applied.labels == labels_of(secret).keys()
        and present.applied.annotations >= annotations_of(secret).keys() - _MOVING
    )


def _has_other_values(secret: SecretManifest, present: PresentSecret) -> bool:
    """The same keys, so it was made for the same entry of the class, but other content."""
    return present.data.keys() == secret.data.keys() and data_of(secret) != present.data


def _is_ahead(claim: Claim, present: PresentSecret) -> bool:
    """It was written for a later generation of this very class, which this node has yet to see."""
    uid, _, generation = claim.class_version.partition("/")
    their_uid, _, theirs = present.annotations.get(CLASS_VERSION_ANNOTATION, "").partition("/")
    if uid != their_uid or not (generation.isdecimal() and theirs.isdecimal()):
        return False
    return int(theirs) > int(generation)


def _fetched_later(claim: Claim, present: PresentSecret) -> bool:
    try:
        theirs = datetime.fromisoformat(present.annotations[FETCHED_ANNOTATION])
    except (KeyError, ValueError):
        return False
    # Without an API there is one writer alone, and an edit by hand looks like its own work.
    return bool(present.version) and theirs.tzinfo is not None and theirs > claim.fetched_at
