"""SecretSyncs beside the garbage collector and the namespace controller of Kubernetes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import pytest_asyncio

from tests.e2e.cluster.chart import one, render
from tests.e2e.cluster.kubectl import Document
from tests.e2e.cluster.manifests import azure_class
from tests.e2e.cluster.sync_namespace import SyncNamespace, secret_sync, text_data
from tests.e2e.cluster.sync_process import DEFAULT, Controller, SyncWorld, running_sync_world

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

NAMESPACES = ("deleted", "kept", "replaced", "terminating", "gke")
GKE_CRD = "secretsyncs.secret-sync.gke.io"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[SyncWorld]:
    """An API server with those controllers, both CRDs of SecretSyncs, and the controller."""
    with TemporaryDirectory(prefix="keyferry-") as folder:
        async with running_sync_world(Path(folder)) as running:
            chart = await render(
                {"secretSync": {"enabled": True, "namespaces": ["gke"], "gkeCrd": True}}
            )
            crd = one(chart, "CustomResourceDefinition", GKE_CRD)
            await running.server.kubectl.apply(crd)
            await running.server.kubectl(
                "wait", "--for=condition=Established", "--timeout=60s", f"crd/{GKE_CRD}"
            )
            await running.start_garbage_collector()  # after the CRDs, for which it looks seldom
            await running.start_controller(DEFAULT, namespaces=NAMESPACES)
            yield running


async def _ready(world: SyncWorld, namespace: str) -> tuple[SyncNamespace, Document, str]:
    """Create a SecretSync; return its namespace, its Secret, and the value in it."""
    shop, value = SyncNamespace(world, namespace), world.set_secret(namespace)
    await shop.apply(azure_class("web", {namespace: "db"}), secret_sync("web", {"password": "db"}))
    await shop.ready("web")
    return shop, await shop.secret_has("web", {"password": value}), value


async def test_the_secret_is_deleted_with_its_secret_sync(world: SyncWorld) -> None:
    """By the garbage collector; the controller neither deletes it nor creates it again."""
    shop, _, _ = await _ready(world, "deleted")
    await shop.delete("SecretSync", "web")
    await shop.no_secret("web")
    (controller,) = world.controllers
    assert [] == [each for each in world.writes(controller) if "delete" == each.verb]
    assert 1 == sum("DELETED" == each.change for each in shop.versions("Secret", "web"))


async def test_an_orphaned_secret_is_kept(world: SyncWorld) -> None:
    """After `--cascade=orphan`; nobody repairs it, until a SecretSync takes it again."""
    shop, secret, value = await _ready(world, "kept")
    kubectl, at = world.server.kubectl, f"--namespace={shop.name}"
    resource = "secretsyncs.secret-sync.x-k8s.io/web"  # kubectl prefers the group of GKE
    await kubectl("delete", resource, at, "--cascade=orphan")
    await shop.edit("web", password="edited")

    def released() -> bool | None:
        found = world.recorder.latest("Secret", shop.name, "web")
        return (found is not None and "ownerReferences" not in found["metadata"]) or None

    await world.recorder.until(released, "the garbage collector to release the Secret")
    await shop.secret_has("web", {"password": "edited"})
    await shop.apply(secret_sync("web", {"password": "db"}))
    again = await shop.secret_has("web", {"password": value})
    assert secret["metadata"]["uid"] == again["metadata"]["uid"]


async def test_a_replaced_secret_sync_has_a_secret(world: SyncWorld) -> None:
    """`kubectl replace --force`: the garbage collector may delete the Secret of the old one."""
    shop, _, value = await _ready(world, "replaced")
    document = secret_sync("web", {"password": "db"})
    for _ in range(3):
        await world.client.delete("SecretSync", shop.name, "web")
        await shop.apply(document)
    sync = await shop.ready("web")

    def owned() -> bool | None:
        found = world.recorder.latest("Secret", shop.name, "web")
        owners = [
            each["uid"] for each in (found or {}).get("metadata", {}).get("ownerReferences", ())
        ]
        return [sync["metadata"]["uid"]] == owners or None

    await world.recorder.until(owned, "the Secret to belong to the new SecretSync")
    await shop.secret_has("web", {"password": value})


async def test_a_namespace_can_be_deleted(world: SyncWorld) -> None:
    """The controller does not hold it up, and does not retry for ever."""
    shop, _, _ = await _ready(world, "terminating")
    (controller,) = world.controllers
    start = len(controller.child.text())
    await world.server.kubectl("delete", "namespace", shop.name, "--timeout=120s")
    assert None is world.recorder.latest("Secret", shop.name, "web")
    assert _failures(controller, after=start) <= 3


def _failures(controller: Controller, *, after: int) -> int:
    return controller.child.text()[after:].count("SecretSync failed")


async def test_secret_syncs_of_gke_are_served(world: SyncWorld) -> None:
    """`secret-sync.gke.io/v1`: the Secret belongs to that object, and is repaired."""
    shop, value = SyncNamespace(world, "gke"), world.set_secret("gke")
    kubectl, at = world.server.kubectl, f"--namespace={shop.name}"
    made = {**secret_sync("web", {"password": "db"}), "apiVersion": "secret-sync.gke.io/v1"}
    await shop.apply(azure_class("web", {"gke": "db"}))
    await kubectl.apply(made, namespace=shop.name)
    resource = "secretsyncs.secret-sync.gke.io/web"
    await kubectl("wait", "--for=condition=Ready", resource, at, "--timeout=60s")
    secret = await shop.secret_has("web", {"password": value})
    (owner,) = secret["metadata"]["ownerReferences"]
    assert ("secret-sync.gke.io/v1", "web") == (owner["apiVersion"], owner["name"])
    await shop.edit("web", password="edited")
    await shop.secret_has("web", {"password": value})

    await shop.apply(secret_sync("web", {"password": "db"}))
    await shop.failed("web", "secret-sync.gke.io/v1", reason="ControllerPatchError")
    await kubectl("delete", resource, at)

    def taken() -> bool | None:
        found = world.recorder.latest("Secret", shop.name, "web")
        owners = (found or {}).get("metadata", {}).get("ownerReferences", ())
        groups = [each["apiVersion"] for each in owners]
        return ["secret-sync.x-k8s.io/v1alpha1"] == groups or None

    await world.recorder.until(taken, "the other SecretSync to get its Secret")
    latest = world.recorder.latest("Secret", shop.name, "web")
    assert latest is not None
    assert {"password": value} == text_data(latest)
