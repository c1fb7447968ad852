"""The fields and annotations of a SecretSync, and what to say about others. [pure]

The API server drops unknown fields unless the manifest comes from a file. It keeps every
annotation, so a misspelled one is reported here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.formats.fields import format_path
from keyferry.formats.unknown_fields import FieldTable, UnknownField, limited
from keyferry.kubernetes.class_fields import ANNOTATION_PREFIX, REFRESH_ANNOTATION
from keyferry.kubernetes.markings import SYNC_LABEL
from keyferry.records import replace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keyferry.formats.fields import Field

CREDENTIALS_SECRET = f"{ANNOTATION_PREFIX}credentials-secret"
ADOPT = f"{ANNOTATION_PREFIX}adopt"
DRIFT = f"{ANNOTATION_PREFIX}drift"
REFRESH = REFRESH_ANNOTATION
REFRESH_INTERVAL = f"{ANNOTATION_PREFIX}refresh-interval"

RESERVED_PREFIX = SYNC_LABEL
"""Labels and annotations with this prefix are reserved for the controller."""

_CLASS_NOTE = "it belongs to the SecretProviderClass"
_SPEC_NOTE = "it belongs to spec"
_OBJECT_NOTE = "it belongs to spec.secretObject"
_SPEC_FIELDS = (
    "secretSyncControllerName",
    "secretProviderClassName",
    "serviceAccountName",
    "forceSynchronization",
    "secretObject",
)
ROOT = FieldTable(
    ("apiVersion", "kind", "metadata", "spec", "status"),
    notes=dict.fromkeys(_SPEC_FIELDS, _SPEC_NOTE),
)
SPEC = FieldTable(
    _SPEC_FIELDS,
    synonyms={
        "controllerName": "secretSyncControllerName",
        **dict.fromkeys(
            ("secretProviderClass", "className", "providerClassName"), "secretProviderClassName"
        ),
        "serviceAccount": "serviceAccountName",
        **dict.fromkeys(("forceSync", "forceUpdate"), "forceSynchronization"),
        **dict.fromkeys(("secretObjects", "secret"), "secretObject"),
    },
    notes={
        **dict.fromkeys(("provider", "parameters", "objects"), _CLASS_NOTE),
        **dict.fromkeys(("data", "type", "labels", "annotations"), _OBJECT_NOTE),
        "secretName": "the Secret has the name of the SecretSync",
        **dict.fromkeys(
            ("refreshInterval", "rotationPollInterval"),
            f"set the annotation {REFRESH_INTERVAL} instead",
        ),
        "nodePublishSecretRef": f"set the annotation {CREDENTIALS_SECRET} instead",
    },
)
SECRET_OBJECT = FieldTable(
    ("type", "data", "labels", "annotations"),
    synonyms={"secretType": "type", "keys": "data", "stringData": "data"},
    notes={
        "metadata": "labels and annotations belong directly to secretObject",
        **dict.fromkeys(("name", "secretName"), "the Secret has the name of the SecretSync"),
        **dict.fromkeys(("sourcePath", "targetKey"), "it belongs to an item of data"),
    },
)
SECRET_DATA = FieldTable(
    ("sourcePath", "targetKey"),
    synonyms={
        **dict.fromkeys(("objectName", "objectAlias", "fileName", "path", "source"), "sourcePath"),
        **dict.fromkeys(("key", "secretKey", "target"), "targetKey"),
    },
)
ANNOTATIONS = FieldTable(
    tuple(
        name.removeprefix(ANNOTATION_PREFIX)
        for name in (CREDENTIALS_SECRET, ADOPT, DRIFT, REFRESH, REFRESH_INTERVAL)
    ),
    synonyms={
        "adopt-secrets": "adopt",
        "credentials": "credentials-secret",
        "force-sync": "refresh",
        **dict.fromkeys(
            ("interval", "refreshinterval", "refreshInterval", "rotation-poll-interval"),
            "refresh-interval",
        ),
    },
)
"""Without their prefix."""


def unknown_fields(manifest: Field) -> tuple[UnknownField, ...]:
    """Return the fields and annotations of a SecretSync that have no effect.

    Raises:
        FieldTypeError: a field has the wrong type.
    """
    return limited(_unknown_fields(manifest))


def _unknown_fields(manifest: Field) -> Iterator[UnknownField]:
    annotations, spec = manifest["metadata"]["annotations"], manifest["spec"]
    yield from _find(ROOT, manifest)
    yield from _unknown_annotations(annotations)
    yield from _find(SPEC, spec)
    yield from _find(SECRET_OBJECT, spec["secretObject"])
    for item in spec["secretObject"]["data"].items():
        yield from _find(SECRET_DATA, item)


def _unknown_annotations(annotations: Field) -> Iterator[UnknownField]:
    """Yield the annotations of Keyferry that have no effect; their prefix is no similarity."""
    own = [
        name.removeprefix(ANNOTATION_PREFIX)
        for name in annotations.mapping()
        if name.startswith(ANNOTATION_PREFIX)
    ]
    for found in ANNOTATIONS.find(format_path(annotations.path), own):
        suggestion = f"{ANNOTATION_PREFIX}{found.suggestion}" if found.suggestion else ""
        yield replace(found, name=f"{ANNOTATION_PREFIX}{found.name}", suggestion=suggestion)


def _find(table: FieldTable, mapping: Field) -> Iterator[UnknownField]:
    path = format_path(mapping.path) if mapping.path else ""
    return table.find(path, mapping.mapping())
