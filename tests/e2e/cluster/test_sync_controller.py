"""The life of the Secrets of SecretSyncs, with a real Kubernetes API and no node."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.e2e.cluster.kubectl import Document
from tests.e2e.cluster.manifests import VAULT, azure_class, secret_object
from tests.e2e.cluster.sync_namespace import (
    LABEL,
    SyncNamespace,
    azure_objects,
    changed_class,
    conditions,
    secret_sync,
    text_data,
)
from tests.e2e.cluster.sync_process import DEFAULT
from tests.e2e.cluster.sync_scenarios import STRICT, UNLISTED, sync_scenario
from tests.fakes.devvault import CertificateSpec

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

NEGATIVE_CACHE_SECONDS = 5.0
"""How long a missing object is not asked for again (--negative-cache-ttl)."""
DRIVER_LABEL = "secrets-store.csi.k8s.io/managed"


# --- creation ------------------------------------------------------------------------------------


@sync_scenario("created")
async def test_a_secret_is_created(shop: SyncNamespace) -> None:
    """With label, owner, field manager, conditions, status, event and the columns of kubectl."""
    value = shop.world.set_secret("created")
    await shop.apply(azure_class("web", {"created": "db"}))
    metadata = {"labels": {"team": "shop"}, "annotations": {"note": "of the SecretSync"}}
    await shop.apply(secret_sync("web", {"password": "db"}, secret=metadata))
    sync = await shop.measure("Ready of a new SecretSync", shop.ready("web"))
    secret = await shop.secret_has("web", {"password": value})
    assert "Opaque" == secret["type"]
    assert {"team": "shop", LABEL: ""} == secret["metadata"]["labels"]
    assert {"note": "of the SecretSync"} == secret["metadata"]["annotations"]
    owner = {"apiVersion": sync["apiVersion"], "kind": "SecretSync", "name": "web"}
    uid = sync["metadata"]["uid"]
    assert [{**owner, "uid": uid}] == secret["metadata"]["ownerReferences"]
    managers = [each["manager"] for each in secret["metadata"]["managedFields"]]
    assert ["secrets-store-sync-controller"] == managers

    new = conditions(shop.versions("SecretSync", "web")[0].object)
    assert ["Ready"] == list(new)
    assert ("Unknown", "Pending") == (new["Ready"]["status"], new["Ready"]["reason"])
    assert {"Ready", "SecretCreated", "SecretUpdated"} == set(conditions(sync))
    assert all(
        ("True", 1) == (each["status"], each["observedGeneration"])
        for each in conditions(sync).values()
    )
    status = sync["status"]
    assert 1 == status["observedGeneration"]
    assert status["syncHash"].startswith("kf1:")
    assert status["lastSuccessfulSyncTime"] == status["lastAttemptTime"]
    assert ["secret/created"] == [each["id"] for each in status["objects"]]
    assert secret["metadata"]["uid"] == status["observedSecret"]["uid"]
    assert {} == {key: sync["metadata"][key] for key in ("finalizers",) if key in sync["metadata"]}
    await shop.says("SecretSynced", "created the Secret", "secret/created", about="web")
    await _check_kubectl(shop)


async def _check_kubectl(shop: SyncNamespace) -> None:
    """Wait for a condition of upstream with kubectl, and read the columns."""
    kubectl, at = shop.world.server.kubectl, f"--namespace={shop.name}"
    wait = ("wait", "--for=condition=SecretCreated", "secretsync/web", at, "--timeout=60s")
    await kubectl(*wait)
    header, line = (await kubectl("get", "ssync", at)).splitlines()
    assert ["NAME", "CLASS", "SECRET", "TYPE", "READY", "REASON", "SYNCED", "AGE"] == header.split()
    assert ["web", "web", "Opaque", "True", "SecretUpToDate"] == line.split()[:5]


@sync_scenario("class-later")
async def test_a_missing_class_is_waited_for(shop: SyncNamespace) -> None:
    """A SecretSync fails until its SecretProviderClass exists; without it, the Secret stays."""
    value = shop.world.set_secret("class-later")
    await shop.apply(secret_sync("web", {"password": "db"}))
    failed = await shop.failed("web", "web", reason="SecretProviderClassMisconfigured")
    assert ("False", "True") == tuple(
        conditions(failed)[each]["status"] for each in ("SecretCreated", "Stalled")
    )
    assert "Unknown" == conditions(failed)["SecretUpdated"]["status"]
    await shop.says("SecretSyncFailed", "secretProviderClassName", about="web")
    spc = azure_class("web", {"class-later": "db"})
    await shop.apply(spc)
    await shop.measure("Ready after its SecretProviderClass", shop.ready("web"))
    await shop.secret_has("web", {"password": value})

    await shop.delete("SecretProviderClass", "web")
    failed = await shop.failed("web", reason="SecretProviderClassMisconfigured")
    assert "True" == conditions(failed)["SecretCreated"]["status"]
    assert "False" == conditions(failed)["SecretUpdated"]["status"]
    await shop.secret_has("web", {"password": value})
    await shop.apply(spc)
    await shop.ready("web")


@sync_scenario(UNLISTED)
async def test_a_namespace_that_is_not_listed_is_reported(shop: SyncNamespace) -> None:
    """The message names the value of the chart, and never quotes the API."""
    shop.world.set_secret("unlisted")
    await shop.apply(azure_class("web", {"unlisted": "db"}), secret_sync("web", {"x": "db"}))
    sync = await shop.failed("web", "secretSync.namespaces", UNLISTED, reason="ControllerSyncError")
    assert "forbidden" not in conditions(sync)["Ready"]["message"].lower()
    message = await shop.says("SecretSyncFailed", "secretSync.namespaces", about="web")
    assert "forbidden" not in message.lower()
    assert [] == shop.versions("Secret", "web")


@sync_scenario("other-controller")
async def test_secret_syncs_of_other_controllers_are_ignored(shop: SyncNamespace) -> None:
    """Until they name this one; one that hands over leaves the Secret as it is."""
    value = shop.world.set_secret("other-controller")
    await shop.apply(azure_class("web", {"other-controller": "db"}))
    mine = secret_sync("web", {"password": "db"}, secretSyncControllerName="somebody")
    await shop.apply(mine, secret_sync("control", {"password": "db"}, spc="web"))
    await shop.ready("control")
    assert 1 == len(shop.versions("SecretSync", "web")), "nobody writes its status"
    mine["spec"]["secretSyncControllerName"] = DEFAULT
    await shop.apply(mine)
    await shop.ready("web")
    secret = await shop.secret_has("web", {"password": value})
    mine["spec"]["secretSyncControllerName"] = "somebody"
    await shop.apply(mine)
    await shop.edit("web", password="edited by the other controller")
    await shop.force("control", "1")
    await shop.ready("control")
    kept = await shop.secret_has("web", {"password": "edited by the other controller"})
    assert secret["metadata"]["uid"] == kept["metadata"]["uid"]


@sync_scenario("legacy")
async def test_conditions_of_upstream_v0_0_4_are_written_on_request(shop: SyncNamespace) -> None:
    """With the flag --legacy-conditions."""
    shop.world.set_secret("legacy")
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "default", "labels": {"secret-sync.x-k8s.io/allowed": "true"}},
    }
    sync = secret_sync("web", {"password": "db"}, secretSyncControllerName=STRICT)
    await shop.apply(account, azure_class("web", {"legacy": "db"}), sync)
    made = conditions(await shop.ready("web"))
    assert ("True", "CreateSucceeded") == (made["Create"]["status"], made["Create"]["reason"])


# --- drift ---------------------------------------------------------------------------------------


@sync_scenario("drift")
async def test_changes_of_others_are_reverted(shop: SyncNamespace) -> None:
    """A deleted Secret, an edited or removed key, label and owner; keys of others stay."""
    value = shop.world.set_secret("drift")
    await shop.apply(azure_class("web", {"drift": "db"}), secret_sync("web", {"password": "db"}))
    await shop.ready("web")
    first = await shop.secret_has("web", {"password": value})

    await shop.delete("Secret", "web")
    again = await shop.measure("deleted Secret is back", _recreated(shop, "web", first))
    await shop.says("SecretReverted", "deleted", about="web")
    assert {"password": value} == text_data(again)

    await shop.edit("web", password="edited", baz="of somebody else")
    both = {"password": value, "baz": "of somebody else"}
    await shop.measure("edited key is reverted", shop.secret_has("web", both))
    await shop.says("SecretReverted", "changed", about="web")
    edited = [each for each in shop.versions("Secret", "web") if each.change == "MODIFIED"]
    assert "edited" in {text_data(each.object)["password"] for each in edited}

    changes: list[Document] = [
        {"data": {"password": None}},
        {"metadata": {"labels": {LABEL: None}}},
        {"metadata": {"ownerReferences": None}},
    ]
    for change in changes:
        changed = await shop.merge("Secret", "web", change)
        assert not _is_whole(changed)
        await shop.world.recorder.until(
            lambda: _is_whole(shop.world.recorder.latest("Secret", shop.name, "web")) or None,
            f"the Secret to be restored after {change}",
        )
    await shop.secret_has("web", both)
    sync = await shop.ready("web")
    assert 1 == sync["metadata"]["generation"]


def _is_whole(secret: Document | None) -> bool:
    metadata: dict[str, Any] = (secret or {"metadata": {}})["metadata"]
    return (
        LABEL in metadata.get("labels", {})
        and 1 == len(metadata.get("ownerReferences", ()))
        and "password" in (secret or {}).get("data", {})
    )


async def _recreated(shop: SyncNamespace, name: str, before: Document) -> Document:
    """Wait until the Secret exists with another uid."""

    def look() -> Document | None:
        found = shop.world.recorder.latest("Secret", shop.name, name)
        is_new = found and found["metadata"]["uid"] != before["metadata"]["uid"]
        return found if is_new else None

    return await shop.world.recorder.until(look, f"another secret {name}")


@sync_scenario("drift-ignored")
async def test_drift_is_ignored_on_request(shop: SyncNamespace) -> None:
    """An edited key stays until the vault has a new value; a deleted Secret still comes back."""
    value = shop.world.set_secret("drift-ignored")
    ignore = {"keyferry.dev/drift": "ignore"}
    await shop.apply(
        azure_class("web", {"drift-ignored": "db"}),
        secret_sync("web", {"password": "db"}, annotations=ignore),
    )
    await shop.ready("web")
    first = await shop.secret_has("web", {"password": value})
    await shop.edit("web", password="edited")
    await _refreshed(shop, "1")
    await shop.secret_has("web", {"password": "edited"})
    value = shop.world.set_secret("drift-ignored")
    await _refreshed(shop, "2")
    await shop.secret_has("web", {"password": value})
    await shop.delete("Secret", "web")
    assert {"password": value} == text_data(await _recreated(shop, "web", first))


async def _refreshed(shop: SyncNamespace, mark: str, *, name: str = "web") -> None:
    """Ask for a refresh with the annotation of the SecretSync, and wait for it."""
    await shop.annotate("SecretSync", name, refresh=mark)

    def look() -> bool | None:
        sync = shop.world.recorder.latest("SecretSync", shop.name, name)
        return (sync is not None and mark in sync["status"].get("observedRefresh", "")) or None

    await shop.world.recorder.until(look, f"the refresh {mark} of {name}")


# --- rotation and changes ------------------------------------------------------------------------


@sync_scenario("class-edited")
async def test_a_changed_class_changes_the_secret(shop: SyncNamespace) -> None:
    """The aliases of two objects are exchanged; then a key has a name that is no object."""
    one, two = shop.world.set_secret("class-one"), shop.world.set_secret("class-two")
    await shop.apply(
        azure_class("web", {"class-one": "now", "class-two": "later"}),
        secret_sync("web", {"password": "now"}),
    )
    await shop.secret_has("web", {"password": one})
    await shop.ready("web")
    await shop.apply(azure_class("web", {"class-one": "later", "class-two": "now"}))
    follows = shop.secret_has("web", {"password": two})
    await shop.measure("Secret follows its SecretProviderClass", follows)
    await shop.ready("web")
    await shop.apply(azure_class("web", {"class-one": "old", "class-two": "new"}))
    await shop.failed("web", "'now'", "old", "new", reason="RemoteSecretStoreFetchFailed")
    await shop.secret_has("web", {"password": two})
    await shop.apply(secret_sync("web", {"username": "old", "by-name": "class-two"}))
    await shop.secret_has("web", {"username": one, "by-name": two})
    await shop.ready("web")


@sync_scenario("rotated")
async def test_a_rotated_secret_is_synced_on_request(shop: SyncNamespace) -> None:
    """`forceSynchronization`, and the annotation of the SecretSync and of the class."""
    first = shop.world.set_secret("rotated")
    await shop.apply(azure_class("web", {"rotated": "db"}), secret_sync("web", {"password": "db"}))
    await shop.ready("web")
    secret = await shop.secret_has("web", {"password": first})

    second = shop.world.set_secret("rotated")
    await shop.force("web", "x2")
    forced = shop.secret_has("web", {"password": second})
    await shop.measure("new value after forceSynchronization", forced)
    sync = await shop.ready("web")
    assert "x2" == sync["status"]["observedForceSynchronization"]
    await shop.says("SecretSynced", "secret/rotated", about="web")

    third = shop.world.set_secret("rotated")
    await shop.annotate("SecretSync", "web", refresh="1")
    await shop.secret_has("web", {"password": third})
    fourth = shop.world.set_secret("rotated")
    await shop.annotate("SecretProviderClass", "web", refresh="1")
    last = await shop.secret_has("web", {"password": fourth})
    assert secret["metadata"]["uid"] == last["metadata"]["uid"]
    values = [text_data(each.object)["password"] for each in shop.versions("Secret", "web")]
    assert [first, second, third, fourth] == values


@sync_scenario("interval")
async def test_an_interval_of_its_own_refreshes_a_secret(shop: SyncNamespace) -> None:
    """An annotation of the SecretSync, or a parameter of its SecretProviderClass."""
    shop.world.set_secret("interval")
    short = azure_class("by-class", {"interval": "db"})
    short["spec"]["parameters"]["rotationPollInterval"] = "2s"
    often = {"keyferry.dev/refresh-interval": "2s"}
    await shop.apply(
        short,
        azure_class("web", {"interval": "db"}),
        secret_sync("by-class", {"password": "db"}),
        secret_sync("by-annotation", {"password": "db"}, spc="web", annotations=often),
    )
    names = ("by-class", "by-annotation")
    for name in names:
        await shop.ready(name)
    value = shop.world.set_secret("interval")
    for name in names:
        await shop.secret_has(name, {"password": value})


@sync_scenario("typed")
async def test_a_changed_type_recreates_the_secret(shop: SyncNamespace) -> None:
    """A certificate as two keys: of type Opaque, then kubernetes.io/tls."""
    shop.vault.create_certificate(VAULT, "shop-tls", CertificateSpec(hosts=["shop.example.com"]))
    spc = changed_class(
        azure_class("web", {}),
        objects=azure_objects({"objectName": "shop-tls", "objectType": "secret"}),
    )
    parts = {"tls.crt": "shop-tls/tls.crt", "tls.key": "shop-tls/tls.key"}
    await shop.apply(spc, secret_sync("web", parts))
    await shop.ready("web")
    before = await shop.secret("web")
    assert "Opaque" == before["type"]
    data = text_data(before)
    certificate = x509.load_pem_x509_certificate(data["tls.crt"].encode())
    key = load_pem_private_key(data["tls.key"].encode(), password=None)
    assert certificate.public_key() == key.public_key()
    shop.world.canaries.append(data["tls.key"].splitlines()[5])

    await shop.apply(secret_sync("web", parts, kind="kubernetes.io/tls"))
    await shop.ready("web")
    after = await _recreated(shop, "web", before)
    assert "kubernetes.io/tls" == after["type"]
    assert data == text_data(after)
    assert before["metadata"]["ownerReferences"] == after["metadata"]["ownerReferences"]
    await shop.says("SecretRecreated", "from Opaque to kubernetes.io/tls", about="web")


# --- content -------------------------------------------------------------------------------------


@sync_scenario("contents")
async def test_histories_templates_and_variables_are_sources(shop: SyncNamespace) -> None:
    """`NAME/0` and `NAME/1`; a file of `templates`, and that of `envFile`."""
    old = shop.world.set_secret("history")
    await asyncio.sleep(1.1)  # versions are sorted by the second
    new, user = shop.world.set_secret("history"), shop.world.set_secret("user")
    history = {"objectName": "history", "objectType": "secret", "objectVersionHistory": 2}
    spc = changed_class(
        azure_class("web", {}),
        objects=azure_objects(history, {"objectName": "user", "objectType": "secret"}),
        envFile=".env",
        envNames='history/0: PASSWORD\nhistory/1: ""\nuser: USERNAME\n',
        templates="- path: url\n  template: https://{{ user }}:{{ history/0 }}@shop\n",
    )
    data = {"now": "history/0", "before": "history/1", "url": "url", ".env": ".env"}
    await shop.apply(spc, secret_sync("web", data))
    await shop.ready("web")
    made = text_data(await shop.secret("web"))
    assert (new, old) == (made["now"], made["before"])
    assert f"https://{user}:{new}@shop" == made["url"]
    assert {f"PASSWORD='{new}'", f"USERNAME='{user}'"} == {
        line.replace('"', "'") for line in made[".env"].splitlines() if line[:1].isalpha()
    }


@sync_scenario("optional")
async def test_an_optional_object_may_be_missing(shop: SyncNamespace) -> None:
    """Its key is left out, and added once it exists; kept if it disappears."""
    value = shop.world.set_secret("required")
    optional = {"objectName": "maybe", "objectType": "secret", "optional": True}
    spc = changed_class(
        azure_class("web", {}),
        objects=azure_objects({"objectName": "required", "objectType": "secret"}, optional),
    )
    await shop.apply(spc, secret_sync("web", {"password": "required", "feature": "maybe"}))
    sync = await shop.ready("web", reason="PartialSync")
    assert "maybe" in conditions(sync)["Ready"]["message"]
    await shop.secret_has("web", {"password": value})
    await shop.says("SecretMissingOptional", "maybe", about="web")
    feature = shop.world.set_secret("maybe")
    await asyncio.sleep(NEGATIVE_CACHE_SECONDS)
    await shop.annotate("SecretSync", "web", refresh="1")
    await shop.secret_has("web", {"password": value, "feature": feature})
    await shop.ready("web")
    shop.vault.delete(VAULT, "maybe")
    await shop.annotate("SecretSync", "web", refresh="2")
    await shop.ready("web", reason="PartialSync")
    await shop.secret_has("web", {"password": value, "feature": feature})


# --- Secrets that exist --------------------------------------------------------------------------


@sync_scenario("adopted")
async def test_a_secret_of_nobody_is_adopted_on_request(shop: SyncNamespace) -> None:
    """Which its owner and the author of the SecretSync give; it keeps uid and keys of others."""
    value = shop.world.set_secret("adopted")
    theirs = {"password": "of the team", "other": "kept"}
    await shop.apply(azure_class("web", {"adopted": "db"}), _secret("web", theirs))
    await shop.apply(secret_sync("web", {"password": "db"}))
    await shop.failed("web", "keyferry.dev/adopt", reason="ControllerPatchError")
    before = await shop.secret_has("web", theirs)
    await shop.annotate("SecretSync", "web", adopt="true")
    await shop.failed("web", "keyferry.dev/adopt=true on both", reason="ControllerPatchError")
    await shop.annotate("Secret", "web", adopt="true")
    await shop.annotate("SecretSync", "web", refresh="1")
    after = await shop.secret_has("web", {"password": value, "other": "kept"})
    assert before["metadata"]["uid"] == after["metadata"]["uid"]
    await shop.ready("web")
    await shop.says("SecretAdopted", about="web")
    await shop.edit("web", password="edited")
    await shop.secret_has("web", {"password": value, "other": "kept"})


@sync_scenario("of-the-driver")
async def test_a_secret_of_the_driver_is_adopted_once_no_class_names_it(
    shop: SyncNamespace,
) -> None:
    """While `secretObjects` name it, both objects report the conflict; then as documented."""
    value = shop.world.set_secret("of-the-driver")
    spc = azure_class("web", {"of-the-driver": "db"})
    of_driver = azure_class(
        "pods", {"of-the-driver": "db"}, secret_objects=[secret_object("web", {"password": "db"})]
    )
    labels = {DRIVER_LABEL: "true"}
    await shop.apply(spc, of_driver)
    made = _secret("web", {"password": "of the driver"}, labels=labels)
    made["metadata"]["ownerReferences"] = [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "1-2-3"}
    ]
    await shop.apply(made)
    await shop.apply(secret_sync("web", {"password": "db"}, annotations=_ADOPT))
    await shop.failed("web", "pods", "secretObjects", reason="ControllerPatchError")
    await shop.says("SecretClaimed", "pods", about="web")
    await shop.says("SecretClaimed", "SecretSync", about="pods")
    before = await shop.secret_has("web", {"password": "of the driver"})

    await shop.apply(azure_class("pods", {"of-the-driver": "db"}))
    released = {"metadata": {"ownerReferences": None, "annotations": _ADOPT}}
    await shop.merge("Secret", "web", released)
    await shop.annotate("SecretSync", "web", refresh="1")
    after = await shop.secret_has("web", {"password": value})
    await shop.ready("web")
    assert before["metadata"]["uid"] == after["metadata"]["uid"]
    owners = [each["kind"] for each in after["metadata"]["ownerReferences"]]
    assert ["SecretSync"] == owners
    assert LABEL in after["metadata"]["labels"]
    assert DRIVER_LABEL not in after["metadata"]["labels"]


_ADOPT = {"keyferry.dev/adopt": "true"}


def _secret(name: str, data: dict[str, str], *, labels: Document | None = None) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": labels or {}},
        "stringData": data,
    }
