"""Reconciling a SecretSync: content, Secret and status when everything works."""

from __future__ import annotations

from keyferry.content import ObjectVersion
from keyferry.errors import AccessDeniedError
from keyferry.kubernetes.markings import SYNC_LABEL
from keyferry.kubernetes.syncs.groups import GKE_GROUP
from keyferry.records import replace
from keyferry.resilience.call_context import Purpose
from keyferry.resilience.freshness import RefreshSlot
from keyferry.sync_controller.rules.request import target_path_of
from tests.fakes.secret_syncs import SyncWorld, content, secret_sync, sync_class
from tests.fakes.syncs import UID

KEY = secret_sync().ref.key
TLS_OBJECT = {
    "type": "kubernetes.io/tls",
    "data": [
        {"sourcePath": "cert", "targetKey": "tls.crt"},
        {"sourcePath": "cert", "targetKey": "tls.key"},
    ],
}


def versions(world: SyncWorld) -> dict[str, str]:
    return {each.id: each.version for each in world.status().objects}


# --- first sync -----------------------------------------------------------------------------------


async def test_first_sync_creates_the_secret(world: SyncWorld) -> None:
    """One write of the Secret, one of the status, one event."""
    result = await world.reconcile()
    assert {"password": "canary-1"} == world.data()
    secret = world.secret()
    assert secret is not None
    metadata = secret["metadata"]
    assert {SYNC_LABEL: ""} == metadata["labels"]
    assert [UID] == [owner["uid"] for owner in metadata["ownerReferences"]]
    assert ["patch secrets"] == world.api.writes
    assert 1 == len(world.statuses.written)
    assert "True SecretUpToDate" == world.condition()
    assert {"secret/password": "v1"} == versions(world)
    status = world.status()
    assert f"{metadata['uid']}/{metadata['resourceVersion']}" == status.observed_secret
    assert (1, "3f6c-class/1") == (status.observed_generation, status.observed_class)
    assert [
        "Normal SecretSynced SecretSync/web: created the Secret: secret/password at version v1"
    ] == world.take_events()
    assert result.is_done
    assert result.next_at is not None
    assert world.clock.now < result.next_at <= world.clock.now + 3600


async def test_first_sync_has_priority_over_refreshes(synced: SyncWorld) -> None:
    """Somebody waits for the Secret."""
    assert Purpose.FIRST is synced.provider.calls[0].purpose
    await synced.refresh()
    assert Purpose.REFRESH is synced.provider.calls[1].purpose
    assert (ObjectVersion("secret/password", "v1"),) == synced.provider.calls[1].current_versions


async def test_interval_is_passed_to_the_provider(world: SyncWorld) -> None:
    """Cached content is fresh for that time."""
    await world.reconcile()
    world.add_sync(secret_sync(annotations={"keyferry.dev/refresh-interval": "10m"}))
    await world.reconcile()
    world.add_sync(secret_sync(annotations={"keyferry.dev/refresh-interval": "never"}))
    assert (await world.reconcile()).next_at is None
    assert [3600, 600, None] == [call.refresh_interval for call in world.provider.calls]


async def test_next_refresh_is_in_the_slot_of_the_identity(world: SyncWorld) -> None:
    """All SecretSyncs of one identity share the answers of the vault."""
    world.provider.returns(
        content({"password": "1"}, refresh_slots=(RefreshSlot(0.5, 0), RefreshSlot(0.9, 0)))
    )
    assert 1800 == (await world.reconcile()).next_at
    world.clock.now = 1800
    assert 3240 == (await world.reconcile()).next_at


# --- refresh --------------------------------------------------------------------------------------


async def test_unchanged_refresh_writes_nothing(synced: SyncWorld) -> None:
    """Neither Secret nor status nor event; the Secret is not even read."""
    for _ in range(3):
        assert (await synced.refresh()).is_done
    assert 4 == len(synced.provider.calls)
    assert [] == synced.api.calls
    assert [] == synced.statuses.written
    assert [] == synced.take_events()


async def test_nothing_is_fetched_before_the_refresh_is_due(synced: SyncWorld) -> None:
    """An event of the cluster may come at any time."""
    due = (await synced.reconcile()).next_at
    assert due is not None
    synced.clock.now = due - 1
    assert due == (await synced.reconcile()).next_at
    assert 1 == len(synced.provider.calls)
    synced.clock.now = due
    await synced.reconcile()
    assert 2 == len(synced.provider.calls)


async def test_new_version_is_written(synced: SyncWorld) -> None:
    """With an event that names the versions, and no value."""
    synced.provider.returns(content({"password": "canary-2"}, "v2"))
    await synced.refresh()
    assert {"password": "canary-2"} == synced.data()
    assert {"secret/password": "v2"} == versions(synced)
    assert [
        (
            "Normal SecretSynced SecretSync/web: updated the Secret:"
            " secret/password from version v1 to v2"
        )
    ] == synced.take_events()
    assert 1 == len(synced.statuses.written)


async def test_new_version_of_the_same_value_is_recorded(synced: SyncWorld) -> None:
    """The Secret is right already."""
    synced.provider.returns(content({"password": "canary-1"}, "v2"))
    await synced.refresh()
    assert [] == synced.api.writes
    assert {"secret/password": "v2"} == versions(synced)
    assert [] == synced.take_events()


async def test_request_of_a_class_is_shared_by_its_secret_syncs(synced: SyncWorld) -> None:
    """Content that one of them fetched after the request is new enough for the others."""
    synced.add_sync(secret_sync("other", uid="other"))
    await synced.reconcile("other")
    synced.clock.now = 100
    synced.add_class(sync_class(refresh_mark="now"))
    await synced.reconcile()
    synced.clock.now = 130
    await synced.reconcile("other")
    assert [100, 100] == [call.not_before for call in synced.provider.calls[-2:]]
    synced.add_sync(secret_sync(generation=2, forceSynchronization="x2"))
    await synced.reconcile()
    assert 130 == synced.provider.calls[-1].not_before


async def test_request_counts_before_the_first_sync(synced: SyncWorld) -> None:
    """The error that the vault gave before is too old for it."""
    synced.provider.fails(AccessDeniedError("contoso denies access"))
    synced.add_sync(secret_sync("other", uid="other"))
    await synced.reconcile("other")
    synced.clock.now = 100
    synced.add_sync(secret_sync("other", uid="other", annotations={"keyferry.dev/refresh": "now"}))
    await synced.reconcile("other")
    assert [0, 100] == [call.not_before for call in synced.provider.calls[-2:]]


async def test_requested_refresh_reads_the_vault_again(synced: SyncWorld) -> None:
    """Content of the cache is too old for it."""
    synced.clock.now = 100
    synced.add_sync(secret_sync(generation=2, forceSynchronization="x2"))
    await synced.reconcile()
    assert [0, 100] == [call.not_before for call in synced.provider.calls]
    assert "x2" == synced.status().observed_force
    await synced.reconcile()
    assert 2 == len(synced.provider.calls)
    synced.add_sync(
        secret_sync(
            generation=2,
            forceSynchronization="x2",
            annotations={"keyferry.dev/refresh": "now"},
        )
    )
    await synced.reconcile()
    assert 3 == len(synced.provider.calls)
    assert synced.provider.calls[2].not_before == 100
    synced.add_class(sync_class(refresh_mark="now"))
    await synced.reconcile()
    assert "now/now" == synced.status().observed_refresh


async def test_changed_class_is_synced_at_once(synced: SyncWorld) -> None:
    """Upstream notices it with the next poll, after twelve hours."""
    synced.provider.returns(content({"password": "canary-2"}, "v1"))
    synced.add_class(sync_class(generation=2))
    await synced.reconcile()
    assert {"password": "canary-2"} == synced.data()
    assert "3f6c-class/2" == synced.status().observed_class


async def test_changed_keys_are_synced_at_once(synced: SyncWorld) -> None:
    """A key that the SecretSync no longer has is removed."""
    synced.provider.returns(content({"password": "canary-1", "user": "me"}))
    data = [
        {"sourcePath": "user", "targetKey": "name"},
        {"sourcePath": "password", "targetKey": "pass"},
    ]
    synced.add_sync(secret_sync(generation=2, secretObject={"data": data}))
    await synced.reconcile()
    assert {"name": "me", "pass": "canary-1"} == synced.data()
    assert 2 == synced.status().observed_generation


async def test_changed_type_recreates_the_secret(synced: SyncWorld) -> None:
    """Upstream fails for ever."""
    before = synced.secret()
    changed = {"type": "example.com/own", "data": [{"sourcePath": "password", "targetKey": "p"}]}
    synced.add_sync(secret_sync(generation=2, secretObject=changed))
    await synced.reconcile()
    after = synced.secret()
    assert before is not None
    assert after is not None
    assert "example.com/own" == after["type"]
    assert before["metadata"]["uid"] != after["metadata"]["uid"]
    assert [
        (
            "Normal SecretRecreated SecretSync/web: deleted the Secret and created it again,"
            " because its type changed from Opaque to example.com/own"
        )
    ] == synced.take_events()
    synced.api.calls.clear()
    await synced.reconcile()
    assert [] == synced.api.calls


# --- drift ----------------------------------------------------------------------------------------


async def test_edited_secret_is_restored(synced: SyncWorld) -> None:
    """At once, from cached content."""
    synced.edit_secret({"data": {"password": "aGFuZA==", "theirs": "aGFuZA=="}})
    await synced.reconcile()
    assert {"password": "canary-1", "theirs": "hand"} == synced.data()
    assert [
        "Normal SecretReverted SecretSync/web: somebody changed the Secret; it was restored"
    ] == synced.take_events()
    synced.api.calls.clear()
    await synced.reconcile()
    assert [] == synced.api.calls


async def test_deleted_secret_is_created_again(synced: SyncWorld) -> None:
    """Upstream waits for another version."""
    synced.delete_secret()
    await synced.reconcile()
    assert {"password": "canary-1"} == synced.data()
    assert [
        "Normal SecretReverted SecretSync/web: somebody deleted the Secret; it was created again"
    ] == synced.take_events()


async def test_unlabeled_secret_is_restored(synced: SyncWorld) -> None:
    """The cache shows it as deleted."""
    synced.edit_secret({"metadata": {"labels": {SYNC_LABEL: None}}})
    await synced.reconcile()
    secret = synced.secret()
    assert secret is not None
    assert {SYNC_LABEL: ""} == secret["metadata"]["labels"]
    assert ["SecretReverted"] == [line.split()[1] for line in synced.take_events()]


async def test_own_key_of_somebody_else_stays(synced: SyncWorld) -> None:
    """The edit changes the resource version only."""
    synced.edit_secret({"data": {"theirs": "aGFuZA=="}})
    await synced.reconcile()
    assert [] == synced.api.writes
    assert [] == synced.take_events()
    assert {"password": "canary-1", "theirs": "hand"} == synced.data()


async def test_ignored_drift_stays_until_the_content_changes(synced: SyncWorld) -> None:
    """A deleted Secret is created all the same."""
    ignoring = secret_sync(annotations={"keyferry.dev/drift": "ignore"})
    synced.add_sync(ignoring)
    synced.edit_secret({"data": {"password": "aGFuZA=="}})
    await synced.reconcile()
    await synced.refresh()
    assert {"password": "hand"} == synced.data()
    assert [] == synced.take_events()
    synced.provider.returns(content({"password": "canary-2"}, "v2"))
    await synced.refresh()
    assert {"password": "canary-2"} == synced.data()
    synced.delete_secret()
    await synced.reconcile()
    assert {"password": "canary-2"} == synced.data()


async def test_drift_is_restored_when_it_is_no_longer_ignored(synced: SyncWorld) -> None:
    """Also after a restart of the controller."""
    synced.add_sync(secret_sync(annotations={"keyferry.dev/drift": "ignore"}))
    await synced.reconcile()
    synced.edit_secret({"data": {"password": "aGFuZA=="}})
    await synced.reconcile()
    assert {"password": "hand"} == synced.data()
    synced.add_sync(secret_sync())
    await synced.reconcile()
    assert {"password": "canary-1"} == synced.data()


async def test_secret_is_known_to_be_unchanged_after_a_write(synced: SyncWorld) -> None:
    """The notice of an own write needs no attempt; any other does."""
    version = synced.view.secret_version("shop", "web")
    assert version is not None
    assert synced.reconciler.is_unchanged(KEY, version)
    assert not synced.reconciler.is_unchanged(KEY, f"{version}0")
    assert not synced.reconciler.is_unchanged(KEY, "")
    assert not synced.reconciler.is_unchanged((KEY[0], "shop", "other"), version)


async def test_unwatched_secret_is_right_until_the_next_version(synced: SyncWorld) -> None:
    """The controller may not read its metadata, so drift is not noticed."""
    synced.view.unwatched.add("shop")
    synced.edit_secret({"data": {"password": "aGFuZA=="}})
    await synced.reconcile()
    assert {"password": "hand"} == synced.data()
    synced.provider.returns(content({"password": "canary-2"}, "v2"))
    await synced.refresh()
    assert {"password": "canary-2"} == synced.data()


# --- the life of a SecretSync ---------------------------------------------------------------------


async def test_restarted_controller_fetches_nothing(synced: SyncWorld) -> None:
    """The status says what was done; refreshes are spread over the interval."""
    synced.restart()
    result = await synced.reconcile()
    assert 1 == len(synced.provider.calls)
    assert result.next_at is not None
    assert [] == synced.api.calls
    assert [] == synced.take_events()
    synced.clock.now = result.next_at
    await synced.reconcile()
    assert 2 == len(synced.provider.calls)
    assert [] == synced.statuses.written


async def test_deleted_secret_sync_is_released(synced: SyncWorld) -> None:
    """Kubernetes deletes the Secret; dynamic secrets are revoked."""
    synced.remove_sync()
    assert (await synced.reconcile()).next_at is None
    assert [(target_path_of(UID), True)] == synced.providers.removed
    assert [] == synced.api.calls
    assert 0 == sum(synced.metrics.ready_counts().values())
    await synced.reconcile()
    assert 1 == len(synced.providers.removed)


async def test_terminating_secret_sync_is_released(synced: SyncWorld) -> None:
    """It is deleted in the foreground, after its Secret."""
    synced.add_sync(secret_sync(terminating=True))
    synced.delete_secret()
    await synced.reconcile()
    assert (target_path_of(UID), True) in synced.providers.removed
    assert synced.secret() is None
    assert [] == synced.statuses.written


async def test_secret_sync_created_again_is_new(synced: SyncWorld) -> None:
    """It has another uid, and nothing of the earlier one, except for the Secret."""
    later = replace(secret_sync(uid="later-uid"))
    synced.add_sync(later)
    await synced.reconcile()
    assert [(target_path_of(UID), True)] == synced.providers.removed
    assert Purpose.FIRST is synced.provider.calls[1].purpose
    assert target_path_of("later-uid") == synced.provider.calls[1].target_path
    secret = synced.secret()
    assert secret is not None
    assert ["later-uid"] == [owner["uid"] for owner in secret["metadata"]["ownerReferences"]]
    assert "True SecretUpToDate" == synced.condition()


async def test_secret_sync_of_another_controller_is_ignored(world: SyncWorld) -> None:
    """Not even its mistakes are reported."""
    sync = secret_sync(
        secretSyncControllerName="other", annotations={"keyferry.dev/drift": "wrong"}
    )
    world.add_sync(sync)
    for _ in range(2):
        assert (await world.reconcile()).is_done
    assert [] == world.api.calls
    assert [] == world.statuses.written
    assert [] == world.take_events()
    assert [] == world.provider.calls


async def test_secret_sync_handed_to_another_controller_is_released(synced: SyncWorld) -> None:
    """Its Secret stays."""
    synced.add_sync(secret_sync(generation=2, secretSyncControllerName="other"))
    await synced.reconcile()
    assert [(target_path_of(UID), True)] == synced.providers.removed
    assert {"password": "canary-1"} == synced.data()
    assert [] == synced.statuses.written


async def test_secret_syncs_of_gke_are_synced(world: SyncWorld) -> None:
    """Their manifests move without a change."""
    world.remove_sync()
    world.add_sync(secret_sync(group=GKE_GROUP))
    await world.reconcile(group=GKE_GROUP)
    secret = world.secret()
    assert secret is not None
    assert str(GKE_GROUP) == secret["metadata"]["ownerReferences"][0]["apiVersion"]
