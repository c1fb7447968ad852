"""The SecretProviderClass as a manifest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.errors import ClassInvalidError
from keyferry.formats.kubernetes_yaml import KubernetesYamlError, Value, parse_documents
from keyferry.kubernetes.class_codec import parse_class
from keyferry.kubernetes.objects import SecretKeyMapping, SecretObject, SecretProviderClass

WHOLE = """
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: web, namespace: shop, labels: {x: y}}
spec:
  provider: " azure "
  parameters:
    usePodIdentity: "false"
    objects: |
      array: []
  secretObjects:
  - secretName: " db "
    type: " Opaque "
    labels: {environment: test}
    annotations: {note: " kept "}
    data:
    - objectName: " SECRET_1 "
      key: " password "
  newField: [1, 2]
status: {}
"""


def parse(text: str) -> SecretProviderClass:
    (document,) = parse_documents(text.encode(), max_bytes=2**20)
    return parse_class(
        document.value,
        default_namespace="default",
        locate=lambda path: f"web.yaml line {document.line_of(path)}: ",
    )


def problem(text: str) -> ClassInvalidError:
    with pytest.raises(ClassInvalidError) as caught:
        parse(text)
    return caught.value


def test_a_whole_class_is_read() -> None:
    """Texts are trimmed where upstream trims them; unknown fields do not matter."""
    assert SecretProviderClass(
        namespace="shop",
        name="web",
        provider="azure",
        parameters={"usePodIdentity": "false", "objects": "array: []\n"},
        secret_objects=(
            SecretObject(
                name="db",
                type="Opaque",
                data=(SecretKeyMapping("SECRET_1", "password"),),
                labels={"environment": "test"},
                annotations={"note": " kept "},
            ),
        ),
    ) == parse(WHOLE)


def test_the_old_version_has_the_same_shape() -> None:
    """v1alpha1 is read as v1."""
    assert parse(WHOLE) == parse(WHOLE.replace("io/v1", "io/v1alpha1"))


def test_absent_and_null_fields_are_empty() -> None:
    """The reader invents nothing and requires only a name; the checks come later."""
    text = "{apiVersion: secrets-store.csi.x-k8s.io/v1, metadata: {name: web}, spec: %s}"

    assert SecretProviderClass("default", "web", "", {}) == parse(text % "null")
    assert SecretProviderClass("default", "web", "", {}) == parse(
        text % "{secretObjects: , parameters: }"
    )


FLAG = "spec.parameters.usePodIdentity"
ENTRY = "spec.secretObjects[0]"
QUOTE = "Put it in quotes: "


@pytest.mark.parametrize(
    ("old", "new", "line", "expected", "remedy"),
    [
        (
            '"false"',
            "false",
            8,
            f"{FLAG} is a boolean, not text",
            f'{QUOTE}usePodIdentity: "false".',
        ),
        ('"false"', "1", 8, f"{FLAG} is a number, not text", f'{QUOTE}usePodIdentity: "...".'),
        (
            '"false"',
            "2.5",
            8,
            f"{FLAG} is a number, not text",
            f'{QUOTE}usePodIdentity: "...".',
        ),
        (
            '"false"',
            "",
            8,
            f"{FLAG} is null, not text",
            'Write a text, as in usePodIdentity: "".',
        ),
        (
            "objects: |",
            "objects:",
            9,
            "spec.parameters.objects is a mapping, not text",
            "Write objects: | and indent the list below it; the '|' makes it a text.",
        ),
        (
            "- objectName:",
            "  objectName:",
            16,
            f"{ENTRY}.data is a mapping, not a list",
            "Begin each item on a line of its own with '- '.",
        ),
        (
            "labels: {environment: test}",
            "labels: [test]",
            14,
            f"{ENTRY}.labels is a list, not a mapping",
            "Indent its fields below it, as 'name: value'.",
        ),
        (
            "secrets-store.csi.x-k8s.io/v1",
            "secrets-store.csi.k8s.io/v1",
            2,
            "apiVersion 'secrets-store.csi.k8s.io/v1' is not supported",
            "Write apiVersion: secrets-store.csi.x-k8s.io/v1.",
        ),
        (
            "namespace: shop",
            "namespace: true",
            4,
            "metadata.namespace is a boolean, not text",
            f'{QUOTE}namespace: "true".',
        ),
    ],
)
def test_a_wrong_field_is_named(old: str, new: str, line: int, expected: str, remedy: str) -> None:
    """The message gives the place, the class, the path of the field, its type and the remedy."""
    assert old in WHOLE

    error = problem(WHOLE.replace(old, new, 1))

    assert f"web.yaml line {line}: " == error.problem[: error.problem.index("S")]
    assert error.problem.endswith(f": {expected}")
    assert remedy == error.remedy


@pytest.mark.parametrize(
    ("name", "expected"),
    [("", "metadata.name is empty"), ("12", "metadata.name is a number, not text")],
)
def test_a_class_needs_a_name(name: str, expected: str) -> None:
    """Without a name nobody could ask for the class."""
    error = problem(WHOLE.replace("name: web", f"name: {name}"))

    assert f"web.yaml line 4: SecretProviderClass: {expected}" == error.problem


def test_invalid_field_is_reported_with_its_class() -> None:
    """The whole message, as a person reads it."""
    error = problem(WHOLE.replace('"false"', "false"))

    assert (
        "web.yaml line 8: SecretProviderClass shop/web: spec.parameters.usePodIdentity is a "
        'boolean, not text. Put it in quotes: usePodIdentity: "false".'
    ) == str(error)


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just("canary"),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                [
                    "metadata",
                    "name",
                    "namespace",
                    "spec",
                    "parameters",
                    "secretObjects",
                    "data",
                    "key",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(ODD)
def test_nothing_foreign_escapes_and_no_value_is_repeated(value: Value) -> None:
    """Any shape gives a class or a KeyferryError that does not quote values."""
    message = ""
    try:
        parse_class(value, default_namespace="default")
    except ClassInvalidError as error:
        message = (
            str(error)
            .replace("SecretProviderClass default/canary", "")
            .replace("SecretProviderClass canary/canary", "")
        )

    assert "canary" not in message


@given(st.integers(0, len(WHOLE)), st.text("ab:-[]{}&*!|>\"' \n\t", max_size=6), st.integers(0, 9))
def test_a_damaged_class_is_read_or_refused(at: int, inserted: str, removed: int) -> None:
    """A class whose text was damaged anywhere raises nothing foreign."""
    text = WHOLE[:at] + inserted + WHOLE[at + removed :]
    try:
        documents = parse_documents(text.encode(), max_bytes=2**20)
    except KubernetesYamlError:
        return
    for document in documents:
        try:
            cls = parse_class(document.value, default_namespace="default")
        except ClassInvalidError:
            continue
        assert cls.name
