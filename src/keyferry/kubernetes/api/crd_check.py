"""Finds CRDs of upstream, which drop the fields that Keyferry adds to a status. [pure]

A helm upgrade of upstream's chart applies its CRDs. The API server then accepts the fields and
drops them, so nothing fails, and the `Refreshed` condition is missing everywhere.

Source: docs/adr/0007-write-pod-statuses-with-merge-patches.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.formats.fields import Field, FieldTypeError
from keyferry.kubernetes.object_codec import POD_STATUS_KIND

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyferry.formats.kubernetes_yaml import Value

ADDED_FIELDS = ("conditions", "lastRefreshTime")
"""Fields in the status of a pod status that upstream's CRDs lack."""
SYNC_ADDED_FIELDS = (
    "observedGeneration",
    "lastAttemptTime",
    "objects",
    "observedForceSynchronization",
    "observedRefresh",
    "observedClass",
    "observedSecret",
)
"""Fields in the status of a SecretSync that upstream's CRD lacks."""
REMEDY = "kubectl apply --server-side --force-conflicts -f charts/keyferry/crds"


def missing_fields(
    openapi: Value, kind: str = POD_STATUS_KIND, fields: Sequence[str] = ADDED_FIELDS
) -> tuple[str, ...]:
    """Return which fields in the status the CRD of a kind lacks.

    Args:
        openapi: the OpenAPI document of the API group and version; nothing is missing if it does
            not describe the kind.
        kind: the kind.
        fields: of its status.
    """
    try:
        schemas = Field(openapi)["components"]["schemas"].mapping()
        for name, schema in schemas.items():
            if name.endswith(f".{kind}"):
                status = Field(schema)["properties"]["status"]["properties"].mapping()
                return tuple(field for field in fields if status and field not in status)
    except FieldTypeError:
        pass
    return ()


def describes(openapi: Value, kind: str) -> bool:
    """Return whether the OpenAPI document of an API group and version has a kind."""
    try:
        schemas = Field(openapi)["components"]["schemas"].mapping()
    except FieldTypeError:
        return False
    return any(name.endswith(f".{kind}") for name in schemas)


def dropped_fields(written: Value, answer: Value) -> tuple[str, ...]:
    """Return the fields in the status of `written` that the answer to the write lacks."""
    try:
        status = Field(answer)["status"].mapping()
        return tuple(sorted(Field(written)["status"].mapping().keys() - status.keys()))
    except FieldTypeError:
        return ()
