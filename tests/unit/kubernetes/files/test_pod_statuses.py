"""Pod statuses of a plain machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.content import ObjectVersion
from keyferry.kubernetes.files.store import ManifestsStore
from keyferry.kubernetes.objects import OwnerReference
from keyferry.records import replace
from tests.unit.kubernetes.files.folder import POD, STATUS, SteppingClock, read
from tests.unit.kubernetes.files.test_secrets import TEXTS


class TestPodStatuses:
    async def test_is_a_manifest_as_upstream_writes_it(
        self, store: ManifestsStore, out: Path
    ) -> None:
        """Label, owner and status are as upstream has them; an empty version is left out."""
        await store.apply_pod_status(STATUS)

        assert {
            "apiVersion": "secrets-store.csi.x-k8s.io/v1",
            "kind": "SecretProviderClassPodStatus",
            "metadata": {
                "name": "web-0-shop-web",
                "namespace": "shop",
                "labels": {"internal.secrets-store.csi.k8s.io/node-name": "node-1"},
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Pod", "name": "web-0", "uid": "0b5c-uid"}
                ],
            },
            "status": {
                "podName": "web-0",
                "secretProviderClassName": "web",
                "mounted": True,
                "targetPath": "/pods/1/mount",
                "objects": [{"id": "secret/a", "version": "v1"}, {"id": "secret/b"}],
            },
        } == read(out / "secretproviderclasspodstatuses/shop/web-0-shop-web.yaml")

    async def test_is_found_again(self, store: ManifestsStore) -> None:
        """The applied status is found; before, there is no status."""
        assert await store.find_pod_status("shop", STATUS.name) is None

        await store.apply_pod_status(STATUS)

        assert STATUS == await store.find_pod_status("shop", STATUS.name)

    @given(
        node=TEXTS,
        target_path=TEXTS,
        objects=st.lists(st.builds(ObjectVersion, TEXTS, TEXTS), max_size=3),
    )
    async def test_round_trips(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        node: str,
        target_path: str,
        objects: list[ObjectVersion],
    ) -> None:
        """Any text of a status survives."""
        status = replace(STATUS, node=node, target_path=target_path, objects=tuple(objects))
        out = tmp_path_factory.mktemp("out")
        store = ManifestsStore(out, out, clock=SteppingClock())

        await store.apply_pod_status(status)

        assert status == await store.find_pod_status("shop", STATUS.name)

    async def test_is_replaced_but_for_the_labels_of_others(
        self, store: ManifestsStore, out: Path
    ) -> None:
        """A pod that comes back elsewhere brings its own uid, node and objects."""
        await store.apply_pod_status(STATUS)
        path = out / "secretproviderclasspodstatuses/shop/web-0-shop-web.yaml"
        path.write_text(path.read_text().replace("labels:", "labels:\n    other: kept"))
        moved = replace(STATUS, pod=replace(POD, uid="new"), node="node-2", objects=())

        await store.apply_pod_status(moved)

        assert moved == await store.find_pod_status("shop", STATUS.name)
        manifest = read(path)
        assert isinstance(manifest, dict)
        assert {
            "other": "kept",
            "internal.secrets-store.csi.k8s.io/node-name": "node-2",
        } == manifest["metadata"]["labels"]

    async def test_owns_by_a_uid_that_stays(self, store: ManifestsStore) -> None:
        """The same volume of the same pod has one uid; a new pod of that name has another."""
        owner = await store.apply_pod_status(STATUS)

        assert OwnerReference(
            "secrets-store.csi.x-k8s.io/v1",
            "SecretProviderClassPodStatus",
            "web-0-shop-web",
            owner.uid,
        ) == (owner)
        assert owner == await store.apply_pod_status(replace(STATUS, node="other", objects=()))
        reborn = await store.apply_pod_status(replace(STATUS, pod=replace(POD, uid="new")))
        assert owner.uid != reborn.uid
