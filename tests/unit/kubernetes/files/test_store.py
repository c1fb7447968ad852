"""A store of manifests: its content, deletion with a volume, use without a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from keyferry.errors import ClassNotFoundError
from keyferry.kubernetes.files.store import ManifestsStore
from keyferry.kubernetes.store import ObjectStore
from keyferry.records import replace
from tests.unit.kubernetes.files.folder import (
    DEPLOYMENT,
    SECRET,
    STATUS,
    SteppingClock,
    event,
    everything,
    read,
)


async def test_it_is_an_object_store(store: ManifestsStore) -> None:
    """The type checker accepts it as one, and a missing class is an error of the class."""
    any_store: ObjectStore = store

    with pytest.raises(ClassNotFoundError):
        await any_store.get_class("shop", "web")


class TestVolumeGone:
    OTHER = replace(STATUS, name="web-1-shop-web", target_path="/pods/2/mount")

    async def test_takes_the_status_and_its_secrets(self, store: ManifestsStore, out: Path) -> None:
        """What only the volume kept goes, folders included."""
        owner = await store.apply_pod_status(STATUS)
        await store.apply_secret(replace(SECRET, owners=(owner,)))
        await store.apply_secret(replace(SECRET, name="db-2", owners=(owner,)))

        await store.volume_removed(STATUS.target_path)

        assert [] == everything(out)

    async def test_leaves_what_another_volume_keeps(self, store: ManifestsStore, out: Path) -> None:
        """A shared Secret stays with its remaining owner, until that is removed too."""
        owners = [await store.apply_pod_status(s) for s in (STATUS, self.OTHER)]
        await store.apply_secret(replace(SECRET, owners=tuple(owners)))

        await store.volume_removed(STATUS.target_path)

        manifest = read(out / "secrets/shop/db.yaml")
        assert isinstance(manifest, dict)
        references = manifest["metadata"]["ownerReferences"]
        assert [owners[1].uid] == [reference["uid"] for reference in references]
        assert self.OTHER == await store.find_pod_status("shop", self.OTHER.name)

        await store.volume_removed(self.OTHER.target_path)

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

        await store.volume_removed(STATUS.target_path)

        assert before == everything(out)

    async def test_takes_what_an_earlier_one_left(self, store: ManifestsStore, out: Path) -> None:
        """When the process was killed between status and Secret, the next volume finishes it."""
        owner = await store.apply_pod_status(STATUS)
        await store.apply_secret(replace(SECRET, owners=(owner,)))
        (out / "secretproviderclasspodstatuses/shop/web-0-shop-web.yaml").unlink()

        await store.volume_removed("/any/other/mount")

        assert not (out / "secrets").exists()

    async def test_keeps_too_much_rather_than_too_little(
        self, store: ManifestsStore, out: Path
    ) -> None:
        """While a status cannot be read, no Secret goes: it may be the owner."""
        owner = await store.apply_pod_status(STATUS)
        await store.apply_secret(replace(SECRET, owners=(owner,)))
        for damage in ("[", "status: 1"):
            (out / "secretproviderclasspodstatuses/shop/damaged.yaml").write_text(damage)

            await store.volume_removed(STATUS.target_path)

            assert (out / "secrets/shop/db.yaml").exists()

    async def test_of_nothing_makes_nothing(self, store: ManifestsStore, out: Path) -> None:
        """Before anything was written there is no folder, and none is made."""
        await store.volume_removed(STATUS.target_path)

        assert not out.exists()


class TestWithoutOutput:
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[ManifestsStore]:
        yield ManifestsStore(tmp_path, None, clock=SteppingClock())
        assert [] == list(tmp_path.iterdir())

    async def test_writes_are_dropped(self, store: ManifestsStore) -> None:
        """Everything can be called, nothing is kept; the owner is the same as with a folder."""
        owner = await store.apply_pod_status(STATUS)
        assert STATUS.name == owner.name
        assert not (await store.apply_secret(SECRET)).changed
        await store.record_event(event())
        await store.volume_removed(STATUS.target_path)
        assert await store.find_pod_status("shop", STATUS.name) is None
