"""The Secrets of one volume, through the store that `keyferry mount` uses."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from keyferry.contract import NamedFile, SecretFile
from keyferry.driver.podstatus import pod_status
from keyferry.driver.sync import SecretSync
from keyferry.errors import ObjectNamesError, StoreError
from keyferry.store.interface import ClassObject, PodRef, SecretData, SecretObject
from keyferry.store.manifests import ManifestsStore

POD = PodRef("shop", "web-0", "uid")
FILES = (SecretFile("SECRET_1", 0o644, b"canary-1"), SecretFile("SECRET_2", 0o644, b"canary-2"))
NAMED = (NamedFile("SECRET_1", frozenset({"db-password"}), "secret db-password"),)


def entry(name: str, object_name: str) -> SecretObject:
    return SecretObject(name, "Opaque", (SecretData(object_name, "value"),))


def a_class(*entries: SecretObject) -> ClassObject:
    return ClassObject("shop", "web", "azure", {"a": "b"}, entries)


@pytest.fixture
def store(tmp_path: Path) -> ManifestsStore:
    return ManifestsStore(tmp_path, tmp_path, clock=lambda: datetime(2030, 1, 1, tzinfo=UTC))


def secrets(folder: Path) -> dict[str, dict[str, object]]:
    return {path.stem: yaml.safe_load(path.read_text()) for path in folder.glob("secrets/shop/*")}


def messages(folder: Path) -> list[str]:
    return sorted(
        yaml.safe_load(path.read_text())["message"] for path in folder.glob("events/shop/*")
    )


async def test_each_entry_becomes_a_secret(store: ManifestsStore, tmp_path: Path) -> None:
    """By alias and by own name; without an owner the Secrets stay."""
    cls = a_class(entry("one", "db-password"), entry("two", "SECRET_2"))

    problems = await SecretSync(store).sync(cls, POD, files=FILES, named=NAMED, owner=None)

    assert () == problems
    assert {"one": {"value": "Y2FuYXJ5LTE="}, "two": {"value": "Y2FuYXJ5LTI="}} == {
        name: manifest["data"] for name, manifest in secrets(tmp_path).items()
    }
    assert [] == messages(tmp_path)
    await store.volume_gone("/t")
    assert {"one", "two"} == set(secrets(tmp_path))


async def test_a_secret_goes_with_its_owner(store: ManifestsStore, tmp_path: Path) -> None:
    """Owned by the pod status of its volume, it lives as long as that."""
    cls = a_class(entry("one", "SECRET_1"))
    owner = await store.apply_pod_status(pod_status(POD, cls.name, "/t", "node-1", []))

    await SecretSync(store).sync(cls, POD, files=FILES, named=NAMED, owner=owner)
    assert {"one"} == set(secrets(tmp_path))

    await store.volume_gone("/t")
    assert {} == secrets(tmp_path)


async def test_a_problem_stops_no_other(store: ManifestsStore, tmp_path: Path) -> None:
    """Every problem is a warning on the pod and comes back; the other Secrets are made."""
    cls = a_class(
        entry("bad", "nothing"), entry("good", "SECRET_1"), entry("worse", ""), entry("", "x")
    )

    problems = await SecretSync(store).sync(cls, POD, files=FILES, named=NAMED, owner=None)

    assert {"good"} == set(secrets(tmp_path))
    assert ["bad", "worse", ""] == [problem.secret_name for problem in problems]
    assert isinstance(problems[0].error, ObjectNamesError)
    assert sorted(problem.message for problem in problems) == messages(tmp_path)
    assert problems[0].message.startswith(
        "failed to get data in spc shop/web for secret bad, err: file matching objectName 'nothing'"
    )
    assert not any("canary" in problem.message for problem in problems)


async def test_a_store_that_refuses_is_a_problem_too(store: ManifestsStore, tmp_path: Path) -> None:
    """A Secret of somebody else is told as such, and the next one is made."""
    foreign = tmp_path / "secrets/shop/one.yaml"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("kind: Secret\n")
    cls = a_class(entry("one", "SECRET_1"), entry("two", "SECRET_2"))

    (problem,) = await SecretSync(store).sync(cls, POD, files=FILES, named=NAMED, owner=None)

    assert isinstance(problem.error, StoreError)
    assert problem.message.startswith("failed to write secret one of spc shop/web, err: ")
    assert "kind: Secret\n" == foreign.read_text()
    assert {"one", "two"} == set(secrets(tmp_path))


async def test_a_rotation_reaches_the_secret(store: ManifestsStore, tmp_path: Path) -> None:
    """The next sync with other files makes the Secret equal to them."""
    cls = a_class(entry("one", "SECRET_1"))
    sync = SecretSync(store)
    await sync.sync(cls, POD, files=FILES, named=NAMED, owner=None)

    rotated = (replace(FILES[0], contents=b"new"),)
    await sync.sync(cls, POD, files=rotated, named=NAMED, owner=None)

    assert {"value": "bmV3"} == secrets(tmp_path)["one"]["data"]
