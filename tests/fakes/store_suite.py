"""What every object store does, whatever it keeps its objects in.

A subclass gives the fixture `peer`; the tests come along.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
"""What class `web` makes of it, which class `api` names too."""


MANAGED_LABEL = "secrets-store.csi.k8s.io/managed"


class StorePeer(Protocol):
    """A store, and what stands behind it."""

    @property
    def store(self) -> ObjectStore:
        """The one under test."""

    async def put(self, manifest: Mapping[str, Any]) -> None:
        """Apply a class or a Secret as a person does."""

    async def read(self, kind: str, namespace: str, name: str) -> Mapping[str, Any] | None:
        """The object, `kind` in the words of `kind:`."""

    async def events(self) -> Sequence[Mapping[str, Any]]:
        """All events, once those that wait are written."""


def owner_uids(manifest: Mapping[str, Any] | None) -> list[str]:
    """The uids of its owners."""
    assert manifest is not None
    return [owner["uid"] for owner in manifest["metadata"].get("ownerReferences", [])]


def decoded_data(manifest: Mapping[str, Any] | None) -> dict[str, bytes]:
    """What a Secret holds."""
    assert manifest is not None
    return {key: b64decode(value) for key, value in manifest["data"].items()}


class StoreContract:
    """The suite."""

    async def test_a_class_is_read_as_it_was_applied(self, peer: StorePeer) -> None:
        """Provider and parameters arrive; the namespace is that of the class."""
        await peer.put(class_manifest("web"))
        found = await peer.store.get_class("shop", "web")
        assert ("shop", "web", "azure", {"x": "y"}) == (
            found.namespace,
            found.name,
            found.provider,
            dict(found.parameters),
        )

    async def test_a_class_that_is_nowhere_is_named_as_upstream_names_it(
        self, peer: StorePeer
    ) -> None:
        """People search for this text."""
        with pytest.raises(ClassNotFoundError) as caught:
            await peer.store.get_class("shop", "web")
        assert (
            "failed to get secretproviderclass shop/web: "
            'secretproviderclasses.secrets-store.csi.x-k8s.io "web" not found'
        ) == caught.value.problem

    async def test_a_class_of_another_namespace_is_not_taken(self, peer: StorePeer) -> None:
        """The class must be where the pod is."""
        await peer.put(class_manifest("web", namespace="other"))
        with pytest.raises(ClassNotFoundError):
            await peer.store.get_class("shop", "web")

    async def test_a_pod_status_is_read_back_as_it_was_applied(self, peer: StorePeer) -> None:
        """An empty version is left out and still is one."""
        assert await peer.store.find_pod_status("shop", STATUS.name) is None
        owner = await peer.store.apply_pod_status(STATUS)
        assert await peer.store.find_pod_status("shop", STATUS.name) == STATUS
        assert ("SecretProviderClassPodStatus", STATUS.name) == (owner.kind, owner.name)
        assert owner.uid

    async def test_a_pod_status_of_a_new_pod_replaces_that_of_the_old_one(
        self, peer: StorePeer
    ) -> None:
        """A pod of a StatefulSet comes back under its name; it owns the status alone."""
        await peer.store.apply_pod_status(STATUS)
        again = replace(
            STATUS, pod=PodRef("shop", "web-0", "new-uid"), objects=(ObjectVersion("a", "2"),)
        )
        await peer.store.apply_pod_status(again)
        manifest = await peer.read("SecretProviderClassPodStatus", "shop", STATUS.name)
        assert manifest is not None
        assert ["new-uid"] == owner_uids(manifest)
        assert [{"id": "a", "version": "2"}] == manifest["status"]["objects"]

    async def test_a_pod_status_tells_how_its_volume_fares(self, peer: StorePeer) -> None:
        """Beside what upstream has; what upstream has does not wipe it out."""
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

    async def test_a_secret_is_made_with_our_label(self, peer: StorePeer) -> None:
        """Labels and annotations of the class, and the label by which we know it."""
        assert (await peer.store.apply_secret(SECRET)).changed
        manifest = await peer.read("Secret", "shop", "db")
        assert manifest is not None
        assert dict(SECRET.data) == decoded_data(manifest)
        assert {"environment": "test", MANAGED_LABEL: "true"} == manifest["metadata"]["labels"]
        assert {"note": "yes"} == manifest["metadata"]["annotations"]
        assert ["rs-uid"] == owner_uids(manifest)

    async def test_an_equal_secret_is_not_changed(self, peer: StorePeer) -> None:
        """Whoever watches for changes is not woken up."""
        await peer.store.apply_secret(SECRET)
        assert not (await peer.store.apply_secret(SECRET)).changed

    async def test_a_secret_follows_its_files(self, peer: StorePeer) -> None:
        """Values change; keys, labels and annotations that are asked for no more go."""
        await peer.store.apply_secret(SECRET)
        changed = replace(SECRET, data={"password": b"2"}, labels={}, annotations={})
        assert (await peer.store.apply_secret(changed)).changed
        manifest = await peer.read("Secret", "shop", "db")
        assert manifest is not None
        assert {"password": b"2"} == decoded_data(manifest)
        assert {MANAGED_LABEL: "true"} == manifest["metadata"]["labels"]
        assert {} == manifest["metadata"].get("annotations", {})

    async def test_owners_are_added_to_those_that_are_there(self, peer: StorePeer) -> None:
        """Two Deployments share a Secret; it goes when both are gone."""
        await peer.store.apply_secret(SECRET)
        assert (await peer.store.apply_secret(replace(SECRET, owners=(OTHER_REPLICA_SET,)))).changed
        assert not (await peer.store.apply_secret(SECRET)).changed
        found = await peer.read("Secret", "shop", "db")
        assert ["rs-uid", "rs-uid-7"] == sorted(owner_uids(found))

    async def test_a_secret_of_somebody_else_is_refused(self, peer: StorePeer) -> None:
        """It is left as it is."""
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
        assert "Secret shop/db was not made by Keyferry" in str(caught.value)
        assert {"password": b"theirs"} == decoded_data(await peer.read("Secret", "shop", "db"))

    async def test_a_secret_that_changes_its_type_keeps_its_owners(self, peer: StorePeer) -> None:
        """Where a type cannot change it is made anew, for everybody who owned it."""
        await peer.store.apply_secret(SECRET)
        changed = replace(SECRET, type="example.com/custom", owners=(OTHER_REPLICA_SET,))
        assert (await peer.store.apply_secret(changed)).changed
        manifest = await peer.read("Secret", "shop", "db")
        assert manifest is not None
        assert "example.com/custom" == manifest["type"]
        assert ["rs-uid", "rs-uid-7"] == sorted(owner_uids(manifest))

    async def test_a_secret_tells_whose_it_is(self, peer: StorePeer) -> None:
        """The class, its version and the time of the fetch stand on it; that alone is no change."""
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

    async def test_the_class_that_has_a_secret_keeps_it(self, peer: StorePeer) -> None:
        """Until it names it no more, that is, until it is no rival."""
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

    async def test_a_secret_of_somebody_else_is_taken_over_if_the_class_says_so(
        self, peer: StorePeer
    ) -> None:
        """All of its content goes."""
        theirs = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "db", "namespace": "shop"},
            "type": "Opaque",
            "data": {"password": "dGhlaXJz", "more": "dGhlaXJz"},
        }
        await peer.put(theirs)
        with pytest.raises(SecretNotManagedError):
            await peer.store.apply_secret(CLAIMED_SECRET)
        await peer.store.apply_secret(replace(SECRET, claim=replace(CLAIM, adopt=True)))
        assert dict(SECRET.data) == decoded_data(await peer.read("Secret", "shop", "db"))
        assert not (await peer.store.apply_secret(CLAIMED_SECRET)).changed

    async def test_a_stand_in_for_the_owners_is_taken_out(self, peer: StorePeer) -> None:
        """The pod status stood in while the pod was not known."""
        await peer.store.apply_secret(replace(CLAIMED_SECRET, owners=(OTHER_REPLICA_SET,)))
        corrected = replace(
            CLAIMED_SECRET,
            owners=(REPLICA_SET,),
            removed_owner_uids=frozenset({OTHER_REPLICA_SET.uid}),
        )
        assert (await peer.store.apply_secret(corrected)).changed
        assert ["rs-uid"] == owner_uids(await peer.read("Secret", "shop", "db"))
        assert not (await peer.store.apply_secret(corrected)).changed

    async def test_a_secret_is_deleted_as_it_was_seen(self, peer: StorePeer) -> None:
        """One that has changed since stays."""
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

    async def test_an_event_can_be_about_a_class(self, peer: StorePeer) -> None:
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

    async def test_a_repeated_event_is_counted(self, peer: StorePeer) -> None:
        """One line for `kubectl describe`, however often it happened."""
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

    async def test_names_that_are_none_are_refused(self, peer: StorePeer) -> None:
        """They never become part of a path."""
        with pytest.raises(StoreError):
            await peer.store.apply_secret(replace(SECRET, name="../x"))
        with pytest.raises((StoreError, ClassNotFoundError, ClassInvalidError)):
            await peer.store.get_class("..", "web/x?y")


def later_claim() -> SecretClaim:
    return replace(CLAIM, fetched_at=FETCHED_AT + timedelta(hours=1))
