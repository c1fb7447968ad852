"""The SecretProviderClassPodStatus of a volume."""

from keyferry.content import ObjectVersion
from keyferry.kubernetes.names import object_name_problem
from keyferry.kubernetes.objects import PodRef, PodStatus
from keyferry.kubernetes.pod_status import pod_status

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
