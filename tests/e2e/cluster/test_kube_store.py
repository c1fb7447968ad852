"""The object store with a real Kubernetes API: the common suite, and tests that need etcd."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from keyferry.aio.clock import SystemClock
from keyferry.content import ObjectVersion
from keyferry.kubernetes.api.store import KubeStore, open_kube_store
from keyferry.kubernetes.cluster import ClusterEvent, SecretChanged
from keyferry.records import replace
from tests.e2e.cluster.api_server import ApiServer, running_api_server
from tests.e2e.cluster.waiting import eventually
from tests.fakes.kube_api import class_manifest
from tests.fakes.log import captured_log
from tests.fakes.store_api_suite import ApiStoreContract, ApiStorePeer
from tests.fakes.store_suite import CLAIMED_SECRET, REFRESH_CONDITION, STATUS

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
    """The store, and a user with kubectl."""

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

    async def patch_secret(self, namespace: str, name: str, patch: Mapping[str, Any]) -> None:
        await self.server.kubectl(
            *("patch", "secret", name, f"--namespace={namespace}", f"--patch={json.dumps(patch)}")
        )

    async def events(self) -> Sequence[Mapping[str, Any]]:
        await self.store.drain()
        text = await self.server.kubectl("get", "events", "--namespace=shop", "--output=json")
        items: Sequence[Mapping[str, Any]] = json.loads(text)["items"]
        return items


@pytest_asyncio.fixture(loop_scope="module")
async def cluster(server: ApiServer) -> AsyncIterator[Cluster]:
    """A new store for each test; afterwards, the namespaces are emptied."""
    async with open_kube_store(server.kubeconfig, node="node-1", clock=SystemClock()) as store:
        await store.wait_synced()
        yield Cluster(server, store)
    kinds = "secretproviderclasses,secretproviderclasspodstatuses,secrets,events"
    for namespace in ("shop", "other"):
        await server.kubectl("delete", kinds, "--all", f"--namespace={namespace}")


class TestKubeStore(ApiStoreContract):
    """The common suite with a real API."""

    @pytest.fixture
    def peer(self, cluster: Cluster) -> ApiStorePeer:
        return cluster


async def test_a_v1alpha1_secret_provider_class_is_read(cluster: Cluster) -> None:
    """The API server converts v1alpha1 objects to v1."""
    manifest = class_manifest("web")
    await cluster.put(manifest | {"apiVersion": "secrets-store.csi.x-k8s.io/v1alpha1"})
    assert "azure" == (await cluster.store.get_class("shop", "web")).provider


async def test_crds_of_upstream_accept_all_fields_but_those_of_keyferry(
    cluster: Cluster, tmp_path: Path
) -> None:
    """They drop the condition of a volume, and accept all other fields."""
    path = CRDS / "secretproviderclasspodstatuses.yaml"
    crd = yaml.safe_load(path.read_text())
    for version in crd["spec"]["versions"]:
        properties = version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
        del properties["conditions"], properties["lastRefreshTime"]
    upstream = tmp_path / "upstream.yaml"
    upstream.write_text(yaml.safe_dump(crd))
    try:
        await cluster.server.kubectl("apply", f"--filename={upstream}")

        async def dropped() -> bool | None:
            await cluster.store.apply_pod_status(replace(STATUS, refresh=REFRESH_CONDITION))
            found = await cluster.read("SecretProviderClassPodStatus", "shop", STATUS.name)
            assert found is not None
            assert "web-0" == found["status"]["podName"]
            return "conditions" not in found["status"] or None

        await eventually(dropped, "the API server to use upstream's CRD")

        async def reported() -> bool | None:
            with captured_log() as log:
                async with open_kube_store(
                    cluster.server.kubeconfig, node="n", clock=SystemClock()
                ) as started:
                    await started.wait_synced()
                    await asyncio.sleep(0.5)
            return "the CRDs drop fields of pod statuses" in log.getvalue() or None

        await eventually(reported, "a driver that starts to report the CRDs")
        await cluster.store.apply_pod_status(replace(STATUS, objects=()))
    finally:
        await cluster.server.kubectl("apply", f"--filename={path}")

    versions = itertools.count()

    async def kept() -> bool | None:
        version = ObjectVersion("secret/a", str(next(versions)))
        changed = replace(STATUS, objects=(version,), refresh=REFRESH_CONDITION)
        await cluster.store.apply_pod_status(changed)
        found = await cluster.read("SecretProviderClassPodStatus", "shop", STATUS.name)
        return (found is not None and "conditions" in found["status"]) or None

    await eventually(kept, "the API server to use Keyferry's CRD again")


async def test_secret_changes_are_watched_by_metadata_only(cluster: Cluster) -> None:
    """In the requested namespaces, with the label; removing the label is also reported."""
    events: list[ClusterEvent] = []
    cluster.store.cluster.subscribe(events.append)
    cluster.store.cluster.watch_secrets(frozenset({"shop"}))
    applied = await cluster.store.apply_secret(CLAIMED_SECRET)

    async def known() -> bool | None:
        return (
            cluster.store.cluster.secret_resource_version("shop", "db") == applied.resource_version
            or None
        )

    await eventually(known, "the watch to report the Secret")
    events.clear()
    unlabelled = {"metadata": {"labels": {"secrets-store.csi.k8s.io/managed": None}}}
    await cluster.patch_secret("shop", "db", unlabelled)

    async def reported() -> bool | None:
        return SecretChanged("shop", "db", deleted=True) in events or None

    await eventually(reported, "the watch to report the removed label")
    assert cluster.store.cluster.secret_resource_version("shop", "db") is None


async def test_store_works_while_the_api_server_is_unavailable(cluster: Cluster) -> None:
    """Cached SecretProviderClasses are served, and changes are read after the outage."""
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

    await eventually(changed, "the cache to contain the change")


async def test_secrets_are_watched_again_after_an_outage(cluster: Cluster) -> None:
    """Only their metadata is listed and watched, so both have another `Accept` header."""
    cluster.store.cluster.watch_secrets(frozenset({"shop"}))
    await cluster.store.apply_secret(CLAIMED_SECRET)

    async def known() -> str | None:
        return cluster.store.cluster.secret_resource_version("shop", "db")

    before = await eventually(known, "the watch to report the Secret")
    await cluster.server.stop()
    await cluster.server.start()
    await cluster.patch_secret("shop", "db", {"metadata": {"annotations": {"edited": "yes"}}})

    async def changed() -> bool | None:
        return await known() not in {None, before} or None

    await eventually(changed, "the watch to report the change")
