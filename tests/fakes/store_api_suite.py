"""What an object store with an API does beside what every store does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import pytest

from keyferry.store.interface import Effect
from tests.fakes.store_suite import (
    CLAIM,
    CLAIMED,
    MANAGED,
    SECRET,
    StoreContract,
    StorePeer,
    _later,
    data_of,
    owners_of,
)


class ApiContract(StoreContract):
    """What only a store with an API can tell: who wrote what, and when."""

    @pytest.mark.parametrize(
        "edit",
        [
            {"data": {"password": "aGFuZA=="}},
            {"data": {"more": "aGFuZA=="}},
            {"data": {"password": None}},
            {"metadata": {"labels": {"environment": "hand"}}},
            {"metadata": {"labels": {MANAGED: None}}},
            {"metadata": {"annotations": {"note": None}}},
            {"metadata": {"annotations": {"keyferry.dev/class": "api"}}},
            {"metadata": {"annotations": {"keyferry.dev/fetched-at": "2040-01-01T12:00:00+00:00"}}},
        ],
        ids=str,
    )
    async def test_an_edit_by_hand_is_reverted(
        self, peer: ApiPeer, edit: Mapping[str, Any]
    ) -> None:
        """Data, and the labels and annotations that the class names; those of others stay."""
        await peer.store.apply_secret(CLAIMED)
        before = await peer.read("Secret", "shop", "db")
        assert before is not None
        await peer.patch_secret("shop", "db", {"metadata": {"labels": {"team": "blue"}}})
        assert not (await peer.store.apply_secret(CLAIMED)).changed
        await peer.patch_secret("shop", "db", edit)
        applied = await peer.store.apply_secret(CLAIMED)
        after = await peer.read("Secret", "shop", "db")
        assert after is not None
        if "keyferry.dev/fetched-at" in str(edit):
            assert before["data"] == after["data"]
            return
        assert Effect.REVERTED is applied.effect
        assert before["data"] == after["data"]
        labels = {**before["metadata"]["labels"], "team": "blue"}
        assert labels == after["metadata"]["labels"]
        assert before["metadata"]["annotations"] == after["metadata"]["annotations"]
        assert not (await peer.store.apply_secret(CLAIMED)).changed

    async def test_content_of_a_later_fetch_stays(self, peer: ApiPeer) -> None:
        """Another node has it from the vault after us; an edit by hand of it does not."""
        newer = replace(CLAIMED, data={"password": b"new", "user": b"me"}, claim=_later())
        await peer.store.apply_secret(newer)
        assert not (await peer.store.apply_secret(CLAIMED)).changed
        assert b"new" == data_of(await peer.read("Secret", "shop", "db"))["password"]
        await peer.patch_secret("shop", "db", {"data": {"password": "aGFuZA=="}})
        assert Effect.REVERTED is (await peer.store.apply_secret(CLAIMED)).effect
        assert dict(SECRET.data) == data_of(await peer.read("Secret", "shop", "db"))
        assert Effect.UPDATED is (await peer.store.apply_secret(newer)).effect

    async def test_a_node_that_has_yet_to_see_a_class_leaves_its_secret(
        self, peer: ApiPeer
    ) -> None:
        """Another node wrote it for a later generation; one of another class of that name not."""
        ahead = replace(
            CLAIMED, data={"only": b"1"}, claim=replace(CLAIM, class_version="class-uid/4")
        )
        await peer.store.apply_secret(ahead)
        assert not (await peer.store.apply_secret(CLAIMED)).changed
        anew = replace(CLAIMED, claim=replace(CLAIM, class_version="new-uid/1"))
        assert Effect.UPDATED is (await peer.store.apply_secret(anew)).effect
        assert dict(SECRET.data) == data_of(await peer.read("Secret", "shop", "db"))

    async def test_an_immutable_secret_is_made_anew(self, peer: ApiPeer) -> None:
        """Somebody froze it by hand."""
        await peer.store.apply_secret(CLAIMED)
        await peer.patch_secret("shop", "db", {"immutable": True})
        changed = replace(CLAIMED, data={"password": b"2", "user": b"me"}, claim=_later())
        assert Effect.RECREATED is (await peer.store.apply_secret(changed)).effect
        found = await peer.read("Secret", "shop", "db")
        assert b"2" == data_of(found)["password"]
        assert ["rs-uid"] == owners_of(found)


class ApiPeer(StorePeer, Protocol):
    """A store with an API behind it."""

    async def patch_secret(self, namespace: str, name: str, patch: Mapping[str, Any]) -> None:
        """Edit it by hand, as `kubectl patch` does."""
