"""Tests that every object store with a Kubernetes API must pass."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

import pytest

from keyferry.errors import SecretNotManagedError
from keyferry.kubernetes.objects import ApplyOutcome, OwnerReference
from keyferry.records import replace
from tests.fakes.store_suite import (
    ADOPTING_SECRET,
    CLAIM,
    CLAIMED_SECRET,
    MANAGED_LABEL,
    OTHER_REPLICA_SET,
    SECRET,
    THEIR_SECRET,
    StoreContract,
    StorePeer,
    decoded_data,
    later_adoption,
    later_claim,
    owner_uids,
)


class ApiStoreContract(StoreContract):
    """Tests of field managers and concurrent writers, which only an API has."""

    @pytest.mark.parametrize(
        "edit",
        [
            {"data": {"password": "aGFuZA=="}},
            {"data": {"more": "aGFuZA=="}},
            {"data": {"password": None}},
            {"metadata": {"labels": {"environment": "hand"}}},
            {"metadata": {"labels": {MANAGED_LABEL: None}}},
            {"metadata": {"annotations": {"note": None}}},
            {"metadata": {"annotations": {"keyferry.dev/class": "api"}}},
            {"metadata": {"annotations": {"keyferry.dev/fetched-at": "2040-01-01T12:00:00+00:00"}}},
        ],
        ids=str,
    )
    async def test_manual_edit_is_reverted(
        self, peer: ApiStorePeer, edit: Mapping[str, Any]
    ) -> None:
        """Data and the configured labels and annotations are reverted; other ones are kept."""
        await peer.store.apply_secret(CLAIMED_SECRET)
        before = await peer.read("Secret", "shop", "db")
        assert before is not None
        await peer.patch_secret("shop", "db", {"metadata": {"labels": {"team": "blue"}}})
        assert not (await peer.store.apply_secret(CLAIMED_SECRET)).changed
        await peer.patch_secret("shop", "db", edit)
        applied = await peer.store.apply_secret(CLAIMED_SECRET)
        after = await peer.read("Secret", "shop", "db")
        assert after is not None
        if "keyferry.dev/fetched-at" in str(edit):
            assert before["data"] == after["data"]
            return
        assert ApplyOutcome.REVERTED is applied.outcome
        assert before["data"] == after["data"]
        labels = {**before["metadata"]["labels"], "team": "blue"}
        assert labels == after["metadata"]["labels"]
        assert before["metadata"]["annotations"] == after["metadata"]["annotations"]
        assert not (await peer.store.apply_secret(CLAIMED_SECRET)).changed

    async def test_edited_key_of_an_adopted_secret_is_reverted(self, peer: ApiStorePeer) -> None:
        """Other keys may be edited and added."""
        await peer.put(THEIR_SECRET)
        await peer.store.apply_secret(ADOPTING_SECRET)
        await peer.patch_secret("shop", "db", {"data": {"more": "aGFuZA==", "new": "aGFuZA=="}})
        assert not (await peer.store.apply_secret(ADOPTING_SECRET)).changed
        await peer.patch_secret("shop", "db", {"data": {"user": "aGFuZA=="}})
        reverted = await peer.store.apply_secret(ADOPTING_SECRET)
        assert (ApplyOutcome.REVERTED, ()) == (reverted.outcome, reverted.replaced_keys)
        assert dict(SECRET.data) | {"more": b"hand", "new": b"hand"} == decoded_data(
            await peer.read("Secret", "shop", "db")
        )

    async def test_adopted_secret_stays_adopted_without_its_record(
        self, peer: ApiStorePeer
    ) -> None:
        """Somebody removed the annotation; keys of others are kept."""
        await peer.put(THEIR_SECRET)
        await peer.store.apply_secret(ADOPTING_SECRET)
        removed = {"metadata": {"annotations": {"keyferry.dev/adopted-keys": None}}}
        await peer.patch_secret("shop", "db", removed)
        await peer.store.apply_secret(ADOPTING_SECRET)
        found = await peer.read("Secret", "shop", "db")
        assert b"theirs" == decoded_data(found)["more"]
        live = await peer.store.find_secret("shop", "db")
        assert live is not None
        assert live.adopted

    async def test_adopted_secret_that_became_immutable(self, peer: ApiStorePeer) -> None:
        """It is kept as it is; a change is refused, because only a new Secret could have it."""
        await peer.put(THEIR_SECRET)
        await peer.store.apply_secret(ADOPTING_SECRET)
        await peer.patch_secret("shop", "db", {"immutable": True})
        assert not (await peer.store.apply_secret(ADOPTING_SECRET)).changed
        changed = replace(ADOPTING_SECRET, data={"user": b"you"}, claim=later_adoption())
        with pytest.raises(SecretNotManagedError, match="is immutable"):
            await peer.store.apply_secret(changed)

    async def test_secret_is_created_by_one_write(self, peer: ApiStorePeer) -> None:
        """It never exists without its owners."""
        await peer.store.apply_secret(CLAIMED_SECRET)
        live = await peer.store.find_secret("shop", "db")
        assert live is not None
        assert ["rs-uid"] == [owner.uid for owner in live.owners]
        assert not (await peer.store.apply_secret(CLAIMED_SECRET)).changed

    async def test_concurrent_writes_of_one_secret_keep_all_owners(
        self, peer: ApiStorePeer
    ) -> None:
        """Replicas of a Deployment start on many nodes at the same time; one node creates it."""
        owners = [OwnerReference("v1", "Pod", f"web-{n}", f"uid-{n}") for n in range(8)]
        results = await asyncio.gather(
            *(peer.store.apply_secret(replace(SECRET, owners=(owner,))) for owner in owners)
        )
        found = await peer.read("Secret", "shop", "db")
        assert sorted(owner.uid for owner in owners) == sorted(owner_uids(found))
        assert 1 == [result.outcome for result in results].count(ApplyOutcome.CREATED)

    async def test_update_keeps_owners_of_other_nodes(self, peer: ApiStorePeer) -> None:
        """An apply names every owner that exists."""
        await peer.store.apply_secret(CLAIMED_SECRET)
        await peer.store.apply_secret(replace(CLAIMED_SECRET, owners=(OTHER_REPLICA_SET,)))
        later = replace(CLAIMED_SECRET, data={"password": b"2"}, claim=later_claim())
        assert (await peer.store.apply_secret(later)).changed
        await peer.store.apply_secret(replace(later, data={"password": b"3"}))
        found = await peer.read("Secret", "shop", "db")
        assert ["rs-uid", "rs-uid-7"] == sorted(owner_uids(found))

    async def test_content_of_a_later_fetch_is_kept(self, peer: ApiStorePeer) -> None:
        """Another node fetched it later. A manual edit of it is reverted."""
        newer = replace(
            CLAIMED_SECRET, data={"password": b"new", "user": b"me"}, claim=later_claim()
        )
        await peer.store.apply_secret(newer)
        assert not (await peer.store.apply_secret(CLAIMED_SECRET)).changed
        assert b"new" == decoded_data(await peer.read("Secret", "shop", "db"))["password"]
        await peer.patch_secret("shop", "db", {"data": {"password": "aGFuZA=="}})
        assert ApplyOutcome.REVERTED is (await peer.store.apply_secret(CLAIMED_SECRET)).outcome
        assert dict(SECRET.data) == decoded_data(await peer.read("Secret", "shop", "db"))
        assert ApplyOutcome.UPDATED is (await peer.store.apply_secret(newer)).outcome

    async def test_node_with_an_outdated_class_does_not_write_its_secret(
        self, peer: ApiStorePeer
    ) -> None:
        """Another node wrote it for a later generation of the same SecretProviderClass."""
        ahead = replace(
            CLAIMED_SECRET, data={"only": b"1"}, claim=replace(CLAIM, class_version="class-uid/4")
        )
        await peer.store.apply_secret(ahead)
        assert not (await peer.store.apply_secret(CLAIMED_SECRET)).changed
        recreated = replace(CLAIMED_SECRET, claim=replace(CLAIM, class_version="new-uid/1"))
        assert ApplyOutcome.UPDATED is (await peer.store.apply_secret(recreated)).outcome
        assert dict(SECRET.data) == decoded_data(await peer.read("Secret", "shop", "db"))

    async def test_immutable_secret_is_recreated(self, peer: ApiStorePeer) -> None:
        """A user made it immutable."""
        await peer.store.apply_secret(CLAIMED_SECRET)
        await peer.patch_secret("shop", "db", {"immutable": True})
        changed = replace(
            CLAIMED_SECRET, data={"password": b"2", "user": b"me"}, claim=later_claim()
        )
        assert ApplyOutcome.RECREATED is (await peer.store.apply_secret(changed)).outcome
        found = await peer.read("Secret", "shop", "db")
        assert b"2" == decoded_data(found)["password"]
        assert ["rs-uid"] == owner_uids(found)


class ApiStorePeer(StorePeer, Protocol):
    """A store under test, and its API."""

    async def patch_secret(self, namespace: str, name: str, patch: Mapping[str, Any]) -> None:
        """Patch an object, as `kubectl patch` does."""
