"""The object store over a real Kubernetes API: the common suite, and what only etcd shows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from keyferry.store.interface import OwnerReference
from keyferry.store.kube import KubeStore, open_kube_store
from tests.e2e.cluster.api_server import ApiServer, running_api_server
from tests.e2e.cluster.waiting import eventually
from tests.fakes.kube_api import class_manifest
from tests.fakes.store_suite import SECRET, StoreContract, StorePeer, data_of, owners_of

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.asyncio(loop_scope="module"),
]

CRDS = Path(__file__).parents[3] / "deploy" / "crds"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    """One API server for all tests of this module, with the CRDs of `deploy/`."""
    async with running_api_server(tmp_path_factory.mktemp("api")) as running:
        await running.kubectl("apply", f"--filename={CRDS}")
        await running.kubectl(
            "wait", "--for=condition=Established", "--timeout=60s", f"--filename={CRDS}"
        )
        for namespace in ("shop", "other"):
            await running.kubectl("create", "namespace", namespace)
        yield running


class Cluster:
    """The store, and a person with kubectl."""

    def __init__(self, server: ApiServer, store: KubeStore) -> None:
        self.store = store
        self.server = server

    async def put(self, manifest: Mapping[str, Any]) -> None:
        path = self.server.kubeconfig.with_name("applied.json")
        path.write_text(json.dumps(manifest))
        await self.server.kubectl("apply", f"--filename={path}")

    async def read(self, kind: str, namespace: str, name: str) -> Mapping[str, Any] | None:
        text = await self.server.kubectl(
            "get", kind, name, f"--namespace={namespace}", "--output=json", "--ignore-not-found"
        )
        found: Mapping[str, Any] | None = json.loads(text) if text else None
        return found

    async def events(self) -> Sequence[Mapping[str, Any]]:
        await self.store.drain()
        text = await self.server.kubectl("get", "events", "--namespace=shop", "--output=json")
        items: Sequence[Mapping[str, Any]] = json.loads(text)["items"]
        return items


@pytest_asyncio.fixture(loop_scope="module")
async def cluster(server: ApiServer) -> AsyncIterator[Cluster]:
    """A store of its own for each test, and namespaces as empty as at first."""
    async with open_kube_store(
        server.kubeconfig, node="node-1", clock=lambda: datetime.now(UTC)
    ) as store:
        yield Cluster(server, store)
    kinds = "secretproviderclasses,secretproviderclasspodstatuses,secrets,events"
    for namespace in ("shop", "other"):
        await server.kubectl("delete", kinds, "--all", f"--namespace={namespace}")


class TestKubeStore(StoreContract):
    """The suite over a real API."""

    @pytest.fixture
    def peer(self, cluster: Cluster) -> StorePeer:
        return cluster


async def test_a_class_of_the_old_version_is_read(cluster: Cluster) -> None:
    """v1alpha1 is served from the same storage."""
    manifest = class_manifest("web")
    await cluster.put(manifest | {"apiVersion": "secrets-store.csi.x-k8s.io/v1alpha1"})
    assert "azure" == (await cluster.store.get_class("shop", "web")).provider


async def test_nodes_that_write_one_secret_at_once_lose_no_owner(cluster: Cluster) -> None:
    """Replicas of a Deployment start on many nodes at the same moment."""
    owners = [OwnerReference("v1", "Pod", f"web-{n}", f"uid-{n}") for n in range(8)]
    await asyncio.gather(
        *(cluster.store.apply_secret(replace(SECRET, owners=(owner,))) for owner in owners)
    )
    found = await cluster.read("Secret", "shop", "db")
    assert sorted(owner.uid for owner in owners) == sorted(owners_of(found))


async def test_a_secret_that_was_edited_by_hand_is_reverted(cluster: Cluster) -> None:
    """Values and keys of others go; the labels of others stay."""
    await cluster.store.apply_secret(SECRET)
    patch = {
        "metadata": {"labels": {"team": "blue"}},
        "data": {"password": "aGFuZA==", "more": "aGFuZA=="},
    }
    await cluster.server.kubectl(
        "patch", "secret", "db", "--namespace=shop", f"--patch={json.dumps(patch)}"
    )
    assert (await cluster.store.apply_secret(SECRET)).changed
    found = await cluster.read("Secret", "shop", "db")
    assert found is not None
    assert dict(SECRET.data) == data_of(found)
    assert "blue" == found["metadata"]["labels"]["team"]


async def test_the_store_goes_on_while_the_api_server_is_away(cluster: Cluster) -> None:
    """Known classes are served, and what changed meanwhile is seen when it is back."""
    await cluster.put(class_manifest("web"))
    await cluster.store.wait_synced()
    await cluster.store.get_class("shop", "web")
    await cluster.server.stop()
    try:
        assert "azure" == (await cluster.store.get_class("shop", "web")).provider
    finally:
        await cluster.server.start()
    await cluster.put(class_manifest("web", provider="vault"))

    async def changed() -> bool | None:
        return (await cluster.store.get_class("shop", "web")).provider == "vault" or None

    await eventually(changed, "the mirror to see the change")
