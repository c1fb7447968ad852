"""Kubernetes Secrets stay in sync with their SecretProviderClass (docs/concepts/secret-sync.md)."""

from __future__ import annotations

import json

import pytest

from tests.e2e.cluster.kubectl import Document
from tests.e2e.cluster.manifests import (
    VAULT,
    azure_class,
    deployment,
    pod,
    secret_object,
    stateful_set,
)
from tests.e2e.cluster.namespace import Namespace
from tests.e2e.cluster.secret_watch import watching_secret
from tests.e2e.cluster.side_by_side import scenario
from tests.e2e.cluster.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]


@scenario("two-deployments")
async def test_a_secret_belongs_to_both_deployments_that_use_it(shop: Namespace) -> None:
    """Two owners; each deleted Deployment removes one, and the last one the Secret."""
    shop.installed.vault.set_secret(VAULT, "two-deployments", "s3cret")
    synced = [secret_object("web", {"password": "secretalias"}, labels={"environment": "test"})]
    await shop.apply(
        azure_class("web", {"two-deployments": "secretalias"}, secret_objects=synced),
        *(
            deployment(name, "web", replicas=2, env={"PASSWORD": ("web", "password")})
            for name in ("blue", "green")
        ),
    )
    for name in ("blue", "green"):
        await shop.kubectl("rollout", "status", f"deployment/{name}", "--timeout=120s")
    await shop.owner_count("web", 2)
    assert {"ReplicaSet"} == {kind for kind, _ in await shop.owners("web")}
    labels = (await shop.get("secret", "web"))["metadata"]["labels"]
    assert {"environment": "test", "secrets-store.csi.k8s.io/managed": "true"} == labels
    await shop.delete("deployment", "blue")
    await shop.owner_count("web", 1)
    await shop.delete("deployment", "green")
    await shop.secret_removed("web")


@scenario("secret-of-replaced-pods")
async def test_a_secret_survives_replaced_pods(shop: Namespace) -> None:
    """Of a StatefulSet, of a Deployment with the strategy Recreate, and without an owner."""
    shop.installed.vault.set_secret(VAULT, "replaced", "s3cret")
    for name in ("db", "cert", "bare"):
        synced = [secret_object(name, {"password": "file"})]
        await shop.apply(azure_class(name, {"replaced": "file"}, secret_objects=synced))
    recreated = deployment("cert", "cert")
    recreated["spec"]["strategy"] = {"type": "Recreate"}
    await shop.apply(stateful_set("db", "db"), recreated, pod("bare", "bare"))
    await shop.ready("db-0", "bare")
    await shop.kubectl("rollout", "status", "deployment/cert", "--timeout=120s")
    async with (
        watching_secret(shop, "db") as db,
        watching_secret(shop, "cert") as cert,
        watching_secret(shop, "bare") as bare,
    ):
        await shop.delete("pod", "db-0", "bare")
        await shop.kubectl("rollout", "restart", "deployment/cert")
        await shop.apply(pod("bare", "bare"))
        await shop.ready("db-0", "bare")
        await shop.kubectl("rollout", "status", "deployment/cert", "--timeout=120s")
        await shop.owner_count("cert", 2)
        await shop.owner_count("bare", 1)
        for watch in (db, cert, bare):
            assert "DELETED" not in watch.kinds(), f"{watch.events}"
            assert 1 == len(watch.uids())
    assert [("StatefulSet", "db")] == await shop.owners("db")
    assert "SecretProviderClassPodStatus" == (await shop.owners("bare"))[0][0]
    await shop.delete("statefulset", "db")
    await shop.delete("deployment", "cert")
    for name in ("db", "cert"):
        await shop.wait("delete", f"secret/{name}")
        await shop.says("SecretDeleted", f"secret {name} was deleted by Kubernetes")
    await shop.delete("pod", "bare")
    await shop.says("SecretUnused", "no pod uses secret bare any more; it is deleted after 10m")
    kept = shop.installed.cluster.kubelet_root / "plugins/csi-secrets-store/unused-secrets.json"
    assert '"bare"' in kept.read_text()
    await shop.delete("secretproviderclass", "bare")
    await shop.wait("delete", "secret/bare")


@scenario("class-edited")
async def test_an_edited_secret_provider_class_changes_secrets_of_running_pods(
    shop: Namespace,
) -> None:
    """An added key, another type, a removed object and a removed entry, without a restart."""
    vault = shop.installed.vault
    for name in ("user", "password"):
        vault.set_secret(VAULT, f"class-edited-{name}", name)
    user, password = {"class-edited-user": "user"}, {"class-edited-password": "password"}
    await shop.apply(_class(user, {"username": "user"}), pod("web", "web"))
    await shop.ready("web")
    assert {"username": "user"} == await shop.secret_data("login")

    both = {"username": "user", "password": "password"}
    await shop.apply(_class(user | password, both))
    await shop.secret_has("login", both)
    await shop.reads("web", "/mnt/web/password", "password")

    await shop.apply(_class(user | password, both, kind="kubernetes.io/basic-auth"))
    await shop.says("SecretRecreated", "login")
    assert "kubernetes.io/basic-auth" == (await shop.get("secret", "login"))["type"]
    await shop.secret_has("login", both)

    await shop.apply(_class(password, {"password": "password"}, kind="kubernetes.io/basic-auth"))
    await shop.secret_has("login", {"password": "password"})
    await shop.run("web", "sh", "-c", "while [ -e /mnt/web/user ]; do sleep 0.5; done")

    await shop.apply(_class(password, {}))
    await shop.wait("delete", "secret/login")
    (container,) = (await shop.get("pod", "web"))["status"]["containerStatuses"]
    assert 0 == container["restartCount"]


def _class(objects: dict[str, str], data: dict[str, str], *, kind: str = "Opaque") -> Document:
    """Return SecretProviderClass `web`, with the Secret `login` unless `data` is empty."""
    synced = [secret_object("login", data, kind=kind)] if data else []
    return azure_class("web", objects, secret_objects=synced)


@scenario("by-hand")
async def test_a_manually_edited_or_deleted_secret_is_restored(shop: Namespace) -> None:
    """Its data is restored immediately; labels of other owners remain."""
    shop.installed.vault.set_secret(VAULT, "by-hand", "s3cret")
    synced = [secret_object("db", {"password": "file"})]
    await shop.apply(azure_class("web", {"by-hand": "file"}, secret_objects=synced))
    await shop.apply(pod("web", "web"))
    await shop.ready("web")
    data = {"password": "aGFuZA==", "more": "aGFuZA=="}
    patch = {"metadata": {"labels": {"team": "blue"}}, "data": data}
    await shop.kubectl("patch", "secret", "db", f"--patch={json.dumps(patch)}")
    await shop.secret_has("db", {"password": "s3cret"})
    await shop.says("SecretReverted", "db")
    assert "blue" == (await shop.get("secret", "db"))["metadata"]["labels"]["team"]

    before = (await shop.get("secret", "db"))["metadata"]["uid"]
    await shop.kubectl("delete", "secret", "db", "--wait=false")
    await shop.wait("create", "secret/db")
    await shop.secret_has("db", {"password": "s3cret"})
    assert before != (await shop.get("secret", "db"))["metadata"]["uid"]


@scenario("class-deleted")
async def test_files_and_secret_remain_when_the_secret_provider_class_is_deleted(
    shop: Namespace,
) -> None:
    """New pods fail; after it is created again, everything works as before."""
    vault = shop.installed.vault
    vault.set_secret(VAULT, "class-deleted", "first")
    synced = [secret_object("db", {"password": "file"})]
    cls = azure_class("web", {"class-deleted": "file"}, secret_objects=synced)
    await shop.apply(cls, pod("web", "web"))
    await shop.ready("web")
    await shop.delete("secretproviderclass", "web")
    await shop.apply(pod("late", "web"))
    await shop.says("FailedMount", "failed to get secretproviderclass class-deleted/web")
    assert "first" == await shop.read("web", "/mnt/web/file")
    assert {"password": "first"} == await shop.secret_data("db")

    vault.set_secret(VAULT, "class-deleted", "second")
    await shop.apply(cls)
    await shop.ready("late")
    await shop.reads("web", "/mnt/web/file", "second")
    await shop.secret_has("db", {"password": "second"})


@scenario("one-secret-two-classes")
async def test_the_first_of_two_secret_provider_classes_keeps_a_secret(shop: Namespace) -> None:
    """Both get an event; when the first one no longer lists the Secret, the second owns it."""
    vault = shop.installed.vault
    synced = [secret_object("db", {"password": "file"})]
    for name in ("first", "second"):
        vault.set_secret(VAULT, f"claim-{name}", f"of {name}")
        await shop.apply(azure_class(name, {f"claim-{name}": "file"}, secret_objects=synced))
        await shop.apply(pod(name, name))
        await shop.ready(name)
    for name, other in (("first", "second"), ("second", "first")):
        await _claimed(shop, name, other)
    await shop.says("FailedToCreateSecret", "first")
    assert {"password": "of first"} == await shop.secret_data("db")
    assert "of second" == await shop.read("second", "/mnt/second/file")

    await shop.apply(azure_class("first", {"claim-first": "file"}))
    await shop.secret_has("db", {"password": "of second"})


async def _claimed(shop: Namespace, name: str, other: str) -> None:
    async def reported() -> bool | None:
        events = (await shop.get("events", "--field-selector=reason=SecretConflict"))["items"]
        about = [(each["involvedObject"]["name"], each["message"]) for each in events]
        assert any(name == named and other in text for named, text in about), f"{about}"
        return True

    await eventually(reported, f"{name} to get an event about {other}", pause=1.0)


@scenario("foreign-secret")
async def test_an_unmanaged_secret_is_not_overwritten(shop: Namespace) -> None:
    """With the annotation for adoption, keys are added to it."""
    vault = shop.installed.vault
    vault.set_secret(VAULT, "foreign-secret", "from-vault")
    theirs = ("--from-literal=password=theirs", "--from-literal=more=theirs")
    await shop.kubectl("create", "secret", "generic", "db", *theirs)
    synced = [secret_object("db", {"password": "file"})]
    cls = azure_class("web", {"foreign-secret": "file"}, secret_objects=synced)
    await shop.apply(cls, pod("web", "web"))
    await shop.ready("web")
    await shop.says("FailedToCreateSecret", "db")
    assert {"password": "theirs", "more": "theirs"} == await shop.secret_data("db")
    cls["metadata"]["annotations"] = {"keyferry.dev/adopt-secrets": "db"}
    await shop.apply(cls)
    await shop.secret_has("db", {"password": "from-vault", "more": "theirs"})
    await shop.says("SecretAdopted", "the previous values of these keys were replaced: password")
    await shop.delete("secretproviderclass", "web")
    await shop.delete("pod", "web")
    await shop.secret_has("db", {"more": "theirs"})
    metadata = (await shop.get("secret", "db"))["metadata"]
    assert not {"labels", "annotations", "ownerReferences"} & metadata.keys()


@scenario("foreign-secret-deleted")
async def test_a_deleted_unmanaged_secret_is_replaced(shop: Namespace) -> None:
    """As the event advises, and immediately."""
    shop.installed.vault.set_secret(VAULT, "foreign-deleted", "from-vault")
    await shop.kubectl("create", "secret", "generic", "db", "--from-literal=password=theirs")
    synced = [secret_object("db", {"password": "file"})]
    await shop.apply(azure_class("web", {"foreign-deleted": "file"}, secret_objects=synced))
    await shop.apply(pod("web", "web"))
    await shop.ready("web")
    await shop.says("FailedToCreateSecret", "db")
    await shop.kubectl("delete", "secret", "db", "--wait=false")
    await shop.wait("create", "secret/db")
    await shop.secret_has("db", {"password": "from-vault"})
