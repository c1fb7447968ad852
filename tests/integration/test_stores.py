"""Both object stores, held to one suite: a folder, and a Kubernetes API over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from keyferry.kubernetes.api.store import KubeStore, open_kube_store
from keyferry.kubernetes.files.store import ManifestsStore
from tests.fakes.clock import ManualClock
from tests.fakes.kube_api import KubeApiServer, running_api
from tests.fakes.store_api_suite import ApiStoreContract, ApiStorePeer
from tests.fakes.store_suite import StoreContract, StorePeer

PLURALS = {
    "Secret": "secrets",
    "SecretProviderClass": "secretproviderclasses",
    "SecretProviderClassPodStatus": "secretproviderclasspodstatuses",
}

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class Folder:
    """The store over a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.store = ManifestsStore(folder, folder, clock=ManualClock())

    async def put(self, manifest: Mapping[str, Any]) -> None:
        name, namespace = manifest["metadata"]["name"], manifest["metadata"]["namespace"]
        path = self._folder / f"{namespace}-{name}.yaml"
        if manifest["kind"] == "Secret":
            path = self._path("Secret", namespace, name)
            path.parent.mkdir(parents=True)
        path.write_text(json.dumps(manifest))

    async def read(self, kind: str, namespace: str, name: str) -> Mapping[str, Any] | None:
        path = self._path(kind, namespace, name)
        return yaml.safe_load(path.read_text()) if path.exists() else None

    async def events(self) -> Sequence[Mapping[str, Any]]:
        return [yaml.safe_load(p.read_text()) for p in self._folder.glob("events/*/*.yaml")]

    def _path(self, kind: str, namespace: str, name: str) -> Path:
        return self._folder / PLURALS[kind] / namespace / f"{name}.yaml"


class Cluster:
    """The store over the API of a cluster."""

    def __init__(self, api: KubeApiServer, store: KubeStore) -> None:
        self._api = api
        self.store = store

    async def put(self, manifest: Mapping[str, Any]) -> None:
        """Apply an object as kubectl does, which adds an annotation."""
        metadata = manifest["metadata"]
        annotations = {**metadata.get("annotations", {}), LAST_APPLIED: json.dumps(manifest)}
        applied = {**manifest, "metadata": {**metadata, "annotations": annotations}}
        self._api.put(PLURALS[manifest["kind"]], applied)

    async def read(self, kind: str, namespace: str, name: str) -> Mapping[str, Any] | None:
        return self._api.get(PLURALS[kind], namespace, name)

    async def patch_secret(self, namespace: str, name: str, patch: Mapping[str, Any]) -> None:
        self._api.objects.merge(("secrets", namespace, name), patch, "hand")

    async def events(self) -> Sequence[Mapping[str, Any]]:
        await self.store.drain()
        return self._api.all_of("events")


class TestManifestsStore(StoreContract):
    """The suite over a folder."""

    @pytest.fixture
    def peer(self, tmp_path: Path) -> StorePeer:
        return Folder(tmp_path)


class TestKubeStore(ApiStoreContract):
    """The suite over a Kubernetes API that plays by HTTP."""

    @pytest.fixture
    async def peer(self, tmp_path: Path) -> AsyncIterator[ApiStorePeer]:
        async with (
            running_api(tmp_path) as api,
            open_kube_store(api.kubeconfig, node="node-1", clock=ManualClock()) as store,
        ):
            yield Cluster(api, store)
