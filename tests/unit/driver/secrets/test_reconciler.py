"""The Secrets of the volumes of a node, through the store that `keyferry mount` uses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from keyferry.content import SecretFile
from keyferry.driver.secrets.garbage_collector import SecretGarbageCollector
from keyferry.driver.secrets.reconciler import SecretProblem, SecretReconciler
from keyferry.driver.volumes.atomic_writer import write_volume
from keyferry.driver.volumes.mounter import DirectoryMounter
from keyferry.driver.volumes.operations import VolumeOperations
from keyferry.driver.volumes.volume_table import Volume, VolumeTable
from keyferry.errors import (
    ObjectNamesError,
    SecretConflictError,
    SecretDataError,
    SecretNotManagedError,
)
from keyferry.kubernetes.files.store import ManifestsStore
from keyferry.kubernetes.objects import PodRef
from keyferry.kubernetes.pod_status import pod_status
from keyferry.plugins.providers import Providers
from keyferry.providers.host import ProviderHost
from keyferry.records import replace
from keyferry.telemetry.metrics import Metrics
from tests.fakes.clock import START, ManualClock
from tests.fakes.jobs import RecordingJobRunner

POD = PodRef("shop", "web-0", "uid-0")
FILES = {"SECRET_1": "canary-1", "SECRET_2": "canary-2"}


def entry(name: str, object_name: str, kind: str = "Opaque") -> dict[str, Any]:
    """An entry of `secretObjects` with one key."""
    data = [{"objectName": object_name, "key": "value"}]
    return {"secretName": name, "type": kind, "data": data}


class Node:
    """A node with a folder for a store, and volumes that a test fills."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = ManifestsStore(folder, folder, clock=ManualClock(), default_namespace="shop")
        self.volumes = VolumeTable()
        self.volumes.restored = True
        self.metrics = Metrics()
        self.jobs = RecordingJobRunner()
        self.reconciler = SecretReconciler(
            store=self.store,
            volumes=self.volumes,
            operations=VolumeOperations(DirectoryMounter()),
            providers=Providers(built_in=ProviderHost({}), socket_folders=(), max_receive_bytes=1),
            garbage_collector=SecretGarbageCollector(self.store),
            metrics=self.metrics.secrets,
            jobs=self.jobs,
        )

    def write_class(self, name: str, *entries: Mapping[str, Any], adopt: str = "") -> None:
        """Apply a class; its provider is one that nobody knows, so files go by their paths."""
        manifest = {
            "apiVersion": "secrets-store.csi.x-k8s.io/v1",
            "kind": "SecretProviderClass",
            "metadata": {"name": name, "annotations": {"keyferry.dev/adopt-secrets": adopt}},
            "spec": {"provider": "e2e", "parameters": {"a": "b"}, "secretObjects": list(entries)},
        }
        (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(manifest))

    async def fill(
        self, class_name: str, files: Mapping[str, str] = FILES, pod: PodRef = POD
    ) -> Volume:
        """A volume with these files is published."""
        target = self.folder / "pods" / pod.uid
        target.mkdir(parents=True, exist_ok=True)
        contents = [SecretFile(path, 0o644, text.encode()) for path, text in files.items()]
        write_volume(target, contents)
        status = pod_status(pod, class_name, str(target), "node-1", [])
        owner = await self.store.apply_pod_status(status)
        volume = Volume(str(target), pod, class_name, START, owner=owner)
        self.volumes.put(volume)
        return volume

    async def reconcile(self, class_name: str) -> tuple[SecretProblem, ...]:
        """Look at every Secret of a class."""
        cls = await self.store.get_class("shop", class_name)
        for item in cls.secret_objects:
            await self.reconciler.reconcile(("shop", item.name))
        return self.reconciler.problems(cls)

    def secrets(self) -> dict[str, dict[str, Any]]:
        """All Secrets."""
        paths = self.folder.glob("secrets/shop/*")
        return {path.stem: yaml.safe_load(path.read_text()) for path in paths}

    def events(self, reason: str) -> list[str]:
        """The texts of all events with this reason."""
        found = [yaml.safe_load(path.read_text()) for path in self.folder.glob("events/shop/*")]
        return sorted(event["message"] for event in found if event["reason"] == reason)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


async def test_each_entry_becomes_a_secret(node: Node) -> None:
    """With the files of the volume, owned by its pod status."""
    node.write_class("web", entry("one", "SECRET_1"), entry("two", "SECRET_2"))
    volume = await node.fill("web")

    assert () == await node.reconcile("web")

    assert {"one": {"value": "Y2FuYXJ5LTE="}, "two": {"value": "Y2FuYXJ5LTI="}} == {
        name: manifest["data"] for name, manifest in node.secrets().items()
    }
    metadata = node.secrets()["one"]["metadata"]
    assert volume.owner is not None
    assert [volume.owner.uid] == [owner["uid"] for owner in metadata["ownerReferences"]]
    assert "web" == metadata["annotations"]["keyferry.dev/class"]
    assert "2030-01-01T12:00:00.000000+00:00" == metadata["annotations"]["keyferry.dev/fetched-at"]


async def test_failed_secret_does_not_affect_others(node: Node) -> None:
    """Each problem is a warning on the pod and part of the result."""
    node.write_class(
        "web",
        entry("bad", "nothing"),
        entry("good", "SECRET_1"),
        entry("worse", ""),
        entry("", "x"),
    )
    await node.fill("web")

    problems = await node.reconcile("web")

    assert {"good"} == set(node.secrets())
    assert ["bad", "worse", ""] == [problem.secret_name for problem in problems]
    assert isinstance(problems[0].error, ObjectNamesError)
    assert sorted(p.message for p in problems) == node.events("FailedToCreateSecret")
    assert problems[0].message.startswith(
        "failed to get data in spc shop/web for secret bad, err: file matching objectName 'nothing'"
    )
    assert not any("canary" in problem.message for problem in problems)


async def test_problem_is_reported_once(node: Node) -> None:
    """Resyncs do not repeat it; another problem is reported."""
    node.write_class("web", entry("bad", "nothing"))
    await node.fill("web")
    await node.reconcile("web")
    for path in node.folder.glob("events/shop/*"):
        path.unlink()
    await node.reconcile("web")
    assert [] == node.events("FailedToCreateSecret")
    node.write_class("web", entry("bad", "other"))
    await node.reconcile("web")
    assert 1 == len(node.events("FailedToCreateSecret"))


async def test_unmanaged_secret_is_overwritten_only_with_an_annotation(
    node: Node,
) -> None:
    """On the SecretProviderClass."""
    foreign = node.folder / "secrets/shop/one.yaml"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("kind: Secret\ntype: Opaque\n")
    node.write_class("web", entry("one", "SECRET_1"), entry("two", "SECRET_2"))
    await node.fill("web")

    (problem,) = await node.reconcile("web")

    assert isinstance(problem.error, SecretNotManagedError)
    assert problem.message.startswith("failed to write secret one of spc shop/web, err: ")
    assert "kind: Secret\ntype: Opaque\n" == foreign.read_text()
    assert {"one", "two"} == set(node.secrets())

    node.write_class("web", entry("one", "SECRET_1"), adopt="other, one")
    assert () == await node.reconcile("web")
    assert {"value": "Y2FuYXJ5LTE="} == node.secrets()["one"]["data"]


async def test_secret_has_the_content_of_the_latest_fetch(node: Node) -> None:
    """Of all volumes that use it."""
    node.write_class("web", entry("one", "SECRET_1"))
    await node.fill("web", {"SECRET_1": "old"})
    later = await node.fill("web", {"SECRET_1": "new"}, PodRef("shop", "web-1", "uid-1"))
    node.volumes.put(replace(later, fetched_at=START.replace(hour=13)))
    await node.reconcile("web")
    assert {"value": "bmV3"} == node.secrets()["one"]["data"]


async def test_secret_stays_with_its_first_secret_provider_class(node: Node) -> None:
    """Both get an event. If the first drops the Secret, the second gets it."""
    node.write_class("first", entry("one", "SECRET_1"))
    node.write_class("second", entry("one", "SECRET_2"))
    await node.fill("first")
    assert () == await node.reconcile("first")
    await node.fill("second", pod=PodRef("shop", "late-0", "uid-late"))

    (problem,) = await node.reconcile("second")

    assert isinstance(problem.error, SecretConflictError)
    assert () == await node.reconcile("first")
    assert {"value": "Y2FuYXJ5LTE="} == node.secrets()["one"]["data"]
    reported = node.events("SecretConflict")
    assert ["is also named by SecretProviderClass second" in text for text in reported] == [
        False,
        True,
    ]
    assert "already belongs to SecretProviderClass first" in reported[0]

    node.write_class("first", entry("other", "SECRET_1"))
    assert () == await node.reconcile("second")
    assert {"value": "Y2FuYXJ5LTI="} == node.secrets()["one"]["data"]


async def test_changed_type_recreates_the_secret(node: Node) -> None:
    """An event says so; the owners stay."""
    node.write_class("web", entry("one", "SECRET_1"))
    await node.fill("web")
    await node.reconcile("web")
    before = node.secrets()["one"]["metadata"]["ownerReferences"]
    node.write_class("web", entry("one", "SECRET_1", "example.com/own"))
    await node.reconcile("web")
    assert "example.com/own" == node.secrets()["one"]["type"]
    assert before == node.secrets()["one"]["metadata"]["ownerReferences"]
    (text,) = node.events("SecretRecreated")
    assert text.endswith("because its type changed from Opaque to example.com/own")


async def test_dropped_entry_deletes_its_secret(node: Node) -> None:
    """The SecretProviderClass exists and no longer names it."""
    node.write_class("web", entry("one", "SECRET_1"), entry("two", "SECRET_2"))
    await node.fill("web")
    await node.reconcile("web")
    node.write_class("web", entry("two", "SECRET_2"))
    assert await node.reconciler.reconcile(("shop", "one"))
    assert {"two"} == set(node.secrets())


async def test_deleted_secret_provider_class_keeps_its_secrets(node: Node) -> None:
    """Its pods run and may need them."""
    node.write_class("web", entry("one", "SECRET_1"))
    await node.fill("web")
    await node.reconcile("web")
    (node.folder / "web.yaml").unlink()
    assert await node.reconciler.reconcile(("shop", "one"))
    assert {"one"} == set(node.secrets())


async def test_secret_is_deleted_with_the_last_volume(node: Node) -> None:
    """Not while another volume uses it."""
    node.write_class("web", entry("one", "SECRET_1"))
    first = await node.fill("web")
    second = await node.fill("web", pod=PodRef("shop", "web-1", "uid-1"))
    await node.reconcile("web")
    node.volumes.drop(first.target_path)
    await node.reconciler.reconcile(("shop", "one"))
    assert {"one"} == set(node.secrets())
    node.volumes.drop(second.target_path)
    await node.reconciler.reconcile(("shop", "one"))
    assert {} == node.secrets()


async def test_files_of_a_typed_secret_are_parsed_in_a_job(node: Node) -> None:
    """For the namespace of the pod; an opaque Secret needs no job."""
    node.write_class("opaque", entry("one", "SECRET_1"))
    await node.fill("opaque")
    await node.reconcile("opaque")
    assert [] == node.jobs.runs
    typed = entry("tls", "SECRET_1", "kubernetes.io/tls")
    node.write_class("typed", typed)
    await node.fill("typed", pod=PodRef("shop", "web-1", "uid-1"))
    (problem,) = await node.reconcile("typed")
    assert "requires the keys tls.crt and tls.key" in problem.message
    assert [("secret-data", "shop")] == node.jobs.runs


async def test_job_over_its_limit_is_a_problem_of_its_secret(node: Node) -> None:
    """It is not retried: the same files would exceed it again."""
    node.jobs.error = SecretDataError("it took too long")
    node.write_class("web", entry("tls", "SECRET_1", "kubernetes.io/tls"), entry("one", "SECRET_1"))
    await node.fill("web")
    (problem,) = await node.reconcile("web")
    assert "it took too long" in problem.message
    assert {"one"} == set(node.secrets())
    assert await node.reconciler.reconcile(("shop", "tls"))
