"""Reconciling SecretSyncs with dynamic, optional and expiring objects, and further notices."""

from __future__ import annotations

import pytest

from keyferry.content import MISSING_VERSION, MissingObject, NamedFile, ObjectVersion
from keyferry.kubernetes.objects import SecretKeyMapping, SecretObject
from keyferry.providers.expiry import Expiry
from keyferry.records import replace
from keyferry.sync_controller.settings import SyncControllerSettings
from tests.fakes.secret_syncs import POD, SyncWorld, content, secret_sync, sync_class

KEY = secret_sync().ref.key

# --- dynamic secrets ------------------------------------------------------------------------------


async def test_holder_of_leases_is_recorded(world: SyncWorld) -> None:
    """Only the process that fetched a dynamic secret renews it."""
    world.provider.returns(content({"password": "1"}, is_leased=True))
    await world.reconcile()
    assert POD.name == world.status().lease_holder
    world.restart()
    await world.reconcile()
    assert 1 == len(world.provider.calls)
    world.provider.returns(content({"password": "1"}))
    await world.refresh()
    assert "" == world.status().lease_holder


async def test_leases_of_another_pod_are_replaced(world: SyncWorld) -> None:
    """Nobody renews them any more."""
    world.provider.returns(content({"password": "canary-1"}, is_leased=True))
    await world.reconcile()
    other = replace(POD, name="keyferry-sync-1")
    world.settings = replace(world.settings, pod=other)
    world.restart()
    world.provider.returns(content({"password": "canary-2"}, "v2", is_leased=True))
    await world.reconcile()
    assert {"password": "canary-2"} == world.data()
    assert other.name == world.status().lease_holder
    await world.reconcile()
    assert 2 == len(world.provider.calls)


async def test_lease_that_cannot_be_renewed_is_replaced(world: SyncWorld) -> None:
    """Before the dynamic secret expires; once."""
    world.provider.returns(content({"password": "canary-1"}, is_leased=True))
    await world.reconcile()
    world.reconciler.lose_lease(KEY)
    world.provider.returns(content({"password": "canary-2"}, "v2", is_leased=True))
    await world.reconcile()
    assert {"password": "canary-2"} == world.data()
    await world.reconcile()
    assert 2 == len(world.provider.calls)
    world.reconciler.lose_lease((KEY[0], "shop", "unknown"))


# --- optional objects -----------------------------------------------------------------------------


def missing_cert(*, keeps: bool) -> MissingObject:
    return MissingObject("cert/cert", ("cert",), "it is disabled", keeps=keeps)


async def test_key_of_a_missing_object_is_left_out(world: SyncWorld) -> None:
    """The Secret has the others, and the status says so."""
    data = [
        {"sourcePath": "password", "targetKey": "password"},
        {"sourcePath": "cert", "targetKey": "cert"},
    ]
    world.add_sync(secret_sync(secretObject={"type": "Opaque", "data": data}))
    world.providers.named = (NamedFile("cert", frozenset(), "cert cert", optional=True),)
    found = content({"password": "canary-1"}, missing=(missing_cert(keeps=False),))
    absent = ObjectVersion("cert/cert", MISSING_VERSION)
    world.provider.returns(replace(found, versions=(*found.versions, absent)))
    await world.reconcile()
    assert {"password": "canary-1"} == world.data()
    assert "True PartialSync" == world.condition()
    assert "Secret lacks optional objects that do not exist: cert/cert." == world.message()
    assert [
        "Normal SecretSynced SecretSync/web: created the Secret: secret/password at version v1",
        (
            "Warning SecretMissingOptional SecretSync/web: the Secret lacks optional objects:"
            " cert/cert: it is disabled"
        ),
    ] == world.take_events()
    await world.refresh()
    assert [] == world.take_events()
    world.provider.returns(content({"password": "canary-1", "cert": "2"}))
    await world.refresh()
    assert {"password": "canary-1", "cert": "2"} == world.data()
    assert "True SecretUpToDate" == world.condition()


@pytest.mark.parametrize("keeps", [True, False])
async def test_typed_secret_of_a_missing_object(world: SyncWorld, keeps: bool) -> None:
    """It is kept or deleted as a whole, as the entry of the object says."""
    typed = SecretObject(
        "web",
        "kubernetes.io/basic-auth",
        (SecretKeyMapping("user", "username"), SecretKeyMapping("cert", "password")),
    )
    world.add_sync(replace(secret_sync(), secret_object=typed))
    world.providers.named = (NamedFile("cert", frozenset(), "cert cert", optional=True),)
    whole = content({"user": "me", "cert": "canary"})
    world.provider.returns(whole)
    await world.reconcile()
    assert {"username": "me", "password": "canary"} == world.data()
    absent = ObjectVersion("secret/cert", MISSING_VERSION)
    world.provider.returns(
        replace(
            content({"user": "me"}, missing=(missing_cert(keeps=keeps),)),
            versions=(whole.versions[0], absent),
        )
    )
    await world.refresh()
    assert keeps is (world.secret() is not None)
    assert "True PartialSync" == world.condition()
    events = [line.split()[1] for line in world.take_events()]
    assert ["SecretSynced", "SecretMissingOptional"] == events
    calls = len(world.provider.calls)
    await world.reconcile()
    assert calls == len(world.provider.calls)
    world.provider.returns(
        replace(whole, versions=content({"user": "", "cert": ""}, "v2").versions)
    )
    await world.refresh()
    assert {"username": "me", "password": "canary"} == world.data()
    assert "True SecretUpToDate" == world.condition()


async def test_left_out_secret_of_somebody_else_stays(world: SyncWorld) -> None:
    """It has the name of the SecretSync, and not its owner."""
    world.api.objects.replace(
        ("secrets", "shop", "web"), {"metadata": {}, "type": "Opaque", "data": {"x": "MQ=="}}
    )
    world.providers.named = (NamedFile("password", frozenset(), "secret password", optional=True),)
    gap = MissingObject("secret/password", ("password",), "it does not exist", keeps=False)
    absent = (ObjectVersion("secret/password", MISSING_VERSION),)
    world.provider.returns(content({}, versions=absent, missing=(gap,)))
    await world.reconcile()
    assert {"x": "1"} == world.data()
    assert "True PartialSync" == world.condition()


# --- external providers ---------------------------------------------------------------------------


@pytest.fixture
async def external(world: SyncWorld) -> SyncWorld:
    """A SecretSync of an external provider, after its first sync."""
    world.providers.is_external = True
    await world.reconcile()
    world.take_events()
    world.api.calls.clear()
    world.statuses.written.clear()
    return world


async def test_new_value_of_an_old_version_is_written(external: SyncWorld) -> None:
    """External providers report any versions; upstream compares the content, too."""
    await external.refresh()
    assert [] == external.api.calls
    external.provider.returns(content({"password": "canary-2"}, "v1"))
    await external.refresh()
    assert {"password": "canary-2"} == external.data()
    assert ["Normal SecretSynced SecretSync/web: updated the Secret"] == external.take_events()
    external.api.calls.clear()
    await external.refresh()
    assert [] == external.api.calls


async def test_unknown_content_is_compared_with_the_secret(external: SyncWorld) -> None:
    """After a restart, the first refresh reads the Secret once."""
    external.restart()
    await external.reconcile()
    assert [] == external.api.calls
    await external.refresh()
    assert ["get secrets"] == external.api.calls
    await external.refresh()
    assert ["get secrets"] == external.api.calls


async def test_ignored_drift_of_an_external_provider_stays(external: SyncWorld) -> None:
    """Until the content changes, whatever its version."""
    external.add_sync(secret_sync(annotations={"keyferry.dev/drift": "ignore"}))
    external.edit_secret({"data": {"password": "aGFuZA=="}})
    await external.reconcile()
    await external.refresh()
    assert {"password": "hand"} == external.data()
    external.provider.returns(content({"password": "canary-2"}, "v1"))
    await external.refresh()
    assert {"password": "canary-2"} == external.data()


async def test_external_provider_without_files_is_reported(world: SyncWorld) -> None:
    """It writes them itself, and there is no volume."""
    world.providers.is_external = True
    world.provider.returns(content({}, versions=(ObjectVersion("secret/a", "1"),)))
    assert not (await world.reconcile()).is_done
    assert "returned no files: it writes them into the volume of a pod" in world.message()
    assert world.secret() is None


# --- other notices --------------------------------------------------------------------------------


async def test_expiring_object_is_reported(world: SyncWorld) -> None:
    """Each refresh repeats the same event, which counts."""
    soon = int(world.clock.wall().timestamp()) + 3600
    expiry = Expiry("secret password", soon, 86_400)
    world.provider.returns(content({"password": "1"}, expiries=(expiry,)))
    await world.reconcile()
    expected = (
        "Warning ObjectNearExpiry SecretSync/web: secret password expires on 2030-01-01 13:00 UTC"
    )
    assert expected == world.take_events()[-1]
    await world.refresh()
    assert [expected.replace("expires", "expired")] == world.take_events()


async def test_mistakes_are_reported_when_they_appear(world: SyncWorld) -> None:
    """Once, also if they are made later."""
    await world.reconcile()
    world.take_events()
    mistaken = secret_sync(annotations={"keyferry.dev/drift": "no", "keyferry.dev/adpt": "true"})
    world.add_sync(mistaken)
    await world.reconcile()
    assert ["UnknownField", "InvalidAnnotation"] == [
        line.split()[1] for line in world.take_events()
    ]
    await world.refresh()
    assert [] == world.take_events()


async def test_managed_identity_is_noted(world: SyncWorld) -> None:
    """It is that of the node of the controller, which surprises."""
    world.add_class(
        sync_class(provider="azure", parameters={"useVMManagedIdentity": "true", "objects": "x"})
    )
    await world.reconcile()
    assert world.message().endswith(
        "It was read with the managed identity of the node on which the controller runs."
    )
    await world.refresh()
    assert 1 == len(world.statuses.written)


async def test_legacy_conditions_are_written_on_request() -> None:
    """Those of upstream's v0.0.4."""
    world = SyncWorld(SyncControllerSettings(pod=POD, legacy_conditions=True))
    world.add_class()
    world.add_sync()
    await world.reconcile()
    assert "True CreateSucceeded" == world.condition("Create")
    for _ in range(3):
        await world.refresh()
    assert "True UpdateNoValueChangeSucceeded" == world.condition("Update")
    assert 2 == len(world.statuses.written)
