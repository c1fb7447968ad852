"""The fields of a SecretProviderClass, and what to say about others. [pure]

Providers know their parameters: `keyferry.providers.known_fields`.

Source: docs/reference/upstream-driver.md#secretproviderclass
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.formats.fields import format_path
from keyferry.formats.unknown_fields import FieldTable, UnknownField, correct_missing, limited

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keyferry.formats.fields import Field

ANNOTATION_PREFIX = "keyferry.dev/"
ADOPT_ANNOTATION = f"{ANNOTATION_PREFIX}adopt-secrets"
"""Comma-separated names of existing Secrets that the SecretProviderClass adopts."""

REFRESH_ANNOTATION = f"{ANNOTATION_PREFIX}refresh"
"""Any new value asks for a refresh; also on pods."""

_SPEC_NOTE = "it belongs to spec"
ROOT = FieldTable(
    ("apiVersion", "kind", "metadata", "spec", "status"),
    notes={
        **dict.fromkeys(("provider", "parameters", "secretObjects"), _SPEC_NOTE),
        **dict.fromkeys(("name", "namespace", "labels", "annotations"), "it belongs to metadata"),
    },
)
METADATA = FieldTable(
    (
        "name",
        "namespace",
        "labels",
        "annotations",
        "uid",
        "generation",
        "generateName",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "finalizers",
        "managedFields",
        "ownerReferences",
        "selfLink",
        "clusterName",
    ),
    notes={
        **dict.fromkeys(("provider", "parameters", "secretObjects"), _SPEC_NOTE),
        "spec": "it belongs beside metadata",
    },
)
ANNOTATIONS = FieldTable((ADOPT_ANNOTATION, REFRESH_ANNOTATION))
SPEC = FieldTable(
    ("provider", "parameters", "secretObjects"),
    synonyms={"params": "parameters", "secrets": "secretObjects"},
    notes={"nodePublishSecretRef": "it belongs to the csi volume of the pod"},
    default_note="parameters of the provider belong to spec.parameters",
)
SECRET_OBJECT = FieldTable(
    ("secretName", "type", "data", "labels", "annotations"),
    synonyms={"name": "secretName", "secretType": "type", "keys": "data", "stringData": "data"},
    notes={
        "metadata": "labels and annotations belong directly to the entry",
        "namespace": "a Secret is created in the namespace of the SecretProviderClass",
        "optional": "a Secret whose objects are missing is never created",
        **dict.fromkeys(("objectName", "key"), "it belongs to an item of data"),
    },
)
SECRET_DATA = FieldTable(
    ("objectName", "key"),
    synonyms={
        **dict.fromkeys(("name", "object", "objectAlias", "fileName", "path"), "objectName"),
        **dict.fromkeys(("secretKey", "keyName"), "key"),
    },
    notes={
        "optional": "an entry whose object is missing fails its Secret",
        **dict.fromkeys(
            ("secretName", "type", "labels", "annotations"),
            "it belongs to the entry of secretObjects, beside data",
        ),
    },
)


def unknown_fields(manifest: Field) -> tuple[UnknownField, ...]:
    """Return the fields of a SecretProviderClass, outside its parameters, that have no effect.

    Raises:
        FieldTypeError: a field has the wrong type.
    """
    return limited(_unknown_fields(manifest))


METADATA_NAME = ("metadata", "name")


def missing_field(manifest: Field, path: tuple[str, ...], remedy: str) -> tuple[str, str]:
    """Return how the error about a missing field continues, and its remedy.

    Args:
        manifest: the SecretProviderClass.
        path: `METADATA_NAME`, or the name of a field of the manifest.
        remedy: if no field resembles the missing one.

    Raises:
        FieldTypeError: `metadata` is not a mapping.
    """
    written, rename = correct_missing(ROOT, (path[0],), manifest.mapping(), remedy)
    if not written and path == METADATA_NAME:
        names = manifest["metadata"].mapping()
        written, rename = correct_missing(METADATA, ("name",), names, remedy)
    return written, rename


def _unknown_fields(manifest: Field) -> Iterator[UnknownField]:
    metadata, spec = manifest["metadata"], manifest["spec"]
    yield from _find(ROOT, manifest)
    yield from _find(METADATA, metadata)
    annotations = metadata["annotations"]
    own = [name for name in annotations.mapping() if name.startswith(ANNOTATION_PREFIX)]
    yield from ANNOTATIONS.find(format_path(annotations.path), own)
    yield from _find(SPEC, spec)
    for entry in spec["secretObjects"].items():
        yield from _find(SECRET_OBJECT, entry)
        for item in entry["data"].items():
            yield from _find(SECRET_DATA, item)


def _find(table: FieldTable, mapping: Field) -> Iterator[UnknownField]:
    path = format_path(mapping.path) if mapping.path else ""
    return table.find(path, mapping.mapping())
