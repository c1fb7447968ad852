"""How a live Secret is changed to the one that a SecretSync defines."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from keyferry.errors import SecretConflictError, SecretNotManagedError, StoreError
from keyferry.kubernetes.live_secret import CLASS_ANNOTATION, AppliedKeys, LiveSecret
from keyferry.kubernetes.markings import MANAGED_LABEL, SYNC_LABEL, SYNC_MARKING
from keyferry.kubernetes.objects import DesiredSecret, OwnerReference, SecretClaim, SyncClaim
from keyferry.kubernetes.secret_change import Adopt, Create, Keep, Recreate, SecretChange, Update
from keyferry.kubernetes.secret_plan import for_live_secret, plan_secret
from keyferry.kubernetes.syncs.groups import GKE_GROUP, UPSTREAM_GROUP
from keyferry.records import replace

OWNER = OwnerReference(str(UPSTREAM_GROUP), "SecretSync", "db", "sync-uid")
POD = OwnerReference("v1", "Pod", "web-0", "pod-uid")
DATA = {"password": b"canary", "user": b"me"}
LABELS = {"environment": "test", SYNC_LABEL: ""}
ANNOTATIONS = {"note": "yes"}
FORMER = frozenset({"v1-secrets-store-sync-controller"})

UNCHANGED: dict[str, Any] = {"is_unchanged": True}
IGNORED: dict[str, Any] = {"is_unchanged": True, "ignores_drift": True}


def wanted(*, data: Mapping[str, bytes] = DATA, **changes: Any) -> DesiredSecret:
    """Return the desired Secret."""
    secret = DesiredSecret(
        "shop", "db", "Opaque", data, {"environment": "test"}, ANNOTATIONS, (OWNER,)
    )
    return replace(secret, **changes)


def live_secret(*, data: Mapping[str, bytes] = DATA, **changes: Any) -> LiveSecret:
    """Return the Secret as the controller wrote it, with these changes."""
    secret = LiveSecret(
        uid="secret-uid",
        resource_version="7",
        type="Opaque",
        immutable=False,
        data={key: b64encode(value).decode() for key, value in data.items()},
        labels=LABELS,
        annotations=ANNOTATIONS,
        owners=(OWNER,),
        applied_keys=AppliedKeys(frozenset(DATA), frozenset(LABELS), frozenset(ANNOTATIONS)),
        marking=SYNC_MARKING,
    )
    return replace(secret, **changes)


def edited(*, data: Mapping[str, bytes] = DATA, lost: set[str]) -> LiveSecret:
    """Return the Secret after somebody else wrote or deleted these keys."""
    applied = AppliedKeys(frozenset(DATA) - lost, frozenset(LABELS), frozenset(ANNOTATIONS))
    return live_secret(data=data, applied_keys=applied)


def plan(
    live: LiveSecret | None, secret: DesiredSecret | None = None, **claim: Any
) -> SecretChange:
    """Return what is done, as the store decides it."""
    made = SyncClaim(**{"owner": OWNER, **claim})
    desired = replace(secret or wanted(), claim=made, owners=(made.owner,))
    return plan_secret(for_live_secret(desired, live), live)


def refusal(live: LiveSecret, secret: DesiredSecret | None = None, **claim: Any) -> StoreError:
    """Return why the Secret is not written."""
    with pytest.raises(StoreError) as caught:
        plan(live, secret, **claim)
    assert "canary" not in str(caught.value)
    return caught.value


# --- its own Secret -------------------------------------------------------------------------------


@pytest.mark.parametrize("claim", [{}, UNCHANGED, IGNORED, {"adopt": True}])
def test_missing_secret_is_created(claim: dict[str, Any]) -> None:
    """Whatever the SecretSync says about drift."""
    assert Create() == plan(None, **claim)


@pytest.mark.parametrize("claim", [{}, UNCHANGED, IGNORED])
def test_secret_as_desired_is_kept(claim: dict[str, Any]) -> None:
    """A refresh that changes nothing writes nothing."""
    assert Keep() == plan(live_secret(), **claim)


def test_keys_labels_and_annotations_of_others_stay() -> None:
    """As with upstream, whose server-side apply does not touch them."""
    live = live_secret(
        data={**DATA, "baz": b"theirs"},
        labels={**LABELS, "team": "blue"},
        annotations={**ANNOTATIONS, "reviewed": "yes"},
    )
    assert Keep() == plan(live)
    assert Keep() == plan(live, **UNCHANGED)


def test_new_value_is_an_update() -> None:
    """Nobody edited the Secret: the vault has another value."""
    assert Update(reverts=False) == plan(live_secret(data={**DATA, "user": b"old"}))


@pytest.mark.parametrize(
    "live",
    [
        edited(data={**DATA, "user": b"hand"}, lost={"user"}),
        edited(data={"user": b"me"}, lost={"password"}),
        live_secret(labels={SYNC_LABEL: ""}),
        live_secret(labels={**LABELS, "environment": "hand"}),
        live_secret(labels={"environment": "test"}),
        live_secret(annotations={}),
        live_secret(owners=(OWNER, POD)),
    ],
    ids=["value", "key", "label", "changed label", "own label", "annotation", "owner"],
)
def test_drift_is_reverted_or_ignored(live: LiveSecret) -> None:
    """If the content is that of the last write, any difference comes from somebody else."""
    assert Update(reverts=True) == plan(live, **UNCHANGED)
    assert Keep() == plan(live, **IGNORED)


def test_edited_value_is_reverted_together_with_new_content() -> None:
    """The event says that somebody changed the Secret."""
    live = edited(data={**DATA, "user": b"hand"}, lost={"user"})
    new = wanted(data={**DATA, "password": b"new"})
    assert Update(reverts=True) == plan(live, new)
    assert Update(reverts=True) == plan(live, new, ignores_drift=True)


def test_deleted_key_is_no_edit_if_the_content_changed() -> None:
    """It may be a key that the SecretSync did not have before."""
    assert Update(reverts=False) == plan(live_secret(), wanted(data={**DATA, "more": b"1"}))


def test_key_that_the_secret_sync_no_longer_has_is_removed() -> None:
    """With one update; a key that somebody else edited is theirs, and stays."""
    fewer = wanted(data={"user": b"me"})
    assert Update(reverts=False) == plan(live_secret(), fewer)
    assert Keep() == plan(edited(data={**DATA, "password": b"hand"}, lost={"password"}), fewer)


def test_kept_key_of_a_missing_object_is_not_removed() -> None:
    """An optional object disappeared, and its entry says onMissing: keep."""
    fewer = wanted(data={"user": b"me"}, kept_keys=frozenset({"password"}))
    assert Keep() == plan(live_secret(), fewer)


def test_removed_label_and_annotation_are_removed() -> None:
    """Those that the controller wrote; the others stay."""
    assert Update(reverts=False) == plan(live_secret(), wanted(labels={}))
    assert Update(reverts=False) == plan(live_secret(), wanted(annotations={}))
    assert Keep() == plan(live_secret(labels={**LABELS, "team": "blue"}), wanted())


def test_other_type_is_recreated() -> None:
    """Also if drift is ignored: the type of a Secret cannot be changed."""
    typed = wanted(type="kubernetes.io/tls")
    assert Recreate() == plan(live_secret(), typed)
    assert Recreate() == plan(live_secret(), typed, ignores_drift=True)


def test_secret_without_a_type_is_opaque() -> None:
    """As for Kubernetes."""
    assert Keep() == plan(live_secret(type=""))


def test_immutable_secret_is_recreated_only_for_other_data() -> None:
    """Labels and owners can be changed all the same."""
    immutable = live_secret(immutable=True)
    assert Keep() == plan(immutable)
    assert Recreate() == plan(immutable, wanted(data={**DATA, "user": b"new"}))
    assert Recreate() == plan(immutable, wanted(data={"user": b"me"}))
    assert Update(reverts=True) == plan(replace(immutable, annotations={}), **UNCHANGED)
    assert Keep() == plan(replace(immutable, annotations={}), **IGNORED)


def test_orphaned_secret_is_taken() -> None:
    """The SecretSync was deleted with --cascade=orphan and created again."""
    assert Update(reverts=False) == plan(live_secret(owners=()))


def test_secret_of_the_earlier_secret_sync_of_that_name_is_taken() -> None:
    """It has another uid, and Kubernetes has not deleted the Secret yet."""
    later = replace(OWNER, uid="later-uid")
    assert Update(reverts=False) == plan(live_secret(), owner=later)
    older = replace(OWNER, api_version="secret-sync.x-k8s.io/v1alpha0", uid="old")
    assert Update(reverts=False) == plan(live_secret(owners=(older,)))


def test_fields_of_a_former_manager_are_taken_over() -> None:
    """What upstream's v0.0.4 wrote is no edit of somebody else."""
    same = live_secret(former_managers=FORMER)
    assert Update(reverts=False) == plan(same)
    other = live_secret(
        data={**DATA, "user": b"old"}, former_managers=FORMER, applied_keys=AppliedKeys()
    )
    assert Update(reverts=False) == plan(other)


# --- Secrets of others ----------------------------------------------------------------------------


def foreign(**changes: Any) -> LiveSecret:
    """Return a Secret that somebody else created."""
    made = {
        "data": {"theirs": b"1"},
        "labels": {},
        "annotations": {},
        "owners": (),
        "applied_keys": AppliedKeys(),
        **changes,
    }
    return live_secret(**made)


def of_driver(**changes: Any) -> LiveSecret:
    """Return a Secret of the driver."""
    made = {
        "labels": {MANAGED_LABEL: "true"},
        "annotations": {CLASS_ANNOTATION: "web"},
        "owners": (POD,),
        **changes,
    }
    return foreign(**made)


def test_secret_of_nobody_is_adopted_on_request() -> None:
    """The remedy names the annotation."""
    error = refusal(foreign())
    assert isinstance(error, SecretNotManagedError)
    assert error.problem == "Secret shop/db exists, and does not belong to this SecretSync"
    assert "annotate both with keyferry.dev/adopt=true" in error.remedy
    assert Adopt() == plan(foreign(), adopt=True)


def test_secret_of_another_owner_is_not_adopted() -> None:
    """Its controller would write it again and again."""
    owner = OwnerReference("external-secrets.io/v1", "ExternalSecret", "db", "eso-uid")
    error = refusal(foreign(owners=(owner,)), adopt=True)
    assert isinstance(error, SecretNotManagedError)
    assert error.problem.endswith("cannot be adopted: it belongs to the ExternalSecret db")
    assert error.remedy.startswith("Delete that ExternalSecret with --cascade=orphan first")


def test_secret_of_another_type_is_not_adopted() -> None:
    """It would have to be deleted."""
    error = refusal(foreign(type="kubernetes.io/tls"), adopt=True)
    assert "it has type kubernetes.io/tls, and the SecretSync says Opaque" in error.problem
    assert error.remedy == "Set secretObject.type: kubernetes.io/tls, or delete the Secret."


def test_immutable_secret_of_another_is_not_adopted() -> None:
    """Keys cannot be added to it."""
    error = refusal(foreign(immutable=True), adopt=True)
    assert error.problem == "Secret shop/db cannot be adopted: it is immutable"


@pytest.mark.parametrize("adopt", [False, True])
def test_secret_of_the_other_group_is_a_conflict(adopt: bool) -> None:
    """A SecretSync of GKE has the same name. Neither takes it from the other."""
    other = replace(OWNER, api_version=str(GKE_GROUP), uid="gke-uid")
    error = refusal(live_secret(owners=(other,)), adopt=adopt)
    assert isinstance(error, SecretConflictError)
    assert error.owner_class == ""
    assert error.problem == ("Secret shop/db belongs to the SecretSync db of secret-sync.gke.io/v1")
    assert error.remedy == "Delete one of the two SecretSyncs."


def test_copied_secret_of_another_secret_sync_is_a_conflict() -> None:
    """Somebody copied a Secret with its metadata; the remedy does not cost the other one."""
    error = refusal(live_secret(owners=(replace(OWNER, name="other", uid="other-uid"),)))
    assert isinstance(error, SecretConflictError)
    assert error.problem.startswith("Secret shop/db belongs to the SecretSync other of")
    assert error.remedy == "Delete the Secret, or give the SecretSync another name."


@pytest.mark.parametrize("adopt", [False, True])
def test_secret_of_the_driver_is_a_conflict_while_a_class_names_it(adopt: bool) -> None:
    """The first owner keeps it."""
    error = refusal(of_driver(), adopt=adopt, class_name="web")
    assert isinstance(error, SecretConflictError)
    assert error.owner_class == "web"
    assert error.problem == (
        "Secret shop/db belongs to SecretProviderClass shop/web, whose secretObjects name it"
    )
    unknown = refusal(of_driver(annotations={}), adopt=adopt, class_name="api")
    assert isinstance(unknown, SecretConflictError)
    assert unknown.owner_class == "api"


def test_secret_of_the_driver_is_adopted_when_no_class_names_it() -> None:
    """Its pods still own it; the way from secretObjects to a SecretSync."""
    assert isinstance(refusal(of_driver()), SecretNotManagedError)
    assert Adopt() == plan(of_driver(), adopt=True)
    assert "it is immutable" in refusal(of_driver(immutable=True), adopt=True).problem


# --- the driver -----------------------------------------------------------------------------------


@pytest.mark.parametrize("adopt", [False, True])
def test_driver_does_not_write_the_secret_of_a_secret_sync(adopt: bool) -> None:
    """Also if its SecretProviderClass adopts existing Secrets."""
    claim = SecretClaim("web", "class-uid/3", datetime(2030, 1, 1, tzinfo=UTC), adopt=adopt)
    desired = wanted(claim=claim, owners=(POD,))
    with pytest.raises(SecretConflictError) as caught:
        plan_secret(for_live_secret(desired, live_secret()), live_secret())
    assert caught.value.problem == "Secret shop/db belongs to the SecretSync of its name"
    assert caught.value.remedy == "Remove it from secretObjects, or delete the SecretSync."
