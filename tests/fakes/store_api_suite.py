"""What an object store with an API does beside what every store does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import pytest

from keyferry.kubernetes.objects import ApplyOutcome
from tests.fakes.store_suite import (
    CLAIM,
    CLAIMED_SECRET,
    MANAGED_LABEL,
    SECRET,
    StoreContract,
    StorePeer,
    decoded_data,
    later_claim,
    owner_uids,
)


class ApiStoreContract(StoreContract):
    """What only a store with an API can tell: who wrote what, and when."""

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
    async def test_an_edit_by_hand_is_reverted(
        self, peer: ApiStorePeer, edit: Mapping[str, Any]
    ) -> None:
        """Data, and the labels and annotations that the class names; those of others stay."""
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

    async def test_content_of_a_later_fetch_stays(self, peer: ApiStorePeer) -> None:
        """Another node has it from the vault after us; an edit by hand of it does not."""
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

    async def test_a_node_that_has_yet_to_see_a_class_leaves_its_secret(
        self, peer: ApiStorePeer
    ) -> None:
        """Another node wrote it for a later generation; one of another class of that name not."""
        ahead = replace(
            CLAIMED_SECRET, data={"only": b"1"}, claim=replace(CLAIM, class_version="class-uid/4")
        )
        await peer.store.apply_secret(ahead)
        assert not (await peer.store.apply_secret(CLAIMED_SECRET)).changed
        anew = replace(CLAIMED_SECRET, claim=replace(CLAIM, class_version="new-uid/1"))
        assert ApplyOutcome.UPDATED is (await peer.store.apply_secret(anew)).outcome
        assert dict(SECRET.data) == decoded_data(await peer.read("Secret", "shop", "db"))

    async def test_an_immutable_secret_is_made_anew(self, peer: ApiStorePeer) -> None:
        """Somebody froze it by hand."""
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
    """A store with an API behind it."""

    async def patch_secret(self, namespace: str, name: str, patch: Mapping[str, Any]) -> None:
        """Edit it by hand, as `kubectl patch` does."""
