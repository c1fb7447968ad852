"""Secrets of SecretProviderClasses whose optional objects are missing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from keyferry.content import MissingObject, ObjectVersion, SecretFile
from keyferry.providers.api import MountResult
from tests.fakes.clock import ManualClock
from tests.fakes.driver import NAMESPACE
from tests.fakes.kube_api import KubeApiServer, class_manifest
from tests.fakes.kube_node import Node, running_node, wait_until
from tests.fakes.secret_lifetime import changes, create_owner

INTERVAL = 300.0
"""Long, so that no slot of a refresh passes in a test that does not ask for one."""

NAMES = ("username", "password")


def web_class(secret_type: str = "kubernetes.io/basic-auth", on_missing: str = "keep") -> Any:
    """A SecretProviderClass with two optional objects, which form the Secret `db`."""
    manifest = class_manifest("web", provider="vault")
    entry = "- objectName: {0}\n  secretPath: secret/data/db\n  secretKey: {0}\n  optional: true\n"
    manifest["spec"]["parameters"] = {
        "roleName": "web",
        "vaultAddress": "https://vault.example.com",
        "objects": "".join(map(entry.format, NAMES)),
        "onMissing": on_missing,
    }
    data = [{"objectName": name, "key": name} for name in NAMES]
    manifest["spec"]["secretObjects"] = [{"secretName": "db", "type": secret_type, "data": data}]
    return manifest


def content(value: str, *, lacks: tuple[str, ...] = (), keeps: bool = True) -> MountResult:
    """The result of a mount without the objects `lacks`."""
    return MountResult(
        tuple(ObjectVersion(name, "missing" if name in lacks else value) for name in NAMES),
        tuple(SecretFile(name, 0o644, value.encode()) for name in NAMES if name not in lacks),
        missing=tuple(MissingObject(name, (name,), "it is disabled", keeps) for name in lacks),
    )


@pytest.fixture
async def node(mount_home: Path, api: KubeApiServer) -> AsyncIterator[Node]:
    """A node whose pods refresh their volumes."""
    home = mount_home / "1"
    home.mkdir()
    async with running_node(
        home, api, provider_name="vault", rotation_interval=INTERVAL
    ) as running:
        yield running


async def start(node: Node, result: MountResult, pod: str = "web-0", owner: str = "web") -> None:
    node.provider.returns(result)
    await node.driver.clock.advance(1)
    create_owner(node.api, owner)
    node.schedule(pod, "web", owner=owner)
    await node.publish("web", pod)
    await node.settle()


async def refresh(node: Node, result: MountResult, pod: str = "web-0") -> None:
    node.provider.returns(result)
    await node.driver.clock.advance(2 * INTERVAL)
    await node.publish("web", pod)
    await node.settle()


async def test_key_of_a_missing_object_is_left_out(node: Node, api: KubeApiServer) -> None:
    """It arrives with the object. None of this is a failure."""
    api.put("secretproviderclasses", web_class("Opaque"))
    await start(node, content("1", lacks=("password",)))
    assert {"username": "1"} == node.secret_values("db")
    await refresh(node, content("2"))
    assert {"username": "2", "password": "2"} == node.secret_values("db")
    assert [] == await node.events("FailedToCreateSecret")


async def test_secret_of_a_type_with_keys_is_left_out(node: Node, api: KubeApiServer) -> None:
    """Half of it would be rejected, or useless."""
    api.put("secretproviderclasses", web_class())
    await start(node, content("1", lacks=("password",)))
    assert node.secret("db") is None
    assert [] == await node.events("FailedToCreateSecret")
    spc = await node.store.get_class(NAMESPACE, "web")
    assert node.driver.engine.secret_controller.warnings(spc) == (
        "Secret shop/db is left out: optional objects of it are missing",
    )
    await refresh(node, content("2"))
    assert {"username": "2", "password": "2"} == node.secret_values("db")


@pytest.mark.parametrize("secret_type", ["Opaque", "kubernetes.io/basic-auth"])
async def test_secret_outlives_the_pods_that_had_the_object(
    node: Node, api: KubeApiServer, secret_type: str
) -> None:
    """The Deployment of a pod without the object owns it next, so Kubernetes does not delete it.

    Keys that belong together keep values that belong together.
    """
    api.put("secretproviderclasses", web_class(secret_type))
    await start(node, content("1"), "old-0", "old")
    await start(node, content("2", lacks=("password",)), "new-0", "new")
    assert ["ReplicaSet new", "ReplicaSet old"] == node.owners("db")
    await node.delete_pod("old-0", "web")
    await node.settle()
    username = "2" if secret_type == "Opaque" else "1"
    assert {"username": username, "password": "1"} == node.secret_values("db")


@pytest.mark.parametrize("secret_type", ["Opaque", "kubernetes.io/basic-auth"])
async def test_volume_that_keeps_an_object_does_not_mix_values_that_belong_together(
    node: Node, api: KubeApiServer, secret_type: str
) -> None:
    """The files of the volume are of two fetches. The Secret changes when both objects exist."""
    api.put("secretproviderclasses", web_class(secret_type))
    await start(node, content("1"))
    await refresh(node, content("2", lacks=("password",)))
    username = "2" if secret_type == "Opaque" else "1"
    assert {"username": username, "password": "1"} == node.secret_values("db")
    assert [] == await node.events("FailedToCreateSecret")
    await refresh(node, content("3"))
    assert {"username": "3", "password": "3"} == node.secret_values("db")


async def test_volume_that_keeps_an_object_restores_a_deleted_secret(
    node: Node, api: KubeApiServer
) -> None:
    """From its files: there is nothing else that the Secret could have."""
    api.put("secretproviderclasses", web_class())
    await start(node, content("1"))
    await refresh(node, content("2", lacks=("password",)))
    watched = node.store.cluster.secret_resource_version
    await wait_until(lambda: watched(NAMESPACE, "db") is not None, "the watch")
    api.remove("secrets", NAMESPACE, "db")
    await wait_until(lambda: watched(NAMESPACE, "db") is None, "the deletion")
    await node.settle()
    await node.driver.clock.advance(1.1)
    await wait_until(
        lambda: node.secret_values("db") == {"username": "2", "password": "1"}, "the Secret"
    )


@pytest.mark.parametrize("secret_type", ["Opaque", "kubernetes.io/basic-auth"])
async def test_secret_without_keys_is_deleted_if_the_objects_say_so(
    node: Node, api: KubeApiServer, secret_type: str
) -> None:
    """At once: a grace period is for pods that return. The objects may appear again."""
    api.put("secretproviderclasses", web_class(secret_type, "remove"))
    await start(node, content("1"))
    await refresh(node, content("2", lacks=NAMES, keeps=False))
    await wait_until(lambda: node.secret("db") is None, "the Secret to be deleted")
    (event,) = await node.events("SecretDeleted")
    assert event == (
        "SecretProviderClass web: deleted secret db: the vault lacks optional objects of it, and"
        " onMissing is remove"
    )
    await refresh(node, content("3"))
    await wait_until(
        lambda: node.secret_values("db") == {"username": "3", "password": "3"}, "the Secret"
    )


async def test_removed_key_is_removed_from_the_secret(node: Node, api: KubeApiServer) -> None:
    """The other key stays. No change of a key is taken for an edit of somebody else."""
    api.put("secretproviderclasses", web_class("Opaque", "remove"))
    await start(node, content("1"))
    await refresh(node, content("2", lacks=("password",), keeps=False))
    assert {"username": "2"} == node.secret_values("db")
    await refresh(node, content("3"))
    assert {"username": "3", "password": "3"} == node.secret_values("db")
    assert [] == await node.events("SecretReverted")


@pytest.mark.parametrize("secret_type", ["Opaque", "kubernetes.io/basic-auth"])
async def test_newer_content_of_another_node_is_not_deleted(
    node: Node, api: KubeApiServer, mount_home: Path, secret_type: str
) -> None:
    """A node that has not refreshed since the object appeared again."""
    api.put("secretproviderclasses", web_class(secret_type, "remove"))
    await start(node, content("1", lacks=("password",), keeps=False))
    home = mount_home / "2"
    home.mkdir()
    clock = ManualClock()
    await clock.advance(INTERVAL)
    async with running_node(home, api, "node-2", provider_name="vault", clock=clock) as other:
        await start(other, content("2"), "web-1")
        node.driver.engine.secret_controller.enqueue_all()
        await node.settle()
        assert {"username": "2", "password": "2"} == other.secret_values("db")
        assert int(secret_type == "Opaque") == changes(api, "MODIFIED")
