"""Tests that every object store must pass.

A subclass provides the fixture `peer` and inherits the tests.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import pytest

from keyferry.content import ObjectVersion
from keyferry.errors import (
    ClassInvalidError,
    ClassNotFoundError,
    SecretConflictError,
    SecretNotManagedError,
    StoreError,
)
from keyferry.kubernetes.objects import (
    ApplyOutcome,
    ClassRef,
    DesiredSecret,
    Event,
    EventType,
    OwnerReference,
    PodRef,
    PodStatus,
    RefreshCondition,
    SecretClaim,
)
from keyferry.kubernetes.store import ObjectStore
from keyferry.records import replace
from tests.fakes.kube_api import class_manifest

POD = PodRef("shop", "web-0", "0b5c-uid")


STATUS = PodStatus(
    namespace="shop",
    name="web-0-shop-web",
    pod=POD,
    class_name="web",
    target_path="/pods/1/mount",
    node="node-1",
    objects=(ObjectVersion("secret/a", "v1"), ObjectVersion("secret/b", "")),
)


REPLICA_SET = OwnerReference("apps/v1", "ReplicaSet", "web-5d8", "rs-uid")


OTHER_REPLICA_SET = OwnerReference("apps/v1", "ReplicaSet", "web-777", "rs-uid-7")


SECRET = DesiredSecret(
    namespace="shop",
    name="db",
    type="Opaque",
    data={"password": b"canary\xff\n", "user": b"me"},
    labels={"environment": "test"},
    annotations={"note": "yes"},
    owners=(REPLICA_SET,),
)


FETCHED_AT = datetime(2030, 1, 1, 12, tzinfo=UTC)


REFRESH_CONDITION = RefreshCondition(
    FETCHED_AT, FETCHED_AT + timedelta(hours=1), "AccessDenied", "stage vault: no"
)


CLAIM = SecretClaim("web", "class-uid/3", FETCHED_AT, contenders=frozenset({"api"}))


CLAIMED_SECRET = replace(SECRET, claim=CLAIM)
"""The Secret from SecretProviderClass `web`; `api` names it too."""


ADOPTING_SECRET = replace(CLAIMED_SECRET, claim=replace(CLAIM, adopt=True))
"""The same for a SecretProviderClass that adopts an existing Secret."""


MANAGED_LABEL = "secrets-store.csi.k8s.io/managed"


THEIR_LABELS = {"app.kubernetes.io/part-of": "argocd"}


THEIR_SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {
        "name": "db",
        "namespace": "shop",
        "labels": THEIR_LABELS,
        "annotations": {"team": "blue"},
    },
    "type": "Opaque",
    "data": {"password": "dGhlaXJz", "more": "dGhlaXJz"},
}
"""A Secret that somebody else created."""


class StorePeer(Protocol):
    """A store under test, and its backend."""

    @property
    def store(self) -> ObjectStore:
        """The store under test."""

    async def put(self, manifest: Mapping[str, Any]) -> None:
        """Apply a SecretProviderClass or a Secret, as a user does."""

    async def read(self, kind: str, namespace: str, name: str) -> Mapping[str, Any] | None:
        """Return an object; `kind` is a Kubernetes kind such as Secret."""

    async def events(self) -> Sequence[Mapping[str, Any]]:
        """Return all events after the pending ones are written."""


def owner_uids(manifest: Mapping[str, Any] | None) -> list[str]:
    """Return the uids of the owners of a Secret."""
    assert manifest is not None
    return [owner["uid"] for owner in manifest["metadata"].get("ownerReferences", [])]


def decoded_data(manifest: Mapping[str, Any] | None) -> dict[str, bytes]:
    """Return the decoded data of a Secret."""
    assert manifest is not None
    return {key: b64decode(value) for key, value in manifest["data"].items()}


class StoreContract:
    """The tests."""

    async def test_applied_class_is_read_unchanged(self, peer: StorePeer) -> None:
        """With its provider, parameters and namespace."""
        await peer.put(class_manifest("web"))
        found = await peer.store.get_class("shop", "web")
        assert ("shop", "web", "azure", {"x": "y"}) == (
            found.namespace,
            found.name,
            found.provider,
            dict(found.parameters),
        )

    async def test_missing_class_is_reported_with_upstream_text(self, peer: StorePeer) -> None:
        """Users search for this text."""
        with pytest.raises(ClassNotFoundError) as caught:
            await peer.store.get_class("shop", "web")
        assert (
            "failed to get secretproviderclass shop/web: "
            'secretproviderclasses.secrets-store.csi.x-k8s.io "web" not found'
        ) == caught.value.problem

    async def test_class_of_another_namespace_is_not_used(self, peer: StorePeer) -> None:
        """A SecretProviderClass must be in the namespace of the pod."""
        await peer.put(class_manifest("web", namespace="other"))
        with pytest.raises(ClassNotFoundError):
            await peer.store.get_class("shop", "web")

    async def test_applied_pod_status_is_read_unchanged(self, peer: StorePeer) -> None:
        """An empty version is omitted and read as empty."""
        assert await peer.store.find_pod_status("shop", STATUS.name) is None
        owner = await peer.store.apply_pod_status(STATUS)
        assert await peer.store.find_pod_status("shop", STATUS.name) == STATUS
        assert ("SecretProviderClassPodStatus", STATUS.name) == (owner.kind, owner.name)
        assert owner.uid

    async def test_pod_status_of_a_new_pod_replaces_that_of_its_predecessor(
        self, peer: StorePeer
    ) -> None:
        """A StatefulSet reuses the pod name; only the new pod owns the status."""
        await peer.store.apply_pod_status(STATUS)
        again = replace(
            STATUS, pod=PodRef("shop", "web-0", "new-uid"), objects=(ObjectVersion("a", "2"),)
        )
        await peer.store.apply_pod_status(again)
        manifest = await peer.read("SecretProviderClassPodStatus", "shop", STATUS.name)
        assert manifest is not None
        assert ["new-uid"] == owner_uids(manifest)
        assert [{"id": "a", "version": "2"}] == manifest["status"]["objects"]

    async def test_pod_status_has_the_condition_of_its_volume(self, peer: StorePeer) -> None:
        """In addition to upstream's fields; writing those does not remove the condition."""
        await peer.store.apply_refresh_condition("shop", STATUS.name, REFRESH_CONDITION)
        assert await peer.read("SecretProviderClassPodStatus", "shop", STATUS.name) is None
        await peer.store.apply_pod_status(STATUS)
        await peer.store.apply_refresh_condition("shop", STATUS.name, REFRESH_CONDITION)
        await peer.store.apply_pod_status(replace(STATUS, objects=(ObjectVersion("a", "2"),)))
        manifest = await peer.read("SecretProviderClassPodStatus", "shop", STATUS.name)
        assert manifest is not None
        assert [{"id": "a", "version": "2"}] == manifest["status"]["objects"]
        assert "2030-01-01T12:00:00Z" == manifest["status"]["lastRefreshTime"]
        assert [
            {
                "type": "Refreshed",
                "status": "False",
                "reason": "AccessDenied",
                "message": "stage vault: no",
                "lastTransitionTime": "2030-01-01T13:00:00Z",
            }
        ] == manifest["status"]["conditions"]
        again = replace(REFRESH_CONDITION, reason="Refreshed", message="")
        await peer.store.apply_refresh_condition("shop", STATUS.name, again)
        manifest = await peer.read("SecretProviderClassPodStatus", "shop", STATUS.name)
        assert manifest is not None
        assert ["True"] == [one["status"] for one in manifest["status"]["conditions"]]

    async def test_created_secret_has_the_managed_label(self, peer: StorePeer) -> None:
        """With the configured labels and annotations, and the label of managed Secrets."""
        assert (await peer.store.apply_secret(SECRET)).changed
        manifest = await peer.read("Secret", "shop", "db")
        assert manifest is not None
        assert dict(SECRET.data) == decoded_data(manifest)
        assert {"environment": "test", MANAGED_LABEL: "true"} == manifest["metadata"]["labels"]
        assert {"note": "yes"} == manifest["metadata"]["annotations"]
        assert ["rs-uid"] == owner_uids(manifest)

    async def test_equal_secret_is_not_written(self, peer: StorePeer) -> None:
        """Watchers are not notified."""
        await peer.store.apply_secret(SECRET)
        assert not (await peer.store.apply_secret(SECRET)).changed

    async def test_secret_is_synced_with_its_files(self, peer: StorePeer) -> None:
        """Values change; keys, labels and annotations that are no longer configured are removed."""
        await peer.store.apply_secret(SECRET)
        changed = replace(SECRET, data={"password": b"2"}, labels={}, annotations={})
        assert (await peer.store.apply_secret(changed)).changed
        manifest = await peer.read("Secret", "shop", "db")
        assert manifest is not None
        assert {"password": b"2"} == decoded_data(manifest)
        assert {MANAGED_LABEL: "true"} == manifest["metadata"]["labels"]
        assert {} == manifest["metadata"].get("annotations", {})

    async def test_owners_are_added_to_existing_owners(self, peer: StorePeer) -> None:
        """A Secret that two Deployments share is deleted after both are deleted."""
        await peer.store.apply_secret(SECRET)
        assert (await peer.store.apply_secret(replace(SECRET, owners=(OTHER_REPLICA_SET,)))).changed
        assert not (await peer.store.apply_secret(SECRET)).changed
        found = await peer.read("Secret", "shop", "db")
        assert ["rs-uid", "rs-uid-7"] == sorted(owner_uids(found))

    async def test_unmanaged_secret_is_refused(self, peer: StorePeer) -> None:
        """It is not changed."""
        theirs = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "db", "namespace": "shop"},
            "type": "Opaque",
            "data": {"password": "dGhlaXJz"},
        }
        await peer.put(theirs)
        with pytest.raises(StoreError) as caught:
            await peer.store.apply_secret(SECRET)
        assert "Secret shop/db is not managed by Keyferry" in str(caught.value)
        assert {"password": b"theirs"} == decoded_data(await peer.read("Secret", "shop", "db"))

    async def test_secret_with_a_new_type_keeps_its_owners(self, peer: StorePeer) -> None:
        """The type is immutable, so the Secret is recreated with all owners."""
        await peer.store.apply_secret(SECRET)
        changed = replace(SECRET, type="example.com/custom", owners=(OTHER_REPLICA_SET,))
        assert (await peer.store.apply_secret(changed)).changed
        manifest = await peer.read("Secret", "shop", "db")
        assert manifest is not None
        assert "example.com/custom" == manifest["type"]
        assert ["rs-uid", "rs-uid-7"] == sorted(owner_uids(manifest))

    async def test_secret_names_its_class_and_fetch_time(self, peer: StorePeer) -> None:
        """In annotations, which do not count as a change."""
        assert ApplyOutcome.CREATED is (await peer.store.apply_secret(CLAIMED_SECRET)).outcome
        manifest = await peer.read("Secret", "shop", "db")
        assert manifest is not None
        assert {
            "note": "yes",
            "keyferry.dev/class": "web",
            "keyferry.dev/class-version": "class-uid/3",
            "keyferry.dev/fetched-at": "2030-01-01T12:00:00.000000+00:00",
        } == manifest["metadata"]["annotations"]
        later = replace(
            CLAIM, class_version="class-uid/4", fetched_at=FETCHED_AT + timedelta(hours=1)
        )
        again = await peer.store.apply_secret(replace(SECRET, claim=later))
        assert ApplyOutcome.UNCHANGED is again.outcome

    async def test_class_that_owns_a_secret_keeps_it(self, peer: StorePeer) -> None:
        """Until it no longer names the Secret."""
        await peer.store.apply_secret(CLAIMED_SECRET)
        other = replace(CLAIM, class_name="api", contenders=frozenset({"web"}))
        with pytest.raises(SecretConflictError) as caught:
            await peer.store.apply_secret(replace(SECRET, data={"x": b"1"}, claim=other))
        assert "web" == caught.value.owner_class
        free = replace(other, contenders=frozenset())
        taken = await peer.store.apply_secret(replace(SECRET, data={"x": b"1"}, claim=free))
        assert ApplyOutcome.UPDATED is taken.outcome
        found = await peer.read("Secret", "shop", "db")
        assert {"x": b"1"} == decoded_data(found)

    async def test_adopted_secret_keeps_what_others_wrote(self, peer: StorePeer) -> None:
        """Keyferry adds its keys, labels and annotations, and no owner."""
        await peer.put(THEIR_SECRET)
        with pytest.raises(SecretNotManagedError):
            await peer.store.apply_secret(CLAIMED_SECRET)
        applied = await peer.store.apply_secret(ADOPTING_SECRET)
        assert ApplyOutcome.ADOPTED is applied.outcome
        assert ("password",) == applied.replaced_keys
        found = await peer.read("Secret", "shop", "db")
        assert dict(SECRET.data) | {"more": b"theirs"} == decoded_data(found)
        assert found is not None
        labels, annotations = found["metadata"]["labels"], found["metadata"]["annotations"]
        assert ("argocd", "test", "true") == (
            labels["app.kubernetes.io/part-of"],
            labels["environment"],
            labels[MANAGED_LABEL],
        )
        assert ("blue", "yes") == (annotations["team"], annotations["note"])
        assert not (await peer.store.apply_secret(ADOPTING_SECRET)).changed
        live = await peer.store.find_secret("shop", "db")
        assert live is not None
        assert live.adopted

    async def test_adopted_secret_is_updated(self, peer: StorePeer) -> None:
        """Keys that are no longer configured are removed; those of others are kept."""
        await peer.put(THEIR_SECRET)
        await peer.store.apply_secret(ADOPTING_SECRET)
        changed = replace(
            ADOPTING_SECRET, data={"user": b"you", "more": b"mine"}, labels={}, annotations={}
        )
        assert (
            ApplyOutcome.UPDATED
            is (
                applied := await peer.store.apply_secret(replace(changed, claim=later_adoption()))
            ).outcome
        )
        assert ("more",) == applied.replaced_keys
        found = await peer.read("Secret", "shop", "db")
        assert {"user": b"you", "more": b"mine"} == decoded_data(found)
        assert found is not None
        assert THEIR_LABELS | {MANAGED_LABEL: "true"} == found["metadata"]["labels"]
        assert not (await peer.store.apply_secret(replace(changed, claim=later_adoption()))).changed

    async def test_released_secret_is_as_others_left_it(self, peer: StorePeer) -> None:
        """Everything that Keyferry wrote is removed; a replaced value is lost."""
        await peer.put(THEIR_SECRET)
        before = await peer.read("Secret", "shop", "db")
        assert before is not None
        await peer.store.apply_secret(ADOPTING_SECRET)
        live = await peer.store.find_secret("shop", "db")
        assert live is not None
        assert await peer.store.release_secret("shop", "db", live)
        found = await peer.read("Secret", "shop", "db")
        assert {"more": b"theirs"} == decoded_data(found)
        assert found is not None
        assert THEIR_LABELS == found["metadata"]["labels"]
        # `kubectl apply` adds an annotation of its own.
        assert before["metadata"]["annotations"] == found["metadata"]["annotations"]
        assert "blue" == found["metadata"]["annotations"]["team"]
        assert [] == owner_uids(found)
        assert "Opaque" == found["type"]
        free = await peer.store.find_secret("shop", "db")
        assert free is not None
        assert not free.managed

    async def test_changed_secret_is_not_released(self, peer: StorePeer) -> None:
        """As with a deletion, the caller checks again."""
        await peer.put(THEIR_SECRET)
        await peer.store.apply_secret(ADOPTING_SECRET)
        live = await peer.store.find_secret("shop", "db")
        assert live is not None
        changed = replace(ADOPTING_SECRET, data={"user": b"you"}, claim=later_adoption())
        await peer.store.apply_secret(changed)
        assert not await peer.store.release_secret("shop", "db", live)
        assert b"you" == decoded_data(await peer.read("Secret", "shop", "db"))["user"]

    @pytest.mark.parametrize(
        ("theirs", "problem"),
        [
            ({"type": "example.com/own"}, "has type example.com/own"),
            ({"immutable": True}, "is immutable"),
        ],
    )
    async def test_secret_that_cannot_be_adopted_is_refused(
        self, peer: StorePeer, theirs: Mapping[str, Any], problem: str
    ) -> None:
        """Keyferry would have to delete it first."""
        await peer.put({**THEIR_SECRET, **theirs})
        with pytest.raises(SecretNotManagedError, match=problem):
            await peer.store.apply_secret(ADOPTING_SECRET)
        found = await peer.read("Secret", "shop", "db")
        assert {"password": b"theirs", "more": b"theirs"} == decoded_data(found)

    async def test_temporary_owner_is_replaced_by_the_owners(self, peer: StorePeer) -> None:
        """The pod status was the owner while the pod was unknown."""
        await peer.store.apply_secret(replace(CLAIMED_SECRET, owners=(OTHER_REPLICA_SET,)))
        corrected = replace(
            CLAIMED_SECRET,
            owners=(REPLICA_SET,),
            removed_owner_uids=frozenset({OTHER_REPLICA_SET.uid}),
        )
        assert (await peer.store.apply_secret(corrected)).changed
        assert ["rs-uid"] == owner_uids(await peer.read("Secret", "shop", "db"))
        assert not (await peer.store.apply_secret(corrected)).changed

    async def test_secret_is_deleted_only_in_the_version_that_was_read(
        self, peer: StorePeer
    ) -> None:
        """A Secret that changed meanwhile is not deleted."""
        await peer.store.apply_secret(CLAIMED_SECRET)
        seen = await peer.store.find_secret("shop", "db")
        assert seen is not None
        assert "web" == seen.owner_class
        await peer.store.apply_secret(
            replace(CLAIMED_SECRET, data={"x": b"1"}, claim=later_claim())
        )
        assert not await peer.store.delete_secret("shop", "db", seen)
        seen = await peer.store.find_secret("shop", "db")
        assert seen is not None
        assert await peer.store.delete_secret("shop", "db", seen)
        assert await peer.read("Secret", "shop", "db") is None
        assert await peer.store.delete_secret("shop", "db", seen)

    async def test_event_can_refer_to_a_class(self, peer: StorePeer) -> None:
        """`kubectl describe secretproviderclass` shows it."""
        about = ClassRef("shop", "web", "class-uid")
        await peer.store.record_event(Event(about, EventType.WARNING, "SecretConflict", "x"))
        [found] = await peer.events()
        assert {
            "apiVersion": "secrets-store.csi.x-k8s.io/v1",
            "kind": "SecretProviderClass",
            "name": "web",
            "namespace": "shop",
            "uid": "class-uid",
        } == found["involvedObject"]

    async def test_repeated_event_is_counted(self, peer: StorePeer) -> None:
        """`kubectl describe` shows one line with a count."""
        event = Event(POD, EventType.WARNING, "FailedToCreateSecret", "the key is missing")
        for _ in range(3):
            await peer.store.record_event(event)
        [found] = await peer.events()
        assert ("Warning", "FailedToCreateSecret", "the key is missing", 3) == (
            found["type"],
            found["reason"],
            found["message"],
            found["count"],
        )
        assert "0b5c-uid" == found["involvedObject"]["uid"]

    async def test_invalid_names_are_refused(self, peer: StorePeer) -> None:
        """They never become part of a path."""
        with pytest.raises(StoreError):
            await peer.store.apply_secret(replace(SECRET, name="../x"))
        with pytest.raises((StoreError, ClassNotFoundError, ClassInvalidError)):
            await peer.store.get_class("..", "web/x?y")


def later_adoption() -> SecretClaim:
    return replace(later_claim(), class_version="class-uid/4", adopt=True)


def later_claim() -> SecretClaim:
    return replace(CLAIM, fetched_at=FETCHED_AT + timedelta(hours=1))
