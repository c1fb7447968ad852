"""Secrets without a cluster: what is written, and unmanaged Secrets are not changed."""

from __future__ import annotations

import asyncio
import base64
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.errors import StoreError
from keyferry.kubernetes.files.store import ManifestsStore
from keyferry.kubernetes.objects import DesiredSecret
from keyferry.records import replace
from tests.unit.kubernetes.files.folder import DEPLOYMENT, SECRET, SteppingClock, everything, read


class TestSecrets:
    async def test_is_a_manifest_that_kubectl_applies(
        self, store: ManifestsStore, out: Path
    ) -> None:
        """The file holds the Secret in Kubernetes format, with the managed label."""
        assert (await store.apply_secret(replace(SECRET, owners=(DEPLOYMENT,)))).changed

        assert {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": "db",
                "namespace": "shop",
                "labels": {"environment": "test", "secrets-store.csi.k8s.io/managed": "true"},
                "annotations": {"note": "yes"},
                "ownerReferences": [
                    {
                        "apiVersion": "apps/v1",
                        "kind": "ReplicaSet",
                        "name": "web-5d8",
                        "uid": "rs-uid",
                    }
                ],
            },
            "type": "Opaque",
            "data": {"password": base64.b64encode(b"canary\xff\n").decode(), "user": ""},
        } == read(out / "secrets/shop/db.yaml")

    async def test_only_its_owner_may_read_it(self, store: ManifestsStore, out: Path) -> None:
        """Files are 0600 in folders 0700, whatever the umask."""
        before = os.umask(0)
        try:
            await store.apply_secret(SECRET)
        finally:
            os.umask(before)

        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [out, *out.rglob("*")]}
        assert {"out": 0o700, "secrets": 0o700, "shop": 0o700, "db.yaml": 0o600} == modes

    async def test_returns_whether_it_changed(self, store: ManifestsStore, out: Path) -> None:
        """An equal Secret is not written again; any difference is, and nothing old is left."""
        assert (await store.apply_secret(SECRET)).changed
        written = (out / "secrets/shop/db.yaml").stat().st_ino
        assert not (await store.apply_secret(SECRET)).changed
        assert written == (out / "secrets/shop/db.yaml").stat().st_ino

        bare = replace(SECRET, data={"x": b"y"}, labels={}, annotations={})
        assert (await store.apply_secret(bare)).changed
        assert not (await store.apply_secret(bare)).changed
        manifest = read(out / "secrets/shop/db.yaml")
        assert isinstance(manifest, dict)
        assert {"x": "eQ=="} == manifest["data"]
        assert {"secrets-store.csi.k8s.io/managed": "true"} == manifest["metadata"]["labels"]

    async def test_collects_its_owners(self, store: ManifestsStore, out: Path) -> None:
        """An owner is added once, by name and uid; owners that are there stay."""
        namesake = replace(DEPLOYMENT, uid="other-uid")
        assert (await store.apply_secret(replace(SECRET, owners=(DEPLOYMENT,)))).changed
        assert (await store.apply_secret(replace(SECRET, owners=(namesake,)))).changed
        assert not (await store.apply_secret(replace(SECRET, owners=(DEPLOYMENT,)))).changed
        assert not (await store.apply_secret(SECRET)).changed

        manifest = read(out / "secrets/shop/db.yaml")
        assert isinstance(manifest, dict)
        owners = manifest["metadata"]["ownerReferences"]
        assert ["rs-uid", "other-uid"] == [owner["uid"] for owner in owners]

    @pytest.mark.parametrize(
        "metadata",
        ["{}", "{labels: {secrets-store.csi.k8s.io/managed: 'false'}}"],
        ids=["no label", "label false"],
    )
    async def test_of_others_is_not_changed(
        self, store: ManifestsStore, out: Path, metadata: str
    ) -> None:
        """A Secret without our label was made by somebody else."""
        path = out / "secrets/shop/db.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(f"metadata: {metadata}\n")

        with pytest.raises(StoreError, match="Secret shop/db is not managed by Keyferry"):
            await store.apply_secret(SECRET)

        assert f"metadata: {metadata}\n" == path.read_text()

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("[canary", "db.yaml line 2 is not YAML: did not find expected ',' or ']'"),
            ("metadata: canary", "of Secret shop/db is invalid: metadata is text, not a mapping"),
        ],
    )
    async def test_that_was_damaged_is_not_changed(
        self, store: ManifestsStore, out: Path, text: str, expected: str
    ) -> None:
        """What cannot be read is not overwritten; the message names it and repeats nothing."""
        path = out / "secrets/shop/db.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(text)

        with pytest.raises(StoreError) as caught:
            await store.apply_secret(SECRET)

        assert expected in caught.value.problem
        assert "canary" not in str(caught.value)

    @pytest.mark.parametrize("name", ["../../escape", "a/b", ".", "..", "", "A", "a" * 254])
    async def test_has_no_name_that_is_a_path(
        self, store: ManifestsStore, tmp_path: Path, name: str
    ) -> None:
        """Names and namespaces that Kubernetes would refuse write nothing at all."""
        for secret in (
            replace(SECRET, name=name),
            replace(SECRET, namespace=name),
        ):
            with pytest.raises(StoreError):
                await store.apply_secret(secret)

        assert not [path for path in tmp_path.rglob("*") if path.is_file()]

    async def test_may_have_the_longest_name(self, store: ManifestsStore, out: Path) -> None:
        """A name as long as Kubernetes allows has a file, and so has its neighbour."""
        for name in ("a" * 253, "a" * 252 + "b"):
            assert (await store.apply_secret(replace(SECRET, name=name))).changed
            assert not (await store.apply_secret(replace(SECRET, name=name))).changed

        assert 2 == len(list((out / "secrets/shop").iterdir()))

    async def test_may_be_as_large_as_kubernetes_allows(self, store: ManifestsStore) -> None:
        """A Secret of 1 MiB is written, and found equal afterwards."""
        large = replace(SECRET, data={"a": os.urandom(1024 * 1024)})

        assert (await store.apply_secret(large)).changed
        assert not (await store.apply_secret(large)).changed

    async def test_is_never_seen_half_written(self, store: ManifestsStore, out: Path) -> None:
        """A reader finds one of the versions, whole, at any moment."""
        path = out / "secrets/shop/db.yaml"
        versions = [replace(SECRET, data={"a": bytes([n]) * 100_000}) for n in range(20)]
        await store.apply_secret(versions[0])
        whole = {base64.b64encode(version.data["a"]).decode() for version in versions}

        async def write() -> None:
            for version in versions:
                await store.apply_secret(version)

        writing = asyncio.create_task(write())
        while not writing.done():
            manifest = await asyncio.to_thread(read, path)
            assert isinstance(manifest, dict)
            assert manifest["data"]["a"] in whole
        await writing

    async def test_of_many_callers_all_arrive(
        self, store: ManifestsStore, out: Path, tmp_path: Path
    ) -> None:
        """Two stores on one folder, as two processes would be, lose no owner of each other."""
        stores = [store, ManifestsStore(tmp_path / "classes", out, clock=SteppingClock())]
        owners = [replace(DEPLOYMENT, uid=f"uid-{n}") for n in range(30)]

        await asyncio.gather(
            *(
                stores[n % 2].apply_secret(replace(SECRET, owners=(owner,)))
                for n, owner in enumerate(owners)
            )
        )

        manifest = read(out / "secrets/shop/db.yaml")
        assert isinstance(manifest, dict)
        found = {owner["uid"] for owner in manifest["metadata"]["ownerReferences"]}
        assert {owner.uid for owner in owners} == found
        assert ["secrets", "secrets/shop", "secrets/shop/db.yaml"] == everything(out)

    async def test_leaves_no_part_of_a_killed_write(self, store: ManifestsStore, out: Path) -> None:
        """A temporary file holds values; the next write removes the file of a killed writer."""
        left_over = out / "secrets/shop/.writing-1234"
        left_over.parent.mkdir(parents=True)
        left_over.write_text("canary")

        await store.apply_secret(SECRET)

        assert not left_over.exists()

    async def test_cannot_be_written(self, store: ManifestsStore, out: Path) -> None:
        """What the system refuses is an error that names the path, not the contents."""
        out.write_text("a file where the folder should be")

        with pytest.raises(StoreError) as caught:
            await store.apply_secret(SECRET)

        assert f"cannot create and lock {out}: File exists" == caught.value.problem
        with pytest.raises(StoreError, match="cannot read"):
            await store.find_pod_status("shop", "a")

    async def test_does_not_follow_links(
        self, store: ManifestsStore, out: Path, tmp_path: Path
    ) -> None:
        """A link in the place of the file is replaced, and its target stays as it was."""
        await store.apply_secret(SECRET)
        path = out / "secrets/shop/db.yaml"
        target = tmp_path / "elsewhere.yaml"
        path.rename(target)
        path.symlink_to(target)
        before = target.read_text()

        assert (await store.apply_secret(replace(SECRET, data={"new": b"value"}))).changed

        assert not path.is_symlink()
        assert before == target.read_text()


NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
KEYS = st.from_regex(r"[-._a-zA-Z0-9]{1,12}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(
    NAMES,
    NAMES,
    TEXTS,
    st.dictionaries(KEYS, st.binary(max_size=40), max_size=4),
    st.dictionaries(TEXTS, TEXTS, max_size=3),
)
async def test_every_secret_round_trips(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    namespace: str,
    secret_type: str,
    data: dict[str, bytes],
    texts: dict[str, str],
) -> None:
    """What is written is what PyYAML reads, and what the store finds equal again."""
    out = tmp_path_factory.mktemp("out")
    store = ManifestsStore(out, out, clock=SteppingClock())
    secret = DesiredSecret(namespace, name, secret_type, data, texts, texts, (DEPLOYMENT,))

    assert (await store.apply_secret(secret)).changed
    assert not (await store.apply_secret(secret)).changed

    manifest = read(out / "secrets" / namespace / f"{name}.yaml")
    assert isinstance(manifest, dict)
    assert data == {key: base64.b64decode(value) for key, value in manifest["data"].items()}
    assert (name, namespace) == (manifest["metadata"]["name"], manifest["metadata"]["namespace"])
    assert secret_type == manifest["type"]
    labels = {**texts, "secrets-store.csi.k8s.io/managed": "true"}
    assert labels == manifest["metadata"]["labels"]
    assert texts == manifest["metadata"].get("annotations", {})
