"""The requests that make a Secret that of a SecretSync."""

from __future__ import annotations

from typing import Any

from keyferry.kubernetes.api.secret_patch import (
    applied_content,
    created_content,
    follow_up_patch,
    planned_owners,
    release_fields,
    takeover_patch,
)
from keyferry.kubernetes.live_secret import (
    CLASS_ANNOTATION,
    UNUSED_SINCE_ANNOTATION,
    AppliedKeys,
    LiveSecret,
)
from keyferry.kubernetes.markings import MANAGED_LABEL, SYNC_LABEL, SYNC_MARKING
from keyferry.kubernetes.objects import DesiredSecret, OwnerReference, SyncClaim
from keyferry.records import replace

OWNER = OwnerReference("secret-sync.x-k8s.io/v1alpha1", "SecretSync", "db", "sync-uid")
PODS = tuple(OwnerReference("v1", "Pod", f"web-{n}", f"pod-{n}") for n in range(2))
REFERENCE = {
    "apiVersion": "secret-sync.x-k8s.io/v1alpha1",
    "kind": "SecretSync",
    "name": "db",
    "uid": "sync-uid",
}
"""Without `controller` and `blockOwnerDeletion`, as upstream writes it."""
DESIRED = DesiredSecret(
    "shop",
    "db",
    "Opaque",
    {"password": b"1"},
    {"environment": "test"},
    {},
    (OWNER,),
    claim=SyncClaim(OWNER),
)
LIVE = LiveSecret(
    uid="secret-uid",
    resource_version="7",
    type="Opaque",
    immutable=False,
    data={"password": "MQ==", "theirs": "Mg=="},
    labels={"environment": "test", SYNC_LABEL: ""},
    annotations={},
    owners=(OWNER,),
    applied_keys=AppliedKeys(),
    marking=SYNC_MARKING,
)


def live(**changes: Any) -> LiveSecret:
    return replace(LIVE, **changes)


def test_secret_sync_is_the_only_owner() -> None:
    """Other owners are removed."""
    assert (OWNER,) == planned_owners(DESIRED, live(owners=PODS))


def test_manifest_is_that_of_upstream() -> None:
    """It has no annotations of the driver, and must not meet another version of the Secret."""
    expected = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "db",
            "namespace": "shop",
            "labels": {"environment": "test", SYNC_LABEL: ""},
            "ownerReferences": [REFERENCE],
            "resourceVersion": "7",
        },
        "type": "Opaque",
        "data": {"password": "MQ=="},
    }
    assert expected == applied_content(DESIRED, LIVE)
    created: Any = created_content(DESIRED, None)
    assert created["metadata"]["resourceVersion"] != "7"
    assert expected["data"] == created["data"]


# --- takeover -------------------------------------------------------------------------------------


def test_own_secret_needs_no_takeover() -> None:
    """One apply does everything, also for an orphaned Secret."""
    assert takeover_patch(DESIRED, LIVE) is None
    assert takeover_patch(DESIRED, live(owners=())) is None


def test_secret_of_the_driver_changes_its_owner_with_one_patch() -> None:
    """Exactly one owner before and after; the marks of the driver are removed."""
    theirs = live(
        labels={MANAGED_LABEL: "true", "team": "blue"},
        annotations={CLASS_ANNOTATION: "web", "reviewed": "yes"},
        owners=PODS,
    )
    assert takeover_patch(DESIRED, theirs) == {
        "metadata": {
            "labels": {SYNC_LABEL: "", MANAGED_LABEL: None},
            "annotations": {CLASS_ANNOTATION: None},
            "ownerReferences": [
                REFERENCE,
                {"$patch": "delete", "uid": "pod-0"},
                {"$patch": "delete", "uid": "pod-1"},
            ],
            "resourceVersion": "7",
        }
    }


def test_second_owner_is_removed() -> None:
    """Server-side apply does not remove what another manager wrote."""
    patch: Any = takeover_patch(DESIRED, live(owners=(OWNER, PODS[0])))
    assert [REFERENCE, {"$patch": "delete", "uid": "pod-0"}] == patch["metadata"]["ownerReferences"]


def test_unlabeled_secret_is_labeled_before_its_content_changes() -> None:
    """Admission policies permit an update only with the label and the owner."""
    patch: Any = takeover_patch(DESIRED, live(labels={}, owners=()))
    assert {SYNC_LABEL: ""} == patch["metadata"]["labels"]
    assert [REFERENCE] == patch["metadata"]["ownerReferences"]


def test_driver_takes_nothing_over() -> None:
    """Its Secrets have many owners."""
    assert takeover_patch(replace(DESIRED, claim=None), live(owners=PODS)) is None


# --- afterwards -----------------------------------------------------------------------------------


def test_nothing_follows_an_apply() -> None:
    """Keys of others stay."""
    assert follow_up_patch(DESIRED, LIVE) is None
    assert follow_up_patch(DESIRED, LIVE, keep_data=True) is None


def test_owner_and_label_are_restored_although_drift_is_ignored() -> None:
    """Without them, the controller and the garbage collector do not find the Secret."""
    assert follow_up_patch(DESIRED, live(owners=(), labels={}), keep_data=True) == {
        "metadata": {"ownerReferences": [REFERENCE], "labels": {SYNC_LABEL: ""}}
    }
    assert follow_up_patch(DESIRED, live(owners=(OWNER, PODS[0])), keep_data=True) == {
        "metadata": {"ownerReferences": [{"$patch": "delete", "uid": "pod-0"}]}
    }


def test_mark_as_unused_is_removed() -> None:
    """The driver set it on a Secret that no pod used."""
    marked = live(annotations={UNUSED_SINCE_ANNOTATION: "2030-01-01T12:00:00Z"})
    assert follow_up_patch(DESIRED, marked) == {
        "metadata": {"annotations": {UNUSED_SINCE_ANNOTATION: None}}
    }


def test_release_names_the_one_secret() -> None:
    """An apply to a deleted Secret would create an empty one."""
    assert release_fields("shop", "db", LIVE) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "db",
            "namespace": "shop",
            "uid": "secret-uid",
            "resourceVersion": "7",
        },
    }
