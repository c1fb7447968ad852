"""What every object store does, whatever it keeps its objects in.

A subclass gives the fixture `peer`; the tests come along.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import pytest

from keyferry.contract import ObjectVersion
from keyferry.errors import ClassInvalidError, ClassNotFoundError, StoreError
from keyferry.store.interface import (
    Event,
    EventType,
    ObjectStore,
    OwnerReference,
    PodRef,
    PodStatus,
    SecretManifest,
)
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
REPLICAS = OwnerReference("apps/v1", "ReplicaSet", "web-5d8", "rs-uid")
OTHERS = OwnerReference("apps/v1", "ReplicaSet", "web-777", "rs-uid-7")
SECRET = SecretManifest(
    namespace="shop",
    name="db",
    type="Opaque",
    data={"password": b"canary\xff\n", "user": b"me"},
    labels={"environment": "test"},
    annotations={"note": "yes"},
    owners=(REPLICAS,),
)
MANAGED = "secrets-store.csi.k8s.io/managed"


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


def owners_of(manifest: Mapping[str, Any] | None) -> list[str]:
    """The uids of its owners."""
    assert manifest is not None
    return [owner["uid"] for owner in manifest["metadata"].get("ownerReferences", [])]


def data_of(manifest: Mapping[str, Any] | None) -> dict[str, bytes]:
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
        assert ["new-uid"] == owners_of(manifest)
        assert [{"id": "a", "version": "2"}] == manifest["status"]["objects"]

    async def test_a_secret_is_made_with_our_label(self, peer: StorePeer) -> None:
        """Labels and annotations of the class, and the label by which we know it."""
        assert (await peer.store.apply_secret(SECRET)).changed
        manifest = await peer.read("Secret", "shop", "db")
        assert manifest is not None
        assert dict(SECRET.data) == data_of(manifest)
        assert {"environment": "test", MANAGED: "true"} == manifest["metadata"]["labels"]
        assert {"note": "yes"} == manifest["metadata"]["annotations"]
        assert ["rs-uid"] == owners_of(manifest)

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
        assert {"password": b"2"} == data_of(manifest)
        assert {MANAGED: "true"} == manifest["metadata"]["labels"]
        assert {} == manifest["metadata"].get("annotations", {})

    async def test_owners_are_added_to_those_that_are_there(self, peer: StorePeer) -> None:
        """Two Deployments share a Secret; it goes when both are gone."""
        await peer.store.apply_secret(SECRET)
        assert (await peer.store.apply_secret(replace(SECRET, owners=(OTHERS,)))).changed
        assert not (await peer.store.apply_secret(SECRET)).changed
        found = await peer.read("Secret", "shop", "db")
        assert ["rs-uid", "rs-uid-7"] == sorted(owners_of(found))

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
        assert {"password": b"theirs"} == data_of(await peer.read("Secret", "shop", "db"))

    async def test_a_secret_that_changes_its_type_keeps_its_owners(self, peer: StorePeer) -> None:
        """Where a type cannot change it is made anew, for everybody who owned it."""
        await peer.store.apply_secret(SECRET)
        changed = replace(SECRET, type="example.com/custom", owners=(OTHERS,))
        assert (await peer.store.apply_secret(changed)).changed
        manifest = await peer.read("Secret", "shop", "db")
        assert manifest is not None
        assert "example.com/custom" == manifest["type"]
        assert ["rs-uid", "rs-uid-7"] == sorted(owners_of(manifest))

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
