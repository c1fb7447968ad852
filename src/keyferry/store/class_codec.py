"""The SecretProviderClass as a manifest. [pure]

Source: driver-wire, section 3.1. Unknown fields are ignored, as the API server prunes them; a wrong
type is an error, as the API server refuses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.errors import ClassInvalidError
from keyferry.store.fields import Field, FieldTypeError
from keyferry.store.interface import ClassObject, SecretData, SecretObject

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry.store.yaml_documents import FieldPath, Value

KIND = "SecretProviderClass"
API_VERSIONS = (
    "secrets-store.csi.x-k8s.io/v1",
    "secrets-store.csi.x-k8s.io/v1alpha1",
)
ADOPT_ANNOTATION = "keyferry.dev/adopt-secrets"
"""Names, with commas between, of Secrets that the class takes over."""


def _nowhere(_path: FieldPath) -> str:
    return ""


def parse_class(
    manifest: Value,
    *,
    default_namespace: str,
    place: Callable[[FieldPath], str] = _nowhere,
) -> ClassObject:
    """The class that `manifest` describes, its texts trimmed, its parameters as they stand.

    Args:
        manifest: the whole object, of this kind.
        default_namespace: where it is when it says nothing.
        place: where a field was read, as the beginning of a message such as `web.yaml line 3: `.

    Raises:
        ClassInvalidError: a field has the wrong type, or there is no name.
    """
    who = KIND
    root = Field(manifest)
    try:
        metadata = root["metadata"]
        name, namespace = metadata["name"].text(), metadata["namespace"].text()
        if not name:
            raise FieldTypeError(("metadata",), "metadata.name is empty", "Give the class a name.")
        who = f"{KIND} {namespace or default_namespace}/{name}"
        api_version = root["apiVersion"].text()
        if api_version not in API_VERSIONS:
            problem = f"apiVersion {api_version[:80]!r} is not known"
            raise FieldTypeError(("apiVersion",), problem, f"Write apiVersion: {API_VERSIONS[0]}.")
        spec = root["spec"]
        return ClassObject(
            namespace=namespace or default_namespace,
            name=name,
            provider=spec["provider"].text().strip(),
            parameters=spec["parameters"].texts(),
            secret_objects=tuple(_secret_object(item) for item in spec["secretObjects"].items()),
            adopted=_names(metadata["annotations"][ADOPT_ANNOTATION].text()),
            version=_version(metadata),
        )
    except FieldTypeError as error:
        problem = f"{place(error.path)}{who}: {error.problem}"
        raise ClassInvalidError(problem, error.remedy) from error


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split(",") if name.strip())


def _version(metadata: Field) -> str:
    uid = metadata["uid"].text()
    return f"{uid}/{metadata['generation'].number()}" if uid else ""


def _secret_object(item: Field) -> SecretObject:
    return SecretObject(
        name=item["secretName"].text().strip(),
        type=item["type"].text().strip(),
        data=tuple(
            SecretData(entry["objectName"].text().strip(), entry["key"].text().strip())
            for entry in item["data"].items()
        ),
        labels=item["labels"].texts(),
        annotations=item["annotations"].texts(),
    )
