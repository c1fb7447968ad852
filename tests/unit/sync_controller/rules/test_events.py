"""The events of SecretSyncs, word for word, as `kubectl describe` shows them."""

from __future__ import annotations

from typing import Any

import pytest

from keyferry.content import MissingObject
from keyferry.errors import AccessDeniedError, SecretConflictError, VaultUnavailableError
from keyferry.formats.unknown_fields import describe_unknown_fields
from keyferry.kubernetes.objects import (
    MAX_MESSAGE,
    ApplyOutcome,
    ApplyResult,
    ClassRef,
    Event,
    EventType,
    ObjectRef,
)
from keyferry.kubernetes.pod_status import VersionChange
from keyferry.kubernetes.syncs.groups import GKE_GROUP
from keyferry.sync_controller.rules import events
from tests.fakes.secret_syncs import CLASS_UID, secret_sync, sync_class
from tests.fakes.syncs import UID

SYNC = secret_sync()
ABOUT = ObjectRef("secret-sync.x-k8s.io/v1alpha1", "SecretSync", "shop", "web", UID)
NEW = VersionChange("secret/user", "", "1")
CHANGED = VersionChange("secret/password", "1", "2")
REMOVED = VersionChange("secret/old", "1", "")


def written(
    outcome: ApplyOutcome, *changes: VersionChange, was_deleted: bool = False, **result: Any
) -> str:
    """Return reason and message of the event after a write."""
    made = events.secret_written(
        SYNC, ApplyResult(outcome, **result), changes, was_deleted=was_deleted
    )
    return shown(made) if made else ""


def shown(event: Event) -> str:
    """Return reason and message of an event on the SecretSync."""
    assert ABOUT == event.involved_object
    return f"{event.type.value} {event.reason}: {event.message}"


def test_unchanged_secret_has_no_event() -> None:
    """A refresh that changes nothing is no news."""
    assert "" == written(ApplyOutcome.UNCHANGED)
    assert "" == written(ApplyOutcome.UNCHANGED, CHANGED)


def test_new_content_is_named_by_versions() -> None:
    """Never by values."""
    assert written(ApplyOutcome.CREATED, CHANGED, NEW) == (
        "Normal SecretSynced: created the Secret: secret/password from version 1 to 2,"
        " secret/user at version 1"
    )
    assert written(ApplyOutcome.UPDATED, CHANGED, REMOVED) == (
        "Normal SecretSynced: updated the Secret: secret/password from version 1 to 2,"
        " secret/old removed"
    )
    assert written(ApplyOutcome.UPDATED) == "Normal SecretSynced: updated the Secret"


def test_many_changes_are_cut() -> None:
    """The number of the others is said."""
    changes = [VersionChange(f"secret/{n}", "", "1") for n in range(12)]
    assert written(ApplyOutcome.CREATED, *changes).endswith("secret/9 at version 1, 2 more")


def test_drift_is_reported_as_what_somebody_did() -> None:
    """The user finds out who by the audit log of the cluster."""
    assert written(ApplyOutcome.REVERTED, was_deleted=False) == (
        "Normal SecretReverted: somebody changed the Secret; it was restored"
    )
    assert written(ApplyOutcome.CREATED, CHANGED, was_deleted=True) == (
        "Normal SecretReverted: somebody deleted the Secret; it was created again"
    )


def test_recreation_says_why() -> None:
    """Pods that use it may see it missing for a moment."""
    assert written(ApplyOutcome.RECREATED, previous_type="kubernetes.io/tls") == (
        "Normal SecretRecreated: deleted the Secret and created it again, because its type changed"
        " from kubernetes.io/tls to Opaque"
    )
    assert written(ApplyOutcome.RECREATED, previous_type="Opaque") == (
        "Normal SecretRecreated: deleted the Secret and created it again, because it was immutable"
    )


def test_adoption_is_reported() -> None:
    """Whose Secret it was is said by its managedFields."""
    assert written(ApplyOutcome.ADOPTED) == ("Normal SecretAdopted: took over the existing Secret")


def test_failure_has_problem_and_remedy() -> None:
    """Without times and counters: a later failure of the SecretSync replaces the event."""
    error = VaultUnavailableError("contoso does not respond", "Check the network.")
    error.add_detail("since 12:00")
    event = events.sync_failed(SYNC, error)
    assert shown(event) == (
        "Warning SecretSyncFailed: contoso does not respond. Check the network."
    )
    other = events.sync_failed(SYNC, AccessDeniedError("contoso denies access", "Grant get."))
    assert event.key == other.key


def test_conflict_is_reported_on_both_objects() -> None:
    """Each author may look at one of them only."""
    error = SecretConflictError(
        "Secret shop/web belongs to SecretProviderClass shop/vault, whose secretObjects name it",
        "Remove it from secretObjects, or give the SecretSync another name.",
        owner_class="vault",
    )
    own, other = events.secret_claimed(SYNC, sync_class(), error)
    assert shown(own) == (
        "Warning SecretClaimed: Secret shop/web belongs to SecretProviderClass shop/vault, whose"
        " secretObjects name it. Remove it from secretObjects, or give the SecretSync another name."
    )
    assert other == Event(
        ClassRef("shop", "vault", CLASS_UID),
        EventType.WARNING,
        "SecretClaimed",
        "the SecretSync web wants Secret web, too; it still belongs to this SecretProviderClass."
        " Remove it from secretObjects, or rename the SecretSync.",
        "sync",
    )
    assert (own,) == events.secret_claimed(SYNC, None, error)


def missing(number: int) -> MissingObject:
    return MissingObject(f"secret/{number}", (str(number),), "it is disabled")


def test_missing_optional_objects_are_listed() -> None:
    """With the reason of each."""
    event = events.optional_missing(SYNC, [missing(1), missing(2)])
    assert shown(event) == (
        "Warning SecretMissingOptional: the Secret lacks optional objects: secret/1: it is"
        " disabled; secret/2: it is disabled"
    )
    many = events.optional_missing(SYNC, [missing(number) for number in range(13)])
    assert many.message.endswith("secret/9: it is disabled; 3 more")
    assert event.key == many.key


def test_expiry_is_a_warning() -> None:
    """The texts are those of the driver."""
    event = events.near_expiry(SYNC, ["secret a expires on 2030-01-01 12:00 UTC", "cert b expired"])
    assert shown(event) == (
        "Warning ObjectNearExpiry: secret a expires on 2030-01-01 12:00 UTC; cert b expired"
    )


def test_mistakes_have_their_remedy() -> None:
    """Fields and annotations without effect."""
    mistaken = secret_sync(
        refreshInterval="5m",
        annotations={"keyferry.dev/adpt": "true", "keyferry.dev/drift": "no"},
    )
    unknown = events.unknown_field(mistaken, describe_unknown_fields(mistaken.unknown_fields))
    assert shown(unknown).startswith("Warning UnknownField: ")
    assert "keyferry.dev/adpt (did you mean keyferry.dev/adopt?)" in unknown.message
    assert "set the annotation keyferry.dev/refresh-interval instead" in unknown.message
    invalid = events.invalid_annotation(mistaken, mistaken.options.problems)
    assert shown(invalid) == (
        "Warning InvalidAnnotation: Annotation keyferry.dev/drift has no effect: 'no' is invalid."
        ' Write "ignore", or remove it.'
    )


@pytest.mark.parametrize("length", [10, 5000])
def test_long_messages_keep_the_remedy(length: int) -> None:
    """Kubernetes rejects longer ones."""
    error = AccessDeniedError("x" * length, "Grant get.")
    message = events.sync_failed(SYNC, error).message
    assert len(message) <= MAX_MESSAGE
    assert message.endswith((". Grant get.", "... Grant get."))


def test_event_is_about_the_object_of_its_group() -> None:
    """`kubectl describe` looks it up by kind, apiVersion and uid."""
    gke = secret_sync(group=GKE_GROUP)
    event = events.sync_failed(gke, AccessDeniedError("no", ""))
    assert isinstance(event.involved_object, ObjectRef)
    assert str(GKE_GROUP) == event.involved_object.api_version
