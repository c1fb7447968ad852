"""Events of a plain machine: counted, and bounded in number."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyferry.kubernetes.files.store import ManifestsStore
from keyferry.records import replace
from keyferry.telemetry.help_links import HelpLinks
from tests.fakes.clock import ManualClock
from tests.unit.kubernetes.files.folder import POD, event, everything, read


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

    async def test_of_a_problem_links_to_its_symptom(self, out: Path, folder: Path) -> None:
        """With the page of `--help-url`."""
        links = HelpLinks("https://example.com/help")
        store = ManifestsStore(out, out, clock=ManualClock(), links=links)
        await store.record_event(event())
        (path,) = folder.iterdir()
        manifest = read(path)
        assert isinstance(manifest, dict)
        link = "https://example.com/help#the-secret-is-missing"
        assert f"it failed. See {link}" == manifest["message"]

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
        await store.record_event(replace(event(), involved_object=replace(POD, uid="new")))

        assert 4 == len(list(folder.iterdir()))

    @pytest.mark.parametrize("name", ["../x", "", "A"])
    async def test_never_raises(self, store: ManifestsStore, out: Path, name: str) -> None:
        """An event that cannot be written is lost, and nothing else happens."""
        await store.record_event(replace(event(), involved_object=replace(POD, name=name)))
        await store.record_event(replace(event(), involved_object=replace(POD, namespace=name)))

        assert [] == everything(out)

    async def test_never_raises_if_the_path_is_not_a_folder(
        self, store: ManifestsStore, out: Path
    ) -> None:
        """The same when the file system refuses."""
        out.write_text("")

        await store.record_event(event())

    async def test_damaged_file_is_started_again(self, store: ManifestsStore, folder: Path) -> None:
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
        await store.record_event(replace(event(), involved_object=replace(POD, name="a" * 253)))

        (path,) = folder.iterdir()
        manifest = read(path)
        assert isinstance(manifest, dict)
        assert 253 >= len(manifest["metadata"]["name"])
