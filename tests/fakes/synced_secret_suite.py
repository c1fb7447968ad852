"""Tests of how the Secret of a SecretSync is written, for every Kubernetes API.

A subclass provides the fixture `cluster` and inherits the tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from keyferry.errors import SecretConflictError, SecretNotManagedError, StoreUnavailableError
from keyferry.kubernetes.api.resources import SecretResource
from keyferry.kubernetes.live_secret import CLASS_ANNOTATION
from keyferry.kubernetes.markings import MANAGED_LABEL, SYNC_FIELD_MANAGER, SYNC_LABEL
from keyferry.kubernetes.objects import ApplyOutcome
from keyferry.kubernetes.syncs.groups import GKE_GROUP
from keyferry.records import replace
from tests.fakes.synced_secrets import (
    FORMER_MANAGER,
    OWNER,
    POD_STATUS,
    SECRET,
    SyncedSecretCluster,
    desired,
    manifest,
    owner_uids,
    reference,
)

EDITS: dict[str, dict[str, Any]] = {
    "value": {"data": {"password": "aGFuZA=="}},
    "key": {"data": {"password": None}},
    "label": {"metadata": {"labels": {"environment": "hand"}}},
    "own label": {"metadata": {"labels": {SYNC_LABEL: None}}},
    "annotation": {"metadata": {"annotations": {"note": None}}},
    "no owner": {
        "metadata": {"ownerReferences": [{"$patch": "delete", "uid": OWNER.uid}]},
    },
    "second owner": {"metadata": {"ownerReferences": [reference(POD_STATUS)]}},
}
FOREIGN: dict[str, Any] = {
    "data": {"theirs": "aGFuZA=="},
    "metadata": {"labels": {"team": "blue"}, "annotations": {"reviewed": "yes"}},
}


class SyncedSecretContract:
    """Tests that hold with every Kubernetes API."""

    async def test_secret_is_created_as_upstream_creates_it(
        self, cluster: SyncedSecretCluster
    ) -> None:
        """One owner, the label, and the field manager of upstream's controller."""
        created = await cluster.sync()
        found = await cluster.read()
        metadata = found["metadata"]
        assert ApplyOutcome.CREATED is created.outcome
        assert (metadata["uid"], metadata["resourceVersion"]) == (
            created.uid,
            created.resource_version,
        )
        assert [reference(OWNER)] == metadata["ownerReferences"]
        assert {"environment": "test", SYNC_LABEL: ""} == metadata["labels"]
        assert {"note": "yes"} == metadata["annotations"]
        assert dict(SECRET.data) == await cluster.data()
        assert {SYNC_FIELD_MANAGER} == await cluster.managers()
        unchanged = await cluster.sync()
        assert ApplyOutcome.UNCHANGED is unchanged.outcome
        assert (created.uid, created.resource_version) == (
            unchanged.uid,
            unchanged.resource_version,
        )

    async def test_secret_that_seems_absent_is_not_read(self, cluster: SyncedSecretCluster) -> None:
        """One request creates it. If it does exist, it is read and updated."""
        with cluster.counted("find") as reads:
            created = await cluster.store.apply_secret(SECRET, seems_absent=True)
        assert (ApplyOutcome.CREATED, 0) == (created.outcome, len(reads))
        await cluster.edit(FOREIGN)
        changed = desired(data={"password": b"2"})
        updated = await cluster.store.apply_secret(changed, seems_absent=True)
        assert (ApplyOutcome.UPDATED, created.uid) == (updated.outcome, updated.uid)
        assert {"password": b"2", "theirs": b"hand"} == await cluster.data()

    async def test_new_content_is_one_update(self, cluster: SyncedSecretCluster) -> None:
        """A key that the SecretSync no longer has is removed; keys of others stay."""
        await cluster.sync()
        await cluster.edit(FOREIGN)
        async with cluster.watching() as seen:
            updated = await cluster.sync(desired(data={"password": b"2", "more": b"3"}))
        assert ApplyOutcome.UPDATED is updated.outcome
        assert 1 == len(seen)
        found = await cluster.read()
        assert {"password": b"2", "more": b"3", "theirs": b"hand"} == await cluster.data()
        assert "blue" == found["metadata"]["labels"]["team"]
        assert "yes" == found["metadata"]["annotations"]["reviewed"]

    @pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
    async def test_edit_is_reverted(
        self, cluster: SyncedSecretCluster, edit: Mapping[str, Any]
    ) -> None:
        """Data, labels, annotations and the owner; what others added stays."""
        await cluster.sync()
        before = await cluster.read()
        await cluster.edit(FOREIGN)
        assert ApplyOutcome.UNCHANGED is (await cluster.sync()).outcome
        await cluster.edit(edit)
        reverted = await cluster.sync(desired(is_unchanged=True))
        after = await cluster.read()
        assert ApplyOutcome.REVERTED is reverted.outcome
        assert before["data"] | FOREIGN["data"] == after["data"]
        labels = before["metadata"]["labels"] | FOREIGN["metadata"]["labels"]
        assert labels == after["metadata"]["labels"]
        assert [OWNER.uid] == owner_uids(after)
        again = await cluster.sync(desired(is_unchanged=True))
        assert ApplyOutcome.UNCHANGED is again.outcome
        assert reverted.resource_version == again.resource_version

    async def test_ignored_edit_stays_until_the_content_changes(
        self, cluster: SyncedSecretCluster
    ) -> None:
        """The label and the owner are set all the same: the controller finds the Secret by them."""
        await cluster.sync()
        await cluster.edit(EDITS["value"])
        ignoring = desired(is_unchanged=True, ignores_drift=True)
        assert ApplyOutcome.UNCHANGED is (await cluster.sync(ignoring)).outcome
        assert b"hand" == (await cluster.data())["password"]
        for lost in ("own label", "no owner"):
            await cluster.edit(EDITS[lost])
            assert (await cluster.sync(ignoring)).changed
            found = await cluster.read()
            assert [OWNER.uid] == owner_uids(found)
            assert "" == found["metadata"]["labels"][SYNC_LABEL]
        assert b"hand" == (await cluster.data())["password"]
        changed = desired(data={"password": b"2", "user": b"me"}, ignores_drift=True)
        assert (await cluster.sync(changed)).changed
        assert b"2" == (await cluster.data())["password"]

    async def test_deleted_secret_is_created_again(self, cluster: SyncedSecretCluster) -> None:
        """Also if drift is ignored: an absent Secret helps nobody."""
        first = await cluster.sync()
        await cluster.delete()
        again = await cluster.sync(desired(is_unchanged=True, ignores_drift=True))
        assert ApplyOutcome.CREATED is again.outcome
        assert first.uid != again.uid

    async def test_other_type_is_recreated(self, cluster: SyncedSecretCluster) -> None:
        """Kubernetes does not permit to change the type."""
        await cluster.sync()
        typed = replace(SECRET, type="example.com/own")
        recreated = await cluster.sync(typed)
        assert (ApplyOutcome.RECREATED, "Opaque") == (recreated.outcome, recreated.previous_type)
        found = await cluster.read()
        assert ("example.com/own", [OWNER.uid]) == (found["type"], owner_uids(found))
        assert ApplyOutcome.UNCHANGED is (await cluster.sync(typed)).outcome

    @pytest.mark.parametrize("data", [{"password": b"2", "user": b"me"}, {"user": b"me"}])
    async def test_immutable_secret_is_recreated(
        self, cluster: SyncedSecretCluster, data: Mapping[str, bytes]
    ) -> None:
        """A user made it immutable; a value changes, or a key is removed."""
        await cluster.sync()
        await cluster.edit({"immutable": True})
        assert ApplyOutcome.UNCHANGED is (await cluster.sync()).outcome
        assert ApplyOutcome.RECREATED is (await cluster.sync(desired(data=data))).outcome
        assert dict(data) == await cluster.data()

    async def test_secret_of_an_earlier_secret_sync_is_kept(
        self, cluster: SyncedSecretCluster
    ) -> None:
        """Somebody deleted the SecretSync with --cascade=orphan and created it again."""
        first = await cluster.sync()
        later = replace(OWNER, uid="7777-sync")
        async with cluster.watching() as seen:
            updated = await cluster.sync(desired(owner=later))
        assert (ApplyOutcome.UPDATED, first.uid) == (updated.outcome, updated.uid)
        assert [["7777-sync"]] * len(seen) == [owner_uids(each) for each in seen if each]
        await cluster.edit(
            {"metadata": {"ownerReferences": [{"$patch": "delete", "uid": later.uid}]}}
        )
        taken = await cluster.sync(desired())
        assert first.uid == taken.uid
        assert [OWNER.uid] == owner_uids(await cluster.read())

    async def test_secret_of_upstream_is_taken_over(self, cluster: SyncedSecretCluster) -> None:
        """No key is missing at any time, and the entry of v0.0.4 in managedFields is removed."""
        theirs = manifest(
            {**SECRET.data, "removed": b"1"},
            labels={SYNC_LABEL: "", "environment": "test"},
            annotations={"note": "yes"},
            ownerReferences=[reference(OWNER)],
        )
        await cluster.apply(theirs, FORMER_MANAGER)
        before = await cluster.read()
        async with cluster.watching() as seen:
            taken = await cluster.sync(desired(data={**SECRET.data, "password": b"2"}))
        assert (ApplyOutcome.UPDATED, before["metadata"]["uid"]) == (taken.outcome, taken.uid)
        assert seen
        for each in seen:
            assert each is not None
            assert {"password", "user"} <= each["data"].keys()
            assert [OWNER.uid] == owner_uids(each)
        assert {"password": b"2", "user": b"me"} == await cluster.data()
        assert {SYNC_FIELD_MANAGER} == await cluster.managers()
        unchanged = await cluster.sync(desired(data={**SECRET.data, "password": b"2"}))
        assert ApplyOutcome.UNCHANGED is unchanged.outcome

    async def test_secret_of_the_driver_is_adopted(self, cluster: SyncedSecretCluster) -> None:
        """It has exactly one owner after each write, and keeps the keys that pods may use."""
        theirs = manifest(
            {"password": b"1", "only-theirs": b"1"},
            labels={MANAGED_LABEL: "true", "team": "blue"},
            annotations={CLASS_ANNOTATION: "web"},
            ownerReferences=[reference(POD_STATUS), {**reference(POD_STATUS), "uid": "5c0e-2"}],
        )
        await cluster.apply(theirs, "keyferry")
        with pytest.raises(SecretConflictError, match="SecretProviderClass shop/web, whose"):
            await cluster.sync(desired(adopt=True, class_name="web"))
        with pytest.raises(SecretNotManagedError, match="does not belong to this SecretSync"):
            await cluster.sync()
        async with cluster.watching() as seen:
            adopted = await cluster.sync(desired(adopt=True))
        assert ApplyOutcome.ADOPTED is adopted.outcome
        assert seen
        for each in seen:
            assert each is not None
            assert [OWNER.uid] == owner_uids(each)
            assert {"password", "only-theirs"} <= each["data"].keys()
        found = await cluster.read()
        assert {"team": "blue", "environment": "test", SYNC_LABEL: ""} == found["metadata"][
            "labels"
        ]
        assert {"note": "yes"} == found["metadata"]["annotations"]
        assert {**SECRET.data, "only-theirs": b"1"} == await cluster.data()
        assert ApplyOutcome.UNCHANGED is (await cluster.sync()).outcome

    async def test_secret_of_nobody_is_adopted_on_request(
        self, cluster: SyncedSecretCluster
    ) -> None:
        """Without the annotation nothing is written."""
        await cluster.apply(manifest({"password": b"1", "more": b"1"}))
        before = await cluster.read()
        with pytest.raises(
            SecretNotManagedError, match=r"annotate both with keyferry\.dev/adopt=true"
        ):
            await cluster.sync()
        assert before == await cluster.read()
        adopted = await cluster.sync(desired(adopt=True))
        assert (ApplyOutcome.ADOPTED, before["metadata"]["uid"]) == (adopted.outcome, adopted.uid)
        found = await cluster.read()
        assert ([OWNER.uid], "") == (owner_uids(found), found["metadata"]["labels"][SYNC_LABEL])
        assert {**SECRET.data, "more": b"1"} == await cluster.data()

    async def test_secret_deleted_during_the_takeover_is_created_whole(
        self, cluster: SyncedSecretCluster
    ) -> None:
        """Releasing the fields of the former manager must not create an empty Secret."""
        labels = {SYNC_LABEL: ""}
        theirs = manifest(SECRET.data, labels=labels, ownerReferences=[reference(OWNER)])
        await cluster.apply(theirs, FORMER_MANAGER)
        with cluster.interrupted("apply", cluster.delete):
            assert ApplyOutcome.CREATED is (await cluster.sync()).outcome
        assert dict(SECRET.data) == await cluster.data()
        assert [OWNER.uid] == owner_uids(await cluster.read())
        assert {SYNC_FIELD_MANAGER} == await cluster.managers()

    async def test_secret_of_a_stranger_after_a_deletion_stays(
        self, cluster: SyncedSecretCluster
    ) -> None:
        """Somebody creates it between deletion and creation. It gets no owner."""
        await cluster.sync()

        async def create() -> None:
            await cluster.apply(manifest({"theirs": b"1"}))

        with (
            cluster.interrupted("delete", create),
            pytest.raises(SecretNotManagedError, match="does not belong to this SecretSync"),
        ):
            await cluster.sync(replace(SECRET, type="example.com/own"))
        assert {"theirs": b"1"} == await cluster.data()
        assert [] == owner_uids(await cluster.read())

    async def test_change_between_read_and_write_is_read_again(
        self, cluster: SyncedSecretCluster
    ) -> None:
        """Somebody added a key, which stays."""
        await cluster.sync()
        with cluster.interrupted("find", lambda: cluster.edit(FOREIGN)):
            assert (await cluster.sync(desired(data={"password": b"2"}))).changed
        assert {"password": b"2", "theirs": b"hand"} == await cluster.data()

    async def test_interrupted_adoption_is_completed(self, cluster: SyncedSecretCluster) -> None:
        """Another process leads after the first of two writes."""
        await cluster.apply(manifest({"password": b"1", "more": b"1"}))
        cluster.checks, cluster.refuses = 0, 2
        with pytest.raises(StoreUnavailableError, match="another replica"):
            await cluster.sync(desired(adopt=True))
        assert {"password": b"1", "more": b"1"} == await cluster.data()
        assert [OWNER.uid] == owner_uids(await cluster.read())
        cluster.refuses = 0
        assert (await cluster.sync(desired(adopt=True))).changed
        assert {**SECRET.data, "more": b"1"} == await cluster.data()

    async def test_secret_of_another_secret_sync_stays(self, cluster: SyncedSecretCluster) -> None:
        """Both API groups have a SecretSync of that name."""
        await cluster.sync()
        before = await cluster.read()
        other = replace(OWNER, api_version=str(GKE_GROUP), uid="8888-gke")
        with pytest.raises(SecretConflictError, match=r"SecretSync db of secret-sync\.x-k8s\.io"):
            await cluster.sync(desired(owner=other, adopt=True))
        assert before == await cluster.read()

    @pytest.mark.parametrize("change", ["create", "update", "recreate", "adopt", "take over"])
    async def test_nothing_is_written_without_permission(
        self, cluster: SyncedSecretCluster, change: str
    ) -> None:
        """Another process may lead by now. Each write is checked, and a refused one is left out."""
        wanted = desired(data={"password": b"2"})
        match change:
            case "update":
                await cluster.sync()
            case "recreate":
                await cluster.sync()
                wanted = replace(wanted, type="example.com/own")
            case "adopt":
                await cluster.apply(manifest({"password": b"1"}))
                wanted = desired(adopt=True)
            case "take over":
                labels = {SYNC_LABEL: ""}
                theirs = manifest(SECRET.data, labels=labels, ownerReferences=[reference(OWNER)])
                await cluster.apply(theirs, FORMER_MANAGER)
        before = await cluster.api.find(SecretResource, "shop", "db")
        cluster.checks, cluster.refuses = 0, 1
        with pytest.raises(StoreUnavailableError, match="another replica"):
            await cluster.sync(wanted)
        assert before == await cluster.api.find(SecretResource, "shop", "db")
        cluster.checks, cluster.refuses = 0, 0
        assert (await cluster.sync(wanted)).changed
        writes = {"adopt": 2, "take over": 2}.get(change, 1)
        assert writes == cluster.checks
        cluster.checks = 0
        assert not (await cluster.sync(wanted)).changed
        assert 0 == cluster.checks
