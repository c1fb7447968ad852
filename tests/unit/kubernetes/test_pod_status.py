"""The SecretProviderClassPodStatus of a volume."""

import pytest

from keyferry.content import ObjectVersion
from keyferry.formats.fields import Field
from keyferry.kubernetes.names import object_name_problem
from keyferry.kubernetes.object_codec import parse_pod_status, pod_status_manifest
from keyferry.kubernetes.objects import PodRef, PodStatus
from keyferry.kubernetes.pod_status import MAX_EXPIRIES, pod_status

POD = PodRef("shop", "web-0", "uid")


def test_the_status_is_named_after_pod_namespace_and_class() -> None:
    """Everything is as upstream writes it, the objects sorted by id."""
    versions = [ObjectVersion("secret/b", "1"), ObjectVersion("secret/A", "2")]

    assert PodStatus(
        namespace="shop",
        name="web-0-shop-azure",
        pod=POD,
        class_name="azure",
        target_path="/pods/1/mount",
        node="node-1",
        objects=(ObjectVersion("secret/A", "2"), ObjectVersion("secret/b", "1")),
    ) == pod_status(POD, "azure", "/pods/1/mount", "node-1", versions)


def test_last_version_of_an_id_is_used() -> None:
    """An object that is mounted twice has one line."""
    versions = [ObjectVersion("a", "1"), ObjectVersion("b", "1"), ObjectVersion("a", "2")]

    status = pod_status(POD, "azure", "/t", "node-1", versions)

    assert (ObjectVersion("a", "2"), ObjectVersion("b", "1")) == status.objects


def test_the_longest_name_stays() -> None:
    """A name that Kubernetes takes is upstream's to the letter."""
    class_name = "c" * (253 - len("web-0-shop-"))

    assert f"web-0-shop-{class_name}" == pod_status(POD, class_name, "/t", "n", []).name


def test_a_longer_name_is_shortened_and_stays_distinct() -> None:
    """Where upstream fails the mount, the name is cut and a digest keeps it apart."""
    names = {pod_status(POD, "c" * 250 + tail, "/t", "n", []).name for tail in ("a", "b")}

    assert 2 == len(names)
    assert {None} == {object_name_problem(name) for name in names}


def test_expiries_are_those_of_objects_in_the_volume() -> None:
    """Sorted by id; a manifest keeps them."""
    versions = [ObjectVersion("secret/b", "1"), ObjectVersion("secret/a", "2")]
    expiries = [("secret/b", 1_900_000_000), ("secret/a", 253_402_300_799), ("secret/other", 1)]

    status = pod_status(POD, "azure", "/t", "node-1", versions, expiries=expiries)

    assert (("secret/a", 253_402_300_799), ("secret/b", 1_900_000_000)) == status.expiries
    manifest = pod_status_manifest(status, {})
    expected = '{"secret/a":"9999-12-31T23:59:59Z","secret/b":"2030-03-17T17:46:40Z"}'
    assert expected == Field(manifest)["metadata"]["annotations"]["keyferry.dev/expires"].text()
    assert status == parse_pod_status(manifest)


def test_the_soonest_expiries_are_kept() -> None:
    """Kubernetes limits the size of annotations."""
    versions = [ObjectVersion(f"secret/{at}", "1") for at in range(MAX_EXPIRIES + 5)]
    expiries = [(version.id, 10_000 - at) for at, version in enumerate(versions)]

    status = pod_status(POD, "azure", "/t", "node-1", versions, expiries=expiries)

    assert {id_ for id_, _ in expiries[5:]} == {id_ for id_, _ in status.expiries}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}', '{"a": "2030-01-01T00:00:00"}'])
def test_an_annotation_of_somebody_else_is_no_expiry(text: str) -> None:
    """It is written again with the next change."""
    manifest = pod_status_manifest(pod_status(POD, "azure", "/t", "node-1", []), {})
    manifest["metadata"]["annotations"] = {"keyferry.dev/expires": text}  # type: ignore[index, call-overload]

    assert () == parse_pod_status(manifest).expiries
