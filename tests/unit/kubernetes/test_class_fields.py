"""keyferry.kubernetes.class_fields: unknown fields of a SecretProviderClass."""

from __future__ import annotations

import pytest

from keyferry.errors import ClassInvalidError
from keyferry.formats.kubernetes_yaml import Value, parse_documents
from keyferry.kubernetes.class_codec import parse_class

WHOLE = """\
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata:
  name: web
  namespace: shop
  labels: {app: web}
  uid: "1"
  generation: 2
  annotations:
    keyferry.dev/adopt-secrets: app
    example.com/note: text
spec:
  provider: vault
  parameters:
    roleName: shop
  secretObjects:
  - secretName: app
    type: Opaque
    labels: {a: b}
    annotations: {c: d}
    data:
    - objectName: password
      key: password
"""


def manifest(text: str) -> Value:
    (document,) = parse_documents(text.encode(), max_bytes=10_000)
    return document.value


def warnings(text: str) -> list[str]:
    spc = parse_class(manifest(text), default_namespace="default")
    return [str(field) for field in spc.unknown_fields]


def test_whole_class_has_no_unknown_field() -> None:
    """With everything that the CRD has."""
    assert [] == warnings(WHOLE)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("  secretObjects:", "  secretobjects:", "spec.secretobjects: did you mean secretObjects?"),
        ("  secretObjects:", "  secrets:", "spec.secrets: did you mean secretObjects?"),
        (
            "  provider: vault",
            "  provider: vault\n  objects: x",
            "spec.objects has no effect: parameters of the provider belong to spec.parameters",
        ),
        ("  secretObjects:", "secretObjects:", "secretObjects has no effect: it belongs to spec"),
        ("  labels: {app", "  lables: {app", "metadata.lables: did you mean labels?"),
        ("  labels: {app: web}", "  provider: x", "metadata.provider has no effect: it belongs to"),
        ("spec:", "labels: {a: b}\nspec:", "labels has no effect: it belongs to metadata"),
        (
            "  - secretName: app",
            "  - secretName: app\n    objectName: x",
            "spec.secretObjects[0].objectName has no effect: it belongs to an item of data",
        ),
        (
            "      key: password",
            "      key: password\n      type: Opaque",
            "spec.secretObjects[0].data[0].type has no effect: it belongs to the entry of",
        ),
        (
            "  provider: vault",
            "  provider: vault\n  nodePublishSecretRef: {}",
            "spec.nodePublishSecretRef has no effect: it belongs to the csi volume of the pod",
        ),
        (
            "keyferry.dev/adopt-secrets",
            "keyferry.dev/adopt-secret",
            "metadata.annotations.keyferry.dev/adopt-secret: did you mean keyferry.dev/adopt",
        ),
        (
            "  - secretName: app",
            "  - name: app",
            "spec.secretObjects[0].name: did you mean secretName?",
        ),
        (
            "    labels: {a: b}",
            "    metadata: {}",
            "spec.secretObjects[0].metadata has no effect: labels and annotations belong",
        ),
        (
            "      key: password",
            "      secretKey: password",
            "spec.secretObjects[0].data[0].secretKey: did you mean key?",
        ),
        (
            "      key: password",
            "      key: password\n      optional: true",
            "spec.secretObjects[0].data[0].optional has no effect",
        ),
    ],
)
def test_unknown_field_is_found_with_its_path(old: str, new: str, expected: str) -> None:
    """In every mapping that is read."""
    assert old in WHOLE
    (warning,) = warnings(WHOLE.replace(old, new, 1))
    assert warning.startswith((expected, f"unknown field {expected}"))


@pytest.mark.parametrize(
    ("block", "remedy"),
    [
        ("secretObjects:\n    - secretName: x", "Move it to spec: write secretObjects: with the"),
        ("array:\n    - |\n      objectName: x", "Indent array: and its items below objects: |"),
        ("objects:\n    - objectName: x", "Write objects: | and indent the list below it"),
        ("objects:\n      array: []", "Write objects: | and indent the list below it"),
    ],
)
def test_misplaced_block_has_a_remedy_that_is_right(block: str, remedy: str) -> None:
    """A text in its place would be accepted and have no effect."""
    text = WHOLE.replace("roleName: shop", f"roleName: shop\n    {block}")
    with pytest.raises(ClassInvalidError) as caught:
        warnings(text)
    assert remedy in caught.value.remedy
    assert "not text" in caught.value.problem


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("metadata:", "metdata:", "metadata.name is empty; you wrote metdata. Rename metdata to"),
        (
            "  name: web",
            "  nmae: web",
            "is empty; you wrote nmae. Rename nmae to name.",
        ),
        ("  name: web\n", "", "metadata.name is empty. Set metadata.name."),
        ("apiVersion", "apiversion", "apiVersion is not set; you wrote apiversion. Rename apiver"),
        ("apiVersion", "group", "apiVersion is not set. Write apiVersion: secrets-store"),
    ],
)
def test_missing_field_names_the_misspelled_one(old: str, new: str, message: str) -> None:
    """The SecretProviderClass is invalid without it."""
    with pytest.raises(ClassInvalidError) as caught:
        warnings(WHOLE.replace(old, new, 1))
    assert message in str(caught.value)


def test_unknown_fields_do_not_make_a_difference() -> None:
    """Two SecretProviderClasses with the same effect are equal."""
    changed = WHOLE.replace("  provider: vault", "  provider: vault\n  colour: red")
    first, second = (parse_class(manifest(t), default_namespace="") for t in (WHOLE, changed))
    assert first == second
