"""Parses manifests of SecretProviderClasses. [pure]

As by the API server, unknown fields are no error and wrong types are rejected. The API server drops
unknown fields; from files they are reported.

Source: docs/reference/upstream-driver.md#secretproviderclass
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.errors import ClassInvalidError, ClassNotFoundError
from keyferry.formats.fields import Field, FieldTypeError
from keyferry.kubernetes.class_fields import (
    ADOPT_ANNOTATION,
    METADATA_NAME,
    REFRESH_ANNOTATION,
    missing_field,
    unknown_fields,
)
from keyferry.kubernetes.names import object_name_problem
from keyferry.kubernetes.objects import SecretKeyMapping, SecretObject, SecretProviderClass

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry.formats.kubernetes_yaml import FieldPath, Value

CLASS_KIND = "SecretProviderClass"
CLASS_API_VERSIONS = (
    "secrets-store.csi.x-k8s.io/v1",
    "secrets-store.csi.x-k8s.io/v1alpha1",
)


def class_not_found_error(namespace: str, name: str, remedy: str) -> ClassNotFoundError:
    """Return the error for a missing SecretProviderClass, in the words of upstream."""
    return ClassNotFoundError(
        f"failed to get secretproviderclass {namespace}/{name}: "
        f'secretproviderclasses.secrets-store.csi.x-k8s.io "{name}" not found',
        remedy,
    )


def _no_text(_path: FieldPath) -> str:
    return ""


def parse_class(
    manifest: Value,
    *,
    default_namespace: str,
    locate: Callable[[FieldPath], str] = _no_text,
    spelling: Callable[[FieldPath], str] = _no_text,
) -> SecretProviderClass:
    """Parse a SecretProviderClass: strings are trimmed, parameters are unchanged.

    Args:
        manifest: the whole object.
        default_namespace: used if the manifest has no namespace.
        locate: returns the place of a field, to start a message: `web.yaml line 3: `.
        spelling: returns a scalar as it is written.

    Raises:
        ClassInvalidError: a field has the wrong type, or the name is missing.
    """
    subject = CLASS_KIND
    root = Field(manifest, spelling=spelling)
    try:
        metadata = root["metadata"]
        name, namespace = metadata["name"].text(), metadata["namespace"].text()
        if not name:
            written, remedy = missing_field(root, METADATA_NAME, "Set metadata.name.")
            raise FieldTypeError(("metadata",), f"metadata.name is empty{written}", remedy)
        subject = f"{CLASS_KIND} {namespace or default_namespace}/{name}"
        if invalid := object_name_problem(name):  # only a file can have it
            raise FieldTypeError(
                ("metadata", "name"), f"metadata.name {invalid}", "Choose a valid Kubernetes name."
            )
        api_version = root["apiVersion"].text()
        if api_version not in CLASS_API_VERSIONS:
            remedy = f"Write apiVersion: {CLASS_API_VERSIONS[0]}."
            problem = f"apiVersion {api_version[:80]!r} is not supported"
            if not api_version:
                written, remedy = missing_field(root, ("apiVersion",), remedy)
                problem = f"apiVersion is not set{written}"
            raise FieldTypeError(("apiVersion",), problem, remedy)
        spec = root["spec"]
        return SecretProviderClass(
            namespace=namespace or default_namespace,
            name=name,
            provider=spec["provider"].text().strip(),
            parameters=_parse_parameters(spec["parameters"]),
            secret_objects=tuple(
                _parse_secret_object(item) for item in spec["secretObjects"].items()
            ),
            adopted_secrets=_split_names(metadata["annotations"][ADOPT_ANNOTATION].text()),
            refresh_mark=metadata["annotations"][REFRESH_ANNOTATION].text(),
            version=_uid_and_generation(metadata),
            unknown_fields=unknown_fields(root),
        )
    except FieldTypeError as error:
        problem = f"{locate(error.path)}{subject}: {error.problem}"
        raise ClassInvalidError(problem, error.remedy) from error


_MISPLACED_REMEDIES = {
    "secretObjects": "Move it to spec: write secretObjects: with the indentation of parameters:.",
    "array": "Indent array: and its items below objects: |, which ends with a '|'.",
    "objects": "Write objects: | and indent the list below it; the '|' makes it a text.",
}
"""What to write instead of a list or a mapping in `spec.parameters`."""


def _parse_parameters(parameters: Field) -> dict[str, str]:
    """Parse `spec.parameters`; a list or a mapping there is a misplaced block.

    Raises:
        FieldTypeError: a value is not text.
    """
    for name, remedy in _MISPLACED_REMEDIES.items():
        if isinstance(parameters[name].value, list | dict):
            try:
                parameters[name].text()
            except FieldTypeError as error:
                raise FieldTypeError(error.path, error.problem, remedy) from None
    return parameters.text_mapping()


def _split_names(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split(",") if name.strip())


def _uid_and_generation(metadata: Field) -> str:
    uid = metadata["uid"].text()
    return f"{uid}/{metadata['generation'].number()}" if uid else ""


def _parse_secret_object(item: Field) -> SecretObject:
    return SecretObject(
        name=item["secretName"].text().strip(),
        type=item["type"].text().strip(),
        data=tuple(
            SecretKeyMapping(entry["objectName"].text().strip(), entry["key"].text().strip())
            for entry in item["data"].items()
        ),
        labels=item["labels"].text_mapping(),
        annotations=item["annotations"].text_mapping(),
    )
