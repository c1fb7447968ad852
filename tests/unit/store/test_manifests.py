"""The object store of a plain machine: what it writes, and what it lets go."""

import asyncio
import base64
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from keyferry.contract import ObjectVersion
from keyferry.errors import ClassNotFoundError, StoreError
from keyferry.store.interface import (
    Event,
    EventType,
    ObjectStore,
    OwnerReference,
    PodRef,
    PodStatus,
    SecretManifest,
)
from keyferry.store.manifests import ManifestsStore

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
POD = PodRef("shop", "web-0", "0b5c-uid")
STATUS = PodStatus(
    namespace="shop",
    name="web-0-shop-web",
    pod=POD,
    class_name="web",
    target_path="/pods/1/mount",
    node="node-1",
    objects=(ObjectVersion("secret/a", "v1"), ObjectVersion("secret/b", "")),
)
SECRET = SecretManifest(
    namespace="shop",
    name="db",
    type="Opaque",
    data={"password": b"canary\xff\n", "user": b""},
    labels={"environment": "test"},
    annotations={"note": "yes"},
    owners=(),
)
DEPLOYMENT = OwnerReference("apps/v1", "ReplicaSet", "web-5d8", "rs-uid")


class Clock:
    """Tells noon, and a minute later each time it is asked."""

    def __init__(self) -> None:
        self._now = NOON - timedelta(minutes=1)

    def __call__(self) -> datetime:
        self._now += timedelta(minutes=1)
        return self._now


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def store(tmp_path: Path, out: Path) -> ManifestsStore:
    (tmp_path / "classes").mkdir()
    return ManifestsStore(tmp_path / "classes", out, clock=Clock())


def read(path: Path) -> object:
    return yaml.safe_load(path.read_text())


def everything(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.rglob("*"))


def event(message: str = "it failed", reason: str = "FailedToCreateSecret") -> Event:
    return Event(POD, EventType.WARNING, reason, message)


async def test_it_is_an_object_store(store: ManifestsStore) -> None:
    """The type checker accepts it as one, and a missing class is an error of the class."""
    any_store: ObjectStore = store

    with pytest.raises(ClassNotFoundError):
        await any_store.get_class("shop", "web")


class TestSecrets:
    async def test_is_a_manifest_that_kubectl_applies(
        self, store: ManifestsStore, out: Path
    ) -> None:
        """The file holds the Secret as Kubernetes has it, labelled as ours."""
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

    async def test_tells_whether_it_changed(self, store: ManifestsStore, out: Path) -> None:
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
    async def test_of_others_is_left_alone(
        self, store: ManifestsStore, out: Path, metadata: str
    ) -> None:
        """A Secret without our label was made by somebody else."""
        path = out / "secrets/shop/db.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(f"metadata: {metadata}\n")

        with pytest.raises(StoreError, match="Secret shop/db was not made by Keyferry"):
            await store.apply_secret(SECRET)

        assert f"metadata: {metadata}\n" == path.read_text()

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("[canary", "db.yaml line 2 is not YAML: did not find expected ',' or ']'"),
            ("metadata: canary", "of Secret shop/db was changed: metadata is text, not a mapping"),
        ],
    )
    async def test_that_was_damaged_is_left_alone(
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
        for secret in (replace(SECRET, name=name), replace(SECRET, namespace=name)):
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
        stores = [store, ManifestsStore(tmp_path / "classes", out, clock=Clock())]
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
        """A temporary file holds values; the next write takes away what a killed one left."""
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

        assert f"cannot make and lock {out}: File exists" == caught.value.problem
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
    store = ManifestsStore(out, out, clock=Clock())
    secret = SecretManifest(namespace, name, secret_type, data, texts, texts, (DEPLOYMENT,))

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
        """What was applied is what is found; before, there is none."""
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
        store = ManifestsStore(out, out, clock=Clock())

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


class TestEvents:
    @pytest.fixture
    def folder(self, out: Path) -> Path:
        return out / "events/shop"

    async def test_is_an_event_of_kubernetes(self, store: ManifestsStore, folder: Path) -> None:
        """The file is named after the pod and holds what `kubectl describe pod` shows."""
        await store.record_event(event())

        (path,) = folder.iterdir()
        assert {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": path.stem, "namespace": "shop"},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": "web-0",
                "namespace": "shop",
                "uid": "0b5c-uid",
            },
            "type": "Warning",
            "reason": "FailedToCreateSecret",
            "message": "it failed",
            "source": {"component": "csi-secrets-store-controller"},
            "count": 1,
            "firstTimestamp": "2030-01-01T12:00:00Z",
            "lastTimestamp": "2030-01-01T12:00:00Z",
        } == read(path)
        assert path.name.startswith("web-0.")

    async def test_is_counted_when_it_comes_again(
        self, store: ManifestsStore, folder: Path
    ) -> None:
        """The same reason and message on the same pod is one event; the first time stays."""
        for _ in range(3):
            await store.record_event(event())

        (path,) = folder.iterdir()
        manifest = read(path)
        assert isinstance(manifest, dict)
        assert 3 == manifest["count"]
        assert "2030-01-01T12:00:00Z" == manifest["firstTimestamp"]
        assert "2030-01-01T12:02:00Z" == manifest["lastTimestamp"]

    async def test_is_another_one_when_anything_differs(
        self, store: ManifestsStore, folder: Path
    ) -> None:
        """Message, reason and pod make the event."""
        await store.record_event(event())
        await store.record_event(event(message="other"))
        await store.record_event(event(reason="Other"))
        await store.record_event(replace(event(), about=replace(POD, uid="new")))

        assert 4 == len(list(folder.iterdir()))

    @pytest.mark.parametrize("name", ["../x", "", "A"])
    async def test_never_raises(self, store: ManifestsStore, out: Path, name: str) -> None:
        """An event that cannot be written is lost, and nothing else happens."""
        await store.record_event(replace(event(), about=replace(POD, name=name)))
        await store.record_event(replace(event(), about=replace(POD, namespace=name)))

        assert [] == everything(out)

    async def test_never_raises_when_the_folder_is_none(
        self, store: ManifestsStore, out: Path
    ) -> None:
        """The same when the file system refuses."""
        out.write_text("")

        await store.record_event(event())

    async def test_that_was_damaged_begins_anew(self, store: ManifestsStore, folder: Path) -> None:
        """A count that is no number is forgotten."""
        await store.record_event(event())
        (path,) = folder.iterdir()
        path.write_text("count: many\n")

        await store.record_event(event())

        manifest = read(path)
        assert isinstance(manifest, dict)
        assert 1 == manifest["count"]

    async def test_of_the_longest_pod_name_has_a_valid_name(
        self, store: ManifestsStore, folder: Path
    ) -> None:
        """The name of the event stays one that Kubernetes accepts."""
        await store.record_event(replace(event(), about=replace(POD, name="a" * 253)))

        (path,) = folder.iterdir()
        manifest = read(path)
        assert isinstance(manifest, dict)
        assert 253 >= len(manifest["metadata"]["name"])


class TestVolumeGone:
    OTHER = replace(STATUS, name="web-1-shop-web", target_path="/pods/2/mount")

    async def test_takes_the_status_and_its_secrets(self, store: ManifestsStore, out: Path) -> None:
        """What only the volume kept goes, folders included."""
        owner = await store.apply_pod_status(STATUS)
        await store.apply_secret(replace(SECRET, owners=(owner,)))
        await store.apply_secret(replace(SECRET, name="db-2", owners=(owner,)))

        await store.volume_gone(STATUS.target_path)

        assert [] == everything(out)

    async def test_leaves_what_another_volume_keeps(self, store: ManifestsStore, out: Path) -> None:
        """A shared Secret stays with the owner that is left, until that is gone too."""
        owners = [await store.apply_pod_status(s) for s in (STATUS, self.OTHER)]
        await store.apply_secret(replace(SECRET, owners=tuple(owners)))

        await store.volume_gone(STATUS.target_path)

        manifest = read(out / "secrets/shop/db.yaml")
        assert isinstance(manifest, dict)
        references = manifest["metadata"]["ownerReferences"]
        assert [owners[1].uid] == [reference["uid"] for reference in references]
        assert self.OTHER == await store.find_pod_status("shop", self.OTHER.name)

        await store.volume_gone(self.OTHER.target_path)

        assert [] == everything(out)

    async def test_leaves_what_is_not_its_own(self, store: ManifestsStore, out: Path) -> None:
        """Secrets without owners, with other owners, of others, and any other file stay."""
        owner = await store.apply_pod_status(STATUS)
        await store.apply_secret(SECRET)
        await store.apply_secret(replace(SECRET, name="kept", owners=(owner, DEPLOYMENT)))
        await store.apply_secret(replace(SECRET, name="foreign", owners=(owner,)))
        foreign = out / "secrets/shop/foreign.yaml"
        foreign.write_text(foreign.read_text().replace('"true"', '"false"'))
        for name in ("secrets/shop/notes.txt", "secrets/shop/broken.yaml", "notes.yaml"):
            (out / name).write_text("[")
        await store.record_event(event())
        before = [n for n in everything(out) if not n.startswith("secretproviderclass")]

        await store.volume_gone(STATUS.target_path)

        assert before == everything(out)

    async def test_takes_what_an_earlier_one_left(self, store: ManifestsStore, out: Path) -> None:
        """When the process was killed between status and Secret, the next volume finishes it."""
        owner = await store.apply_pod_status(STATUS)
        await store.apply_secret(replace(SECRET, owners=(owner,)))
        (out / "secretproviderclasspodstatuses/shop/web-0-shop-web.yaml").unlink()

        await store.volume_gone("/any/other/mount")

        assert not (out / "secrets").exists()

    async def test_keeps_too_much_rather_than_too_little(
        self, store: ManifestsStore, out: Path
    ) -> None:
        """While a status cannot be read, no Secret goes: it may be the owner."""
        owner = await store.apply_pod_status(STATUS)
        await store.apply_secret(replace(SECRET, owners=(owner,)))
        for damage in ("[", "status: 1"):
            (out / "secretproviderclasspodstatuses/shop/damaged.yaml").write_text(damage)

            await store.volume_gone(STATUS.target_path)

            assert (out / "secrets/shop/db.yaml").exists()

    async def test_of_nothing_makes_nothing(self, store: ManifestsStore, out: Path) -> None:
        """Before anything was written there is no folder, and none is made."""
        await store.volume_gone(STATUS.target_path)

        assert not out.exists()


class TestWithoutOutput:
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[ManifestsStore]:
        yield ManifestsStore(tmp_path, None, clock=Clock())
        assert [] == list(tmp_path.iterdir())

    async def test_writes_are_dropped(self, store: ManifestsStore) -> None:
        """Everything can be called, nothing is kept; the owner is the same as with a folder."""
        owner = await store.apply_pod_status(STATUS)
        assert STATUS.name == owner.name
        assert not (await store.apply_secret(SECRET)).changed
        await store.record_event(event())
        await store.volume_gone(STATUS.target_path)
        assert await store.find_pod_status("shop", STATUS.name) is None
