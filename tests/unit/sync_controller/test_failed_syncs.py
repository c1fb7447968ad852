"""Reconciling a SecretSync that fails: what the user reads, and when it is tried again."""

from __future__ import annotations

from typing import Any

import pytest

from keyferry.errors import (
    AccessDeniedError,
    ClassInvalidError,
    KeyferryError,
    ObjectNotFoundError,
    StoreError,
    StorePermissionError,
    StoreUnavailableError,
    VaultUnavailableError,
)
from keyferry.kubernetes.live_secret import CLASS_ANNOTATION
from keyferry.kubernetes.markings import MANAGED_LABEL, SYNC_LABEL
from keyferry.kubernetes.objects import SecretObject
from keyferry.kubernetes.syncs.groups import GKE_GROUP
from keyferry.kubernetes.syncs.objects import ServiceAccountOptIn
from keyferry.kubernetes.syncs.sync_errors import TokenRequestError
from keyferry.records import replace
from keyferry.sync_controller.settings import Scope, SyncControllerSettings, TokenSettings
from tests.fakes.log import captured_log
from tests.fakes.secret_syncs import POD, SyncWorld, content, secret_sync, sync_class

DENIED = AccessDeniedError("contoso denies access", "Grant get.")
SECRET_KEY = ("secrets", "shop", "web")


def reasons(world: SyncWorld) -> list[str]:
    """Return the reasons of the new events."""
    return [line.split()[1] for line in world.take_events()]


def put_secret(world: SyncWorld, **metadata: Any) -> None:
    """Create the Secret as somebody else."""
    manifest = {"metadata": metadata, "type": "Opaque", "data": {"theirs": "MQ=="}}
    world.api.objects.replace(SECRET_KEY, manifest)


# --- what the user must change --------------------------------------------------------------------


async def test_missing_class_is_awaited(world: SyncWorld) -> None:
    """Once it is created, nothing else is needed."""
    world.remove_class()
    result = await world.reconcile()
    assert (True, None) == (result.is_done, result.next_at)
    assert "False SecretProviderClassMisconfigured" == world.condition()
    assert "True SecretProviderClassMisconfigured" == world.condition("Stalled")
    assert "shop/vault" in world.message()
    assert ["SecretSyncFailed"] == reasons(world)
    await world.reconcile()
    assert [] == reasons(world)
    assert 1 == len(world.statuses.written)
    world.add_class()
    await world.reconcile()
    assert "True SecretUpToDate" == world.condition()
    assert "" == world.condition("Stalled")
    assert ["SecretSynced"] == reasons(world)


async def test_secret_stays_when_its_class_is_deleted(synced: SyncWorld) -> None:
    """Pods use it. It is refreshed again when there is a class."""
    synced.remove_class()
    await synced.reconcile()
    assert {"password": "canary-1"} == synced.data()
    assert "False SecretProviderClassMisconfigured" == synced.condition()
    assert "True CreateSuccessful" == synced.condition("SecretCreated")
    assert {"secret/password"} == {each.id for each in synced.status().objects}
    synced.add_class(sync_class(version="later-uid/1"))
    await synced.reconcile()
    assert "True SecretUpToDate" == synced.condition()
    assert "later-uid/1" == synced.status().observed_class


async def test_class_that_exists_again_is_no_longer_reported(synced: SyncWorld) -> None:
    """Also if it is the same as before, as after a failed watch."""
    synced.remove_class()
    await synced.reconcile()
    synced.add_class()
    await synced.reconcile()
    assert "True SecretUpToDate" == synced.condition()
    assert [] == synced.api.writes


async def test_invalid_class_is_reported(synced: SyncWorld) -> None:
    """With its own words."""
    synced.view.spcs["shop", "vault"] = ClassInvalidError("spec.provider is a list", "Write text.")
    await synced.reconcile()
    assert "spec.provider is a list. Write text." == synced.message()
    assert "False SecretProviderClassMisconfigured" == synced.condition()


async def test_class_without_provider_is_reported(synced: SyncWorld) -> None:
    """As the driver does."""
    synced.add_class(sync_class(generation=2, provider=""))
    await synced.reconcile()
    assert "SecretProviderClass shop/vault has no provider" in synced.message()
    assert "True SecretProviderClassMisconfigured" == synced.condition("Stalled")


async def test_namespace_that_is_not_listed_is_reported() -> None:
    """Nothing is read from it and written to it but the status."""
    scope = Scope(namespaces=frozenset({"other"}))
    world = SyncWorld(SyncControllerSettings(scope=scope, pod=POD))
    world.add_class()
    world.add_sync()
    assert (await world.reconcile()).is_done
    assert "False ControllerSyncError" == world.condition()
    assert world.message().endswith("secretSync.namespaces of the chart (flag --namespaces).")
    assert [] == world.provider.calls
    assert [] == world.api.calls


async def test_service_account_without_opt_in_is_not_used() -> None:
    """No token is requested for it."""
    tokens = TokenSettings(("vault",), requires_opt_in=True)
    world = SyncWorld(SyncControllerSettings(tokens=tokens, pod=POD))
    world.add_class()
    world.add_sync()
    await world.reconcile()
    assert "False ControllerSyncError" == world.condition()
    assert 'label secret-sync.x-k8s.io/allowed: "true"' in world.message()
    assert [] == world.issuer.requests
    world.view.opt_ins["shop", "web"] = ServiceAccountOptIn("shop", "web", frozenset({"other"}))
    await world.reconcile()
    assert "annotation secret-sync.x-k8s.io/secret-syncs" in world.message()
    world.view.opt_ins["shop", "web"] = ServiceAccountOptIn("shop", "web", frozenset({"web"}))
    await world.reconcile()
    assert "True SecretUpToDate" == world.condition()
    assert 1 == len(world.issuer.requests)


async def test_withdrawn_opt_in_stops_refreshes(world: SyncWorld) -> None:
    """The Secret keeps its content."""
    tokens = TokenSettings(requires_opt_in=True)
    world.settings = replace(world.settings, tokens=tokens)
    world.restart()
    world.view.opt_ins["shop", "web"] = ServiceAccountOptIn("shop", "web")
    await world.reconcile()
    world.view.opt_ins.clear()
    await world.refresh()
    assert 1 == len(world.provider.calls)
    assert {"password": "canary-1"} == world.data()
    assert "False ControllerSyncError" == world.condition()


async def test_invalid_secret_sync_is_reported(synced: SyncWorld) -> None:
    """Its Secret keeps the last content."""
    labels = {f"{SYNC_LABEL}/own": "x"}
    invalid = secret_sync(generation=2, secretObject={"data": [], "labels": labels})
    synced.add_sync(invalid)
    await synced.reconcile()
    assert "False ControllerSyncError" == synced.condition()
    assert synced.message().startswith("spec.secretObject.data is empty.")
    assert 2 == synced.status().observed_generation
    assert {"password": "canary-1"} == synced.data()


async def test_unknown_path_is_tried_again_with_the_next_refresh(world: SyncWorld) -> None:
    """The objects in the vault decide which files there are."""
    data = [{"sourcePath": "pasword", "targetKey": "p"}]
    world.add_sync(secret_sync(secretObject={"data": data}))
    result = await world.reconcile()
    assert "False RemoteSecretStoreFetchFailed" == world.condition()
    assert "True RemoteSecretStoreFetchFailed" == world.condition("Stalled")
    assert world.message().endswith("has password. Did you mean 'password'?")
    assert result.is_done
    assert result.next_at is not None
    world.clock.now = result.next_at
    world.provider.returns(content({"pasword": "canary"}))
    await world.reconcile()
    assert {"p": "canary"} == world.data()


async def test_content_that_does_not_fit_the_type_is_reported(synced: SyncWorld) -> None:
    """The Secret keeps its content."""
    data = [
        {"sourcePath": "password", "targetKey": "tls.crt"},
        {"sourcePath": "password", "targetKey": "tls.key"},
    ]
    tls = {"type": "kubernetes.io/tls", "data": data}
    synced.add_sync(secret_sync(generation=2, secretObject=tls))
    await synced.reconcile()
    assert "False RemoteSecretStoreFetchFailed" == synced.condition()
    assert "canary" not in synced.message()
    assert {"password": "canary-1"} == synced.data()


# --- the vault ------------------------------------------------------------------------------------


async def test_failure_of_the_vault_is_tried_again(world: SyncWorld) -> None:
    """One event and one status, however often."""
    world.provider.fails(DENIED)
    for _ in range(4):
        result = await world.reconcile()
        assert (False, None) == (result.is_done, result.next_at)
    assert "False ProviderError" == world.condition()
    assert "True ProgressingWithRetry" == world.condition("Reconciling")
    assert "contoso denies access. Grant get." == world.message()
    assert [
        "Warning SecretSyncFailed SecretSync/web: contoso denies access. Grant get."
    ] == world.take_events()
    assert 1 == len(world.statuses.written)
    assert world.secret() is None
    world.provider.returns(content({"password": "1"}))
    await world.reconcile()
    assert "True SecretUpToDate" == world.condition()
    assert "" == world.condition("Reconciling")
    assert ["SecretSynced"] == reasons(world)


async def test_changing_detail_of_a_failure_is_no_news(world: SyncWorld) -> None:
    """It counts and has times."""
    for number in range(3):
        error = VaultUnavailableError("contoso does not respond", "Check the network.")
        error.add_detail(f"{number} tries")
        world.provider.fails(error)
        await world.reconcile()
    assert 1 == len(world.statuses.written)
    assert ["SecretSyncFailed"] == reasons(world)


async def test_another_failure_is_reported(world: SyncWorld) -> None:
    """The user works on one after the other."""
    world.provider.fails(DENIED)
    await world.reconcile()
    world.provider.fails(ObjectNotFoundError("password does not exist", "Create it."))
    await world.reconcile()
    assert ["SecretSyncFailed", "SecretSyncFailed"] == reasons(world)
    assert "password does not exist. Create it." == world.message()


async def test_secret_keeps_its_content_while_the_vault_fails(synced: SyncWorld) -> None:
    """And the status what it has."""
    before = synced.status()
    synced.provider.fails(DENIED)
    await synced.refresh()
    assert {"password": "canary-1"} == synced.data()
    assert "False ProviderError" == synced.condition()
    assert "True CreateSuccessful" == synced.condition("SecretCreated")
    after = synced.status()
    assert (before.objects, before.sync_hash) == (after.objects, after.sync_hash)
    assert before.last_success == after.last_success
    synced.provider.returns(content({"password": "canary-1"}))
    await synced.reconcile()
    assert "True SecretUpToDate" == synced.condition()
    assert [] == synced.api.calls


async def test_edited_secret_is_restored_after_an_outage(synced: SyncWorld) -> None:
    """As soon as the vault responds."""
    synced.provider.fails(DENIED)
    synced.edit_secret({"data": {"password": "aGFuZA=="}})
    await synced.reconcile()
    assert {"password": "hand"} == synced.data()
    synced.provider.returns(content({"password": "canary-1"}))
    await synced.reconcile()
    assert {"password": "canary-1"} == synced.data()


async def test_failure_is_repeated_after_a_restart(synced: SyncWorld) -> None:
    """Without waiting for the next refresh, and without another event."""
    synced.provider.fails(DENIED)
    await synced.refresh()
    synced.take_events()
    synced.restart()
    assert not (await synced.reconcile()).is_done
    assert [] == synced.take_events()
    assert 3 == len(synced.provider.calls)
    assert [("shop", False)] == list(synced.metrics.ready_counts())


# --- the API --------------------------------------------------------------------------------------


async def test_refused_secret_is_reported(world: SyncWorld) -> None:
    """With the words of the API layer."""
    world.api.error = StorePermissionError("the API refuses to patch secrets", "Grant it.")
    assert not (await world.reconcile()).is_done
    assert "False ControllerPatchError" == world.condition()
    assert "the API refuses to patch secrets. Grant it." == world.message()
    assert ["SecretSyncFailed"] == reasons(world)
    world.api.error = None
    await world.reconcile()
    assert {"password": "canary-1"} == world.data()
    assert "True SecretUpToDate" == world.condition()


async def test_unavailable_api_is_no_event(world: SyncWorld) -> None:
    """It could not be written either."""
    world.api.error = world.statuses.error = StoreUnavailableError("the API is unavailable")
    assert not (await world.reconcile()).is_done
    assert [] == world.take_events()
    world.api.error = world.statuses.error = None
    assert (await world.reconcile()).is_done
    assert "True SecretUpToDate" == world.condition()


@pytest.mark.parametrize("kind", [StoreUnavailableError, StoreError, StorePermissionError])
async def test_status_that_cannot_be_written_is_written_later(
    world: SyncWorld, kind: type[StoreError]
) -> None:
    """The Secret is right meanwhile, so the status never says that it is not."""
    world.statuses.error = kind("the API refuses to patch secretsyncs/status")
    assert not (await world.reconcile()).is_done
    assert {"password": "canary-1"} == world.data()
    assert ["SecretSynced"] == reasons(world)
    world.api.calls.clear()
    assert not (await world.reconcile()).is_done
    assert [] == world.api.writes
    assert [] == world.take_events()
    world.statuses.error = None
    result = await world.reconcile()
    assert result.is_done
    assert result.next_at is not None
    assert [] == world.take_events()
    assert ["True SecretUpToDate"] == [
        f"{each.status.value} {each.reason}"
        for status in world.statuses.written
        for each in status.conditions
        if each.type == "Ready"
    ]


async def test_status_of_a_success_is_not_replaced_by_its_own_failure(world: SyncWorld) -> None:
    """The API refuses one write, and accepts the next one."""
    world.statuses.error, world.statuses.failures = StoreError("the API is overloaded"), 1
    assert not (await world.reconcile()).is_done
    assert [] == world.statuses.written
    assert (await world.reconcile()).is_done
    assert "True SecretUpToDate" == world.condition()
    assert 1 == len(world.statuses.written)


async def test_new_version_is_not_forgotten_with_the_status(synced: SyncWorld) -> None:
    """The Secret has it; the status gets it with the next attempt."""
    synced.provider.returns(content({"password": "canary-2"}, "v2"))
    synced.statuses.error = StoreUnavailableError("the API is unavailable")
    assert not (await synced.refresh()).is_done
    assert {"password": "canary-2"} == synced.data()
    synced.statuses.error = None
    await synced.reconcile()
    assert {"v2"} == {each.version for each in synced.status().objects}
    assert "True SecretUpToDate" == synced.condition()


async def test_failure_that_cannot_be_reported_is_reported_later(world: SyncWorld) -> None:
    """Also if the controller waits for a change otherwise."""
    world.remove_class()
    world.statuses.error = StoreUnavailableError("the API is unavailable")
    assert not (await world.reconcile()).is_done
    world.statuses.error = None
    assert (await world.reconcile()).is_done
    assert "False SecretProviderClassMisconfigured" == world.condition()


# --- Secrets of others ----------------------------------------------------------------------------


async def test_secret_of_somebody_else_stays_until_it_is_deleted(world: SyncWorld) -> None:
    """The controller does not watch it, so it looks again soon."""
    put_secret(world)
    result = await world.reconcile()
    assert {"theirs": "1"} == world.data()
    assert "False ControllerPatchError" == world.condition()
    assert ["SecretSyncFailed"] == reasons(world)
    assert result.is_done
    assert 5 == result.next_at
    assert 15 == (await world.refresh(5)).next_at
    assert 1 == len(world.statuses.written)
    world.delete_secret()
    await world.refresh(10)
    assert {"password": "canary-1"} == world.data()
    assert "True SecretUpToDate" == world.condition()


async def test_secret_of_somebody_else_is_adopted_on_request(world: SyncWorld) -> None:
    """Once; the annotation has no effect later."""
    put_secret(world)
    await world.reconcile()
    world.take_events()
    world.add_sync(secret_sync(annotations={"keyferry.dev/adopt": "true"}))
    await world.reconcile()
    assert {"password": "canary-1", "theirs": "1"} == world.data()
    assert ["SecretAdopted"] == reasons(world)
    await world.refresh()
    assert [] == reasons(world)


async def test_conflict_with_a_class_is_reported_on_both_objects(world: SyncWorld) -> None:
    """The driver keeps the Secret while a SecretProviderClass names it."""
    entry = SecretObject("web", "Opaque", ())
    world.add_class(sync_class("api", secret_objects=(entry,)))
    put_secret(world, labels={MANAGED_LABEL: "true"}, annotations={CLASS_ANNOTATION: "api"})
    for _ in range(2):
        await world.reconcile()
    own, other = world.take_events()
    assert own.startswith(
        "Warning SecretClaimed SecretSync/web: Secret shop/web belongs to SecretProviderClass"
        " shop/api, whose secretObjects name it."
    )
    assert other.startswith("Warning SecretClaimed SecretProviderClass/api: the SecretSync web")
    assert "False ControllerPatchError" == world.condition()
    assert {"theirs": "1"} == world.data()


async def test_conflict_of_two_secret_syncs(synced: SyncWorld) -> None:
    """Those of the two groups have the same name; the first one keeps the Secret."""
    synced.add_sync(secret_sync(group=GKE_GROUP, uid="gke-uid"))
    await synced.reconcile(group=GKE_GROUP)
    (event,) = synced.take_events()
    assert event.startswith("Warning SecretClaimed SecretSync/web: Secret shop/web belongs to the")
    assert "Delete one of the two SecretSyncs." in event
    assert "True SecretUpToDate" == synced.condition()
    synced.remove_sync()
    synced.delete_secret()
    await synced.reconcile(group=GKE_GROUP)
    assert {"password": "canary-1"} == synced.data()


# --- identities -----------------------------------------------------------------------------------


async def test_refused_token_is_reported(world: SyncWorld) -> None:
    """The service account may appear without a notice, so it is tried again soon."""
    world.settings = replace(world.settings, tokens=TokenSettings(("vault",)))
    world.restart()
    world.issuer.error = TokenRequestError("service account shop/web does not exist", "Create it.")
    result = await world.reconcile()
    assert "False ControllerSyncError" == world.condition()
    assert "service account shop/web does not exist. Create it." == world.message()
    assert 5 == result.next_at
    assert [] == world.provider.calls
    world.issuer.error = None
    await world.refresh(5)
    assert "True SecretUpToDate" == world.condition()
    assert "canary-token-2" in str(world.provider.calls[0].attributes)


async def test_credentials_are_read_for_each_fetch(world: SyncWorld) -> None:
    """They may be rotated. A changed annotation counts at once."""
    world.credentials.secrets = {"one": {"password": "canary-a"}, "two": {"password": "canary-b"}}
    for name in ("one", "two"):
        world.add_sync(secret_sync(annotations={"keyferry.dev/credentials-secret": name}))
        await world.reconcile()
    assert [{"password": "canary-a"}, {"password": "canary-b"}] == [
        call.secrets for call in world.provider.calls
    ]


# --- nothing leaks --------------------------------------------------------------------------------


async def test_no_value_is_shown(world: SyncWorld) -> None:
    """In no status, event or line of the log, whatever happens."""
    world.settings = replace(world.settings, tokens=TokenSettings(("vault",)))
    world.restart()
    world.credentials.secrets = {"login": {"clientsecret": "canary-login"}}
    typed = {
        "type": "kubernetes.io/dockerconfigjson",
        "data": [{"sourcePath": "password", "targetKey": ".dockerconfigjson"}],
    }
    failures: tuple[KeyferryError, ...] = (DENIED, StoreError("no"))
    with captured_log(verbosity=4) as log:
        world.add_sync(secret_sync(annotations={"keyferry.dev/credentials-secret": "login"}))
        await world.reconcile()
        world.provider.returns(content({"password": "canary-2"}, "v2"))
        await world.refresh()
        world.edit_secret({"data": {"password": "Y2FuYXJ5LWhhbmQ="}})
        await world.reconcile()
        for error in failures:
            world.provider.fails(error)
            await world.refresh()
        world.provider.returns(content({"password": "canary-3"}, "v3"))
        world.add_sync(secret_sync(generation=2, secretObject=typed))
        await world.reconcile()
        world.add_sync(secret_sync(generation=3))
        world.api.error = StoreError("no")
        await world.reconcile()
    assert "canary" in str(world.data())
    shown = (log.getvalue(), world.statuses.written, world.sink.events, world.view.syncs)
    for text in map(repr, shown):
        assert "canary" not in text
        assert "Y2FuYXJ5" not in text  # in base64
    assert "Secret written" in log.getvalue()
    assert 5 < len(world.sink.events)
