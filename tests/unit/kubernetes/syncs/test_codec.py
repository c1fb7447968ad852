"""keyferry.kubernetes.syncs.codec: SecretSyncs from manifests, and the patch of their status."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from keyferry.errors import SettingInvalidError
from keyferry.kubernetes.objects import OwnerReference, SecretKeyMapping, SecretObject
from keyferry.kubernetes.syncs.codec import parse_sync, status_patch
from keyferry.kubernetes.syncs.groups import GKE_GROUP, UPSTREAM_GROUP, SyncGroup
from keyferry.kubernetes.syncs.objects import (
    Condition,
    ConditionStatus,
    SecretSync,
    SyncedObject,
    SyncOptions,
    SyncRef,
    SyncStatus,
)
from keyferry.kubernetes.syncs.sync_errors import (
    ReservedAnnotationError,
    ReservedLabelError,
    SyncInvalidError,
)
from keyferry.records import replace
from tests.fakes.syncs import UID, served, sync_manifest

CRD = Path(__file__).parents[4] / "deploy" / "crds" / "secretsyncs.yaml"
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
ITEM = {"sourcePath": "password", "targetKey": "password"}


def parsed(**spec: Any) -> SecretSync:
    return parse_sync(served(sync_manifest(**spec)), UPSTREAM_GROUP)


def problem(**spec: Any) -> str:
    invalid = parsed(**spec).invalid
    return f"{invalid.problem}. {invalid.remedy}" if invalid else ""


# --- groups ---------------------------------------------------------------------------------------


def test_group_is_parsed_from_an_api_version() -> None:
    """And is written in the same way."""
    assert SyncGroup.parse(" secret-sync.gke.io/v1 ") == GKE_GROUP
    assert str(UPSTREAM_GROUP) == "secret-sync.x-k8s.io/v1alpha1"
    assert GKE_GROUP.resource == "secretsyncs.secret-sync.gke.io"


@pytest.mark.parametrize("text", ["", "v1", "x.io/", "x.io/v1/", "x.io/1", "X.io/v1", "/v1"])
def test_invalid_group_is_rejected(text: str) -> None:
    """It would become part of a URL."""
    with pytest.raises(SettingInvalidError, match="is not an API group and version"):
        SyncGroup.parse(text)


# --- the spec -------------------------------------------------------------------------------------


def test_whole_secret_sync_is_parsed() -> None:
    """With all fields that the CRD has."""
    manifest = sync_manifest(
        secretSyncControllerName=" keyferry ",
        forceSynchronization="x2",
        secretObject={
            "type": "kubernetes.io/tls",
            "data": [
                {"sourcePath": "cert/tls.crt", "targetKey": "tls.crt"},
                {"sourcePath": "cert/tls.key", "targetKey": "tls.key"},
            ],
            "labels": {"app": "web"},
            "annotations": {"note": "x"},
        },
    )
    sync = parse_sync(served(manifest), UPSTREAM_GROUP)
    assert sync == SecretSync(
        ref=SyncRef(UPSTREAM_GROUP, "shop", "web", UID),
        class_name="vault",
        service_account="web",
        controller_name="keyferry",
        force_synchronization="x2",
        secret_object=SecretObject(
            "web",
            "kubernetes.io/tls",
            (
                SecretKeyMapping("cert/tls.crt", "tls.crt"),
                SecretKeyMapping("cert/tls.key", "tls.key"),
            ),
            labels={"app": "web"},
            annotations={"note": "x"},
        ),
        generation=3,
        created_at=NOON,
    )
    assert sync.unknown_fields == ()
    assert sync.ref.key == (UPSTREAM_GROUP, "shop", "web")
    assert sync.owner == OwnerReference("secret-sync.x-k8s.io/v1alpha1", "SecretSync", "web", UID)


def test_type_of_the_secret_is_opaque_by_default() -> None:
    """As in the CRD."""
    assert parsed(secretObject={"data": [ITEM]}).secret_object.type == "Opaque"


def test_deleted_secret_sync_is_terminating() -> None:
    """It has a deletionTimestamp while a finalizer exists."""
    manifest = served(sync_manifest())
    assert not parse_sync(manifest, UPSTREAM_GROUP).terminating
    manifest["metadata"]["deletionTimestamp"] = "2030-01-01T12:00:00Z"
    assert parse_sync(manifest, UPSTREAM_GROUP).terminating


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"secretProviderClassName": ""}, "spec.secretProviderClassName is not set. Write the"),
        ({"secretProviderClassName": "../x"}, "spec.secretProviderClassName '../x' must consist"),
        ({"serviceAccountName": None}, "spec.serviceAccountName is not set. Write the name of a"),
        ({"serviceAccountName": 3}, "spec.serviceAccountName is a number, not text. Put it in"),
        ({"secretObject": None}, "spec.secretObject.data is empty. Add an item with sourcePath"),
        ({"secretObject": []}, "spec.secretObject is a list, not a mapping. Indent its fields"),
        (
            {"secretObject": {"data": [{**ITEM, "sourcePath": "../x"}]}},
            "spec.secretObject.data[0].sourcePath '../x' leads out of the volume",
        ),
        (
            {"secretObject": {"data": [ITEM, {**ITEM, "targetKey": "a/b"}]}},
            "spec.secretObject.data[1].targetKey 'a/b' is not a valid key of a Secret. Use letters",
        ),
        (
            {"secretObject": {"data": [ITEM, ITEM]}},
            "spec.secretObject.data[1].targetKey 'password' occurs twice. Write one item for each",
        ),
    ],
)
def test_invalid_field_is_named_with_its_remedy(spec: dict[str, Any], expected: str) -> None:
    """The CRD of another controller may accept it."""
    assert problem(**spec).startswith(expected)
    invalid = parsed(**spec).invalid
    assert invalid is not None
    assert type(invalid.error()) is SyncInvalidError


def test_invalid_secret_sync_still_says_who_handles_it() -> None:
    """The controller must report the invalid field, and no other controller."""
    sync = parsed(secretSyncControllerName="theirs", secretObject=[])
    assert sync.controller_name == "theirs"
    assert sync.class_name == "vault"


def test_equal_invalid_secret_syncs_are_equal() -> None:
    """A new list must not look like a change."""
    assert parsed(secretObject=[]) == parsed(secretObject=[])


@pytest.mark.parametrize("key", ["secrets-store.sync.x-k8s.io", "secrets-store.sync.x-k8s.io/x"])
def test_reserved_label_and_annotation_are_rejected(key: str) -> None:
    """Each with its own error, because upstream has a reason for each."""
    for field, kind in (("labels", ReservedLabelError), ("annotations", ReservedAnnotationError)):
        invalid = parsed(secretObject={"data": [ITEM], field: {key: "x"}}).invalid
        assert invalid is not None
        assert f"{key} is reserved" in invalid.problem
        assert type(invalid.error()) is kind


def test_label_of_the_controller_without_a_value_is_accepted() -> None:
    """Upstream accepts it, and it is what the controller sets."""
    labels = {"secrets-store.sync.x-k8s.io": ""}
    assert problem(secretObject={"data": [ITEM], "labels": labels}) == ""


@pytest.mark.parametrize("field", ["name", "namespace", "uid"])
def test_object_without_identity_is_no_secret_sync(field: str) -> None:
    """Something else than an API server answers."""
    manifest = served(sync_manifest())
    del manifest["metadata"][field]
    with pytest.raises(SyncInvalidError, match="metadata has no namespace, name or uid"):
        parse_sync(manifest, UPSTREAM_GROUP)
    with pytest.raises(SyncInvalidError, match="metadata is text, not a mapping"):
        parse_sync({"metadata": "x"}, UPSTREAM_GROUP)


# --- annotations ----------------------------------------------------------------------------------


def test_annotations_are_options() -> None:
    """Those of other programs are ignored."""
    annotations = {
        "keyferry.dev/credentials-secret": "creds",
        "keyferry.dev/adopt": "true",
        "keyferry.dev/drift": "ignore",
        "keyferry.dev/refresh": " x ",
        "keyferry.dev/refresh-interval": "10m",
        "example.com/adopt": "x",
    }
    sync = parsed(annotations=annotations)
    assert sync.options == SyncOptions(
        credentials_secret="creds",
        adopts=True,
        ignores_drift=True,
        refresh_mark=" x ",
        refresh_interval=600.0,
    )
    assert sync.unknown_fields == ()


def test_refresh_can_be_turned_off() -> None:
    """With a word, because 0 would mean "at once" to many."""
    assert parsed(annotations={"keyferry.dev/refresh-interval": "never"}).options == SyncOptions(
        refresh_interval=0.0
    )
    assert parsed().options.refresh_interval is None


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("adopt", "yes", 'Write "true", or remove it.'),
        ("drift", "Ignore", 'Write "ignore", or remove it.'),
        ("refresh-interval", "10", 'Write a duration such as 10m, or "never".'),
        ("refresh-interval", "0", 'Write a duration such as 10m, or "never".'),
        ("refresh-interval", "-5m", 'Write a duration such as 10m, or "never".'),
    ],
)
def test_invalid_value_of_an_annotation_has_no_effect(name: str, value: str, remedy: str) -> None:
    """It is reported with the remedy."""
    sync = parsed(annotations={f"keyferry.dev/{name}": value})
    assert sync.invalid is None
    (found,) = sync.options.problems
    assert found == f"Annotation keyferry.dev/{name} has no effect: {value!r} is invalid. {remedy}"
    assert replace(sync.options, problems=()) == SyncOptions()


def test_invalid_name_of_credentials_makes_the_secret_sync_invalid() -> None:
    """It must not be synced with another identity."""
    sync = parsed(annotations={"keyferry.dev/credentials-secret": "a/b"})
    assert sync.invalid is not None
    assert sync.invalid.problem.startswith("annotation keyferry.dev/credentials-secret: 'a/b' must")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"annotations": {"keyferry.dev/adopts": "true"}},
            (
                "unknown field metadata.annotations.keyferry.dev/adopts: did you mean"
                " keyferry.dev/adopt?"
            ),
        ),
        (
            {"annotations": {"keyferry.dev/adopt-secrets": "x"}},
            (
                "unknown field metadata.annotations.keyferry.dev/adopt-secrets: did you mean"
                " keyferry.dev/adopt?"
            ),
        ),
        (
            {"annotations": {"keyferry.dev/refresh-intervall": "5m"}},
            (
                "unknown field metadata.annotations.keyferry.dev/refresh-intervall: did you mean"
                " keyferry.dev/refresh-interval?"
            ),
        ),
        (
            {"refreshInterval": "5m"},
            (
                "spec.refreshInterval has no effect: set the annotation"
                " keyferry.dev/refresh-interval instead"
            ),
        ),
        (
            {"parameters": {}},
            "spec.parameters has no effect: it belongs to the SecretProviderClass",
        ),
        (
            {"secretObject": {"data": [ITEM], "secretName": "x"}},
            "spec.secretObject.secretName has no effect: the Secret has the name of the SecretSync",
        ),
        (
            {"secretObject": {"data": [{**ITEM, "objectName": "x"}]}},
            "unknown field spec.secretObject.data[0].objectName",
        ),
    ],
)
def test_unknown_field_is_reported(changes: dict[str, Any], expected: str) -> None:
    """Annotations of Keyferry, too, because no schema knows them."""
    assert [expected] == [str(found) for found in parsed(**changes).unknown_fields]


# --- the status -----------------------------------------------------------------------------------

STATUS = SyncStatus(
    conditions=(
        Condition("Ready", ConditionStatus.TRUE, "SecretUpToDate", "Fine.", NOON, 3),
        Condition("Theirs", ConditionStatus.UNKNOWN, "Whatever", "", NOON),
    ),
    observed_generation=3,
    sync_hash="kf1:abc",
    last_success=NOON,
    last_attempt=NOON + timedelta(minutes=1),
    lease_holder="keyferry-sync-0",
    objects=(SyncedObject("secret/a", "v1", expires=NOON), SyncedObject("secret/b", "v2")),
    observed_force="x2",
    observed_refresh="r",
    observed_class="uid/4",
    observed_secret="uid/77",
)


def test_status_survives_writing_and_reading() -> None:
    """With conditions of other writers."""
    patch = status_patch(STATUS)
    assert parse_sync({**served(sync_manifest()), **patch}, UPSTREAM_GROUP).status == STATUS


def test_crd_has_every_field_of_the_patch() -> None:
    """The API server drops the others, and the next process would not know them."""
    crd = yaml.safe_load(CRD.read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]

    def check(value: Any, schema: dict[str, Any]) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                assert key in schema["properties"]
                check(item, schema["properties"][key])
        elif isinstance(value, list):
            for item in value:
                check(item, schema["items"])

    check(status_patch(STATUS)["status"], schema)


def test_patch_has_times_of_kubernetes() -> None:
    """Whole seconds of UTC."""
    precise = replace(STATUS, last_success=datetime.fromisoformat("2030-01-01T13:00:00.7+01:00"))
    patch = status_patch(precise)["status"]
    assert isinstance(patch, dict)
    assert patch["lastSuccessfulSyncTime"] == "2030-01-01T12:00:00Z"
    assert patch["conditions"] == [
        {
            "type": "Ready",
            "status": "True",
            "reason": "SecretUpToDate",
            "message": "Fine.",
            "lastTransitionTime": "2030-01-01T12:00:00Z",
            "observedGeneration": 3,
        },
        {
            "type": "Theirs",
            "status": "Unknown",
            "reason": "Whatever",
            "message": "",
            "lastTransitionTime": "2030-01-01T12:00:00Z",
        },
    ]
    assert patch["observedClass"] == {"uid": "uid", "generation": 4}
    assert patch["observedSecret"] == {"uid": "uid", "resourceVersion": "77"}
    assert patch["objects"] == [
        {"id": "secret/a", "version": "v1", "expires": "2030-01-01T12:00:00Z"},
        {"id": "secret/b", "version": "v2"},
    ]


def test_patch_removes_what_is_unknown_but_the_last_success() -> None:
    """A failure before the first success knows of no success, but an earlier controller may."""
    assert status_patch(SyncStatus()) == {
        "status": {
            "conditions": [],
            "observedGeneration": None,
            "syncHash": None,
            "objects": [],
            "observedForceSynchronization": None,
            "observedRefresh": None,
            "leaseHolder": None,
            "observedClass": None,
            "observedSecret": None,
        }
    }


def test_status_of_another_shape_is_unknown() -> None:
    """A CRD without a schema may hold anything; the SecretSync is synced all the same."""
    sync = parse_sync(served(sync_manifest(), conditions="x", syncHash="h"), UPSTREAM_GROUP)
    assert sync.status == SyncStatus()
    assert sync.invalid is None


def test_time_without_a_zone_is_unknown() -> None:
    """It cannot be compared."""
    status = {"lastSuccessfulSyncTime": "2030-01-01T12:00:00", "lastAttemptTime": "yesterday"}
    assert parse_sync(served(sync_manifest(), **status), UPSTREAM_GROUP).status == SyncStatus()


def test_status_is_no_part_of_what_a_secret_sync_asks_for() -> None:
    """The controller must not react to its own status."""
    plain = served(sync_manifest())
    assert parse_sync(plain, UPSTREAM_GROUP) == parse_sync(
        {**plain, **status_patch(STATUS)}, UPSTREAM_GROUP
    )
